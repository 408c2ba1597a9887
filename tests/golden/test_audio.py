"""Speech features and audio tokens against the released program's."""

import hashlib
import re

import numpy as np
import pytest
import torch
from golden_fixtures import Golden, GoldenFile
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from dicetalk.audio.features import STEPS_BEFORE, SpeechFeatures, frame_windows, join_states
from dicetalk.audio.projection import AudioProjection
from dicetalk.audio.speech import SAMPLES_PER_FRAME, load_speech
from dicetalk.audio.whisper import hidden_states, log_mel_chunks, speech_features
from dicetalk.config import AudioConfig

PROJECTION, WHISPER, PREPROCESS = (
    "audio_proj.safetensors",
    "whisper_tiny_random.safetensors",
    "preprocess.safetensors",
)


# Audio projection and windows


@pytest.fixture(scope="module")
def projection(golden: Golden) -> tuple[GoldenFile, AudioProjection]:
    file = golden.file(PROJECTION)
    sizes = dict(file.entry["config"])
    config = AudioConfig(window=sizes.pop("seq_len"), layers=sizes.pop("blocks"), **sizes)
    model = AudioProjection(config).eval()
    model.load_state_dict(file.weights(like=model.state_dict()))
    return file, model


def joined(file: GoldenFile, name: str) -> torch.Tensor:
    """A case's recorded encoder states, laid out as the network reads them."""
    chunks = file.inputs(f"{name}/hidden_states_")
    return join_states((chunks[key][0] for key in sorted(chunks, key=int)), 2 * file.entry["cases"][name]["audio_len"])


@torch.no_grad()
def test_projection(projection: tuple[GoldenFile, AudioProjection]) -> None:
    file, model = projection
    windows = file.inputs()["plain"]
    file.check("plain", model(windows))
    file.check("uncond", model(torch.zeros(windows.shape[2:])))


@torch.no_grad()
def test_windows_and_their_tokens(projection: tuple[GoldenFile, AudioProjection]) -> None:
    file, model = projection
    for name, case in file.entry["cases"].items():
        states = joined(file, name)
        windows = frame_windows(states, 2 * case["step"])[: case["frames"]]
        file.check(f"{name}/padded", states[None])
        file.check(f"{name}/windows", windows)
        file.check(f"{name}/cond", model(windows))
        assert case["frames"] == case["audio_len"] // case["step"]


def test_features_give_the_same_windows(projection: tuple[GoldenFile, AudioProjection]) -> None:
    file, _ = projection
    released = {name: case for name, case in file.entry["cases"].items() if case["step"] == 2}
    assert released
    for name, case in released.items():
        features = SpeechFeatures(joined(file, name), case["frames"], case["frames"] / 12.5)
        file.check(f"{name}/windows", features.windows(torch.arange(case["frames"])))
        assert torch.equal(features.unconditional_window(), torch.zeros_like(features.windows(slice(0, 1))[0]))


def test_state_dict_has_the_released_keys(golden: Golden) -> None:
    released = golden.json("keys/audio_linear.pth.keys.json")
    with torch.device("meta"):
        ours = AudioProjection(AudioConfig()).state_dict()
    assert {k: list(v.shape) for k, v in ours.items()} == released


# Log-mel features


@pytest.fixture(scope="module")
def speech(golden: Golden) -> dict[str, np.ndarray]:
    """The recorded short speech, and the long one made from it by the recipe."""
    short = golden.file(PREPROCESS).inputs()["audio_short_i16"].numpy()
    recipe = golden.json("preprocess.json")["audio_long"]
    k = np.arange(recipe["samples"])
    long = (short[k % len(short)].astype(np.int32) * (1 + (k // len(short)) % 7) // 7).astype(np.int16)
    assert hashlib.sha256(long.tobytes()).hexdigest() == recipe["sha256_int16"]
    return {"short": short, "long": long}


def samples_of(pcm: np.ndarray) -> np.ndarray:
    return load_speech((pcm, 16000)).samples


@pytest.fixture(scope="module")
def log_mel(speech: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.cat(list(log_mel_chunks(samples_of(pcm))), dim=-1) for name, pcm in speech.items()}


def test_short_log_mel(golden: Golden, log_mel: dict[str, torch.Tensor]) -> None:
    file, rest = golden.file(PREPROCESS), golden.json("preprocess.json")["features_short_rest"]
    features = log_mel["short"]
    file.check("features_short", features[..., : rest["from_frame"]])
    tolerance = file.entry["tolerance"]["features_short"]["atol"]
    assert (features[..., rest["from_frame"] :] - rest["value"]).abs().max() <= tolerance


def test_long_log_mel(golden: Golden, log_mel: dict[str, torch.Tensor]) -> None:
    file = golden.file(PREPROCESS)
    names = file.output_names("features_long_")
    assert names
    for name in names:
        rows = name.removeprefix("features_long_")
        if rows == "end":
            start = golden.json("preprocess.json")["features_long_end_from"]
            picked = log_mel["long"][..., start:][..., : file.tensors[f"out/{name}"].shape[-1]]
        else:
            picked = log_mel["long"][..., part(rows)]
        file.check(name, picked)


def part(rows: str) -> slice:
    """``every25th`` and ``2990_3030`` as slices."""
    if every := re.fullmatch(r"every(\d+)th", rows):
        return slice(None, None, int(every[1]))
    start, end = map(int, rows.split("_"))
    return slice(start, end)


def test_feature_table(golden: Golden, log_mel: dict[str, torch.Tensor]) -> None:
    for row in golden.json("preprocess.json")["get_audio_feature"]:
        if row["name"] == "silence":
            features = torch.cat(list(log_mel_chunks(np.zeros(row["samples"], np.float32))), dim=-1)
            assert (features - row["value"]).abs().max() <= 1e-6
        else:
            features = log_mel[row["name"]]
            assert features.double().sum().item() == pytest.approx(row["sum"], rel=1e-4)
            assert features.double().square().sum().item() == pytest.approx(row["sum_sq"], rel=1e-4)
        assert list(features.shape) == row["shape"]


def test_number_of_frames(golden: Golden) -> None:
    for row in golden.json("preprocess.json")["get_audio_feature"]:
        assert row["samples"] // SAMPLES_PER_FRAME == row["audio_len"] // 2
        if row["samples"] >= 1600:
            assert load_speech((np.ones(row["samples"], np.float32), 16000)).frames == row["audio_len"] // 2


def test_resampling(golden: Golden) -> None:
    file, how = golden.file(PREPROCESS), golden.json("preprocess.json")["resample"]
    speech = load_speech((file.inputs()["resample_i16"], how["sr"]))
    assert len(speech.samples) == how["out_samples"]
    # The fixture asks to judge away from the ends; the release's own resampler has no need of that.
    file.check("resampled_16k", torch.from_numpy(speech.samples))


# Whisper


@pytest.fixture(scope="module")
def whisper(golden: Golden) -> tuple[GoldenFile, WhisperEncoder]:
    file = golden.file(WHISPER)
    encoder = WhisperEncoder(WhisperConfig(**file.entry["config"])).eval()
    like = {f"encoder.{key}": value for key, value in encoder.state_dict().items()}
    weights = {key.removeprefix("encoder."): value for key, value in file.weights(like=like).items()}
    encoder.load_state_dict(weights)
    return file, encoder


@torch.no_grad()
def test_encoder_on_recorded_features(golden: Golden, whisper: tuple[GoldenFile, WhisperEncoder]) -> None:
    file, encoder = whisper
    rest = golden.json("preprocess.json")["features_short_rest"]
    head = golden.file(PREPROCESS).tensors["out/features_short"]
    width = file.entry["shapes"]["short"]["feature"][-1]
    features = torch.nn.functional.pad(head, (0, width - head.shape[-1]), value=rest["value"])
    file.check("short", hidden_states(encoder, features)[None, : file.tensors["out/short"].shape[1]])


def test_speech_features(whisper: tuple[GoldenFile, WhisperEncoder], speech: dict[str, np.ndarray]) -> None:
    file, encoder = whisper
    for name, shapes in file.entry["shapes"].items():
        features = speech_features(samples_of(speech[name]), encoder)
        assert [1, *features.states.shape] == shapes["padded_prompts"]
        assert features.frames == shapes["video_frames"]
        end = STEPS_BEFORE + 2 * shapes["audio_len"]
        assert not features.states[:STEPS_BEFORE].any() and not features.states[end:].any()
        states = features.states[None, STEPS_BEFORE:end]
        outputs = file.output_names(name)
        assert outputs
        for output in outputs:
            rows = output.removeprefix(name).removeprefix("_")
            if rows == "tail":
                file.check(output, states[:, -file.tensors[f"out/{output}"].shape[1] :])
            else:
                file.check(output, states[:, part(rows)] if rows else states)
