"""Speech features and audio tokens against the released program's."""

import hashlib
import re

import numpy as np
import pytest
import torch
from golden_fixtures import Golden, GoldenFile, Table
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
WINDOW = ("seq_len", "blocks", "channels")
CHUNK = 3000
"""Frames of features that the encoder reads at once."""


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
    if not chunks:
        pytest.skip(f"{file.name}, case {name}: no hidden states are recorded")
    return join_states((chunks[key][0] for key in sorted(chunks, key=int)), 2 * file.cases[name]["audio_len"])


@torch.no_grad()
def test_projection(projection: tuple[GoldenFile, AudioProjection]) -> None:
    """Windows that belong to no case; an output without stored input is of a window of zeros."""
    file, model = projection
    stored, sizes = file.inputs(), file.entry["config"]
    names = [name for name in file.output_names() if "/" not in name]
    for name in names:
        windows = stored[name] if name in stored else torch.zeros(1, *(sizes[key] for key in WINDOW))
        tokens = model(windows)
        file.check(name, tokens if name in stored else tokens[0])
    if not names:
        pytest.skip(f"{file.name} records no windows by themselves")


@pytest.mark.cases_of_set(PROJECTION)
@torch.no_grad()
def test_windows_and_their_tokens(projection: tuple[GoldenFile, AudioProjection], file_name: str, case: str) -> None:
    file, model = projection
    table, states = file.cases[case], joined(file, case)
    windows = frame_windows(states, 2 * table["step"])[: table["frames"]]
    made = {f"{case}/padded": states[None], f"{case}/windows": windows, f"{case}/cond": model(windows)}
    file.check_recorded(made)
    assert table["frames"] == table["audio_len"] // table["step"]


@pytest.mark.cases_of_set(PROJECTION)
def test_features_give_the_same_windows(file: GoldenFile, case: str) -> None:
    table = file.cases[case]
    if table["step"] != 2:
        pytest.skip("another frame rate than the release's")
    features = SpeechFeatures(joined(file, case), table["frames"], table["frames"] / 12.5)
    file.check_recorded({f"{case}/windows": features.windows(torch.arange(table["frames"]))})
    assert torch.equal(features.unconditional_window(), torch.zeros_like(features.windows(slice(0, 1))[0]))


def test_state_dict_has_the_released_keys(golden: Golden) -> None:
    released = golden.json("keys/audio_linear.pth.keys.json")
    with torch.device("meta"):
        ours = AudioProjection(AudioConfig()).state_dict()
    assert {k: list(v.shape) for k, v in ours.items()} == released


# Log-mel features


@pytest.fixture(scope="module")
def speech(golden: Golden) -> dict[str, np.ndarray]:
    """The recorded speech by name, and longer ones that are made from it by the recipe of the JSON file."""
    stored = golden.file(PREPROCESS).inputs("audio_")
    found = {key.removesuffix("_i16"): value.numpy() for key, value in stored.items()}
    for key, recipe in golden.json("preprocess.json").items():
        if not key.startswith("audio_") or not isinstance(recipe, dict):
            continue
        base = re.search(r"len\((\w+)\)", recipe["recipe"])
        if not base or base[1] not in found:
            pytest.skip(f"preprocess.json, {key}: its recipe names no recorded sound")
        short, k = found[base[1]], np.arange(recipe["samples"])
        made = (short[k % len(short)].astype(np.int32) * (1 + (k // len(short)) % 7) // 7).astype(np.int16)
        if hashlib.sha256(made.tobytes()).hexdigest() != recipe["sha256_int16"]:
            pytest.skip(f"preprocess.json, {key}: made by another recipe than the one that these tests know")
        found[key.removeprefix("audio_")] = made
    return found


def samples_of(pcm: np.ndarray) -> np.ndarray:
    return load_speech((pcm, 16000)).samples


@pytest.fixture(scope="module")
def log_mel(speech: dict[str, np.ndarray]) -> Table:
    made = {name: torch.cat(list(log_mel_chunks(samples_of(pcm))), dim=-1) for name, pcm in speech.items()}
    return Table(made, f"{PREPROCESS}, sounds")


def test_log_mel(golden: Golden, log_mel: Table) -> None:
    """Recorded whole, or its start and one value for the rest, or some of its frames."""
    file, table = golden.file(PREPROCESS), golden.json("preprocess.json")
    names = file.output_names("features_")
    for output in names:
        name, _, frames = output.removeprefix("features_").partition("_")
        features = log_mel[name]
        width = file.tensors[f"out/{output}"].shape[-1]
        if frames == "end":
            start = table[f"features_{name}_end_from"]
            file.check(output, features[..., start:][..., :width])
        elif frames:
            file.check(output, features[..., part(frames)])
        else:
            file.check(output, features[..., :width])
            rest = features[..., width:] - (
                table[f"features_{name}_rest"]["value"] if width < features.shape[-1] else 0
            )
            assert rest.numel() == 0 or rest.abs().max() <= file.entry["tolerance"][output]["atol"]
    if not names:
        pytest.skip(f"{file.name} records no features")


def part(rows: str) -> slice:
    """``every25th`` and ``2990_3030`` as slices."""
    if every := re.fullmatch(r"every(\d+)th", rows):
        return slice(None, None, int(every[1]))
    start, end = map(int, rows.split("_"))
    return slice(start, end)


def test_feature_table(golden: Golden, log_mel: Table) -> None:
    for row in golden.json("preprocess.json")["get_audio_feature"]:
        if "value" in row:  # digital silence, whose features are one number
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
    heads, table, compared = golden.file(PREPROCESS), golden.json("preprocess.json"), 0
    for name, shapes in file.entry["shapes"].items():
        width = shapes["feature"][-1]
        if f"features_{name}" not in heads.output_names() or name not in file.output_names() or width > CHUNK:
            continue
        head = heads.tensors[f"out/features_{name}"]
        if head.shape[-1] < width:
            rest = table[f"features_{name}_rest"]["value"]
            head = torch.nn.functional.pad(head, (0, width - head.shape[-1]), value=rest)
        file.check(name, hidden_states(encoder, head)[None, : file.tensors[f"out/{name}"].shape[1]])
        compared += 1
    if not compared:
        pytest.skip(f"{file.name}: no states of recorded features are recorded")


@torch.no_grad()
def test_speech_features(whisper: tuple[GoldenFile, WhisperEncoder], speech: dict[str, np.ndarray]) -> None:
    file, encoder = whisper
    sounds = Table(speech, f"{PREPROCESS}, sounds")
    for name, shapes in file.entry["shapes"].items():
        features = speech_features(samples_of(sounds[name]), encoder)
        assert [1, *features.states.shape] == shapes["padded_prompts"]
        assert features.frames == shapes["video_frames"]
        end = STEPS_BEFORE + 2 * shapes["audio_len"]
        assert not features.states[:STEPS_BEFORE].any() and not features.states[end:].any()
        states = features.states[None, STEPS_BEFORE:end]
        for output in file.output_names(name):
            rows = output.removeprefix(name).removeprefix("_")
            if rows == "tail":
                file.check(output, states[:, -file.tensors[f"out/{output}"].shape[1] :])
            else:
                file.check(output, states[:, part(rows)] if rows else states)
