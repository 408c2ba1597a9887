"""Motion that is predicted from the speech: Sonic's windows of states, its network, and the added ids of every call."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from golden_fixtures import Golden, GoldenFile
from torch import nn

from dicetalk.audio.features import STEPS_BEFORE, SpeechFeatures, frame_windows, join_states, last_windows
from dicetalk.audio.projection import AudioToBucket
from dicetalk.checkpoints.load import DiceModel
from dicetalk.checkpoints.variants import SONIC
from dicetalk.config import BucketConfig
from dicetalk.denoise.conditioning import EncodedPortrait
from dicetalk.errors import SpeechError
from dicetalk.motion.ids import check_length, predict_buckets
from dicetalk.pipeline import denoise

WINDOWS, BUCKETS = "sonic_audio_windows.safetensors", "sonic_audio2bucket.safetensors"


def joined(file: GoldenFile, case: str) -> torch.Tensor:
    """A case's recorded encoder states, laid out as the network reads them."""
    chunks = file.inputs(f"{case}/hidden_states_")
    return join_states((chunks[key][0] for key in sorted(chunks, key=int)), 2 * file.cases[case]["audio_len"])


def features_of(file: GoldenFile, case: str) -> SpeechFeatures:
    frames = file.cases[case]["frames"]
    return SpeechFeatures(joined(file, case), frames, frames / 12.5)


# Windows of states


@pytest.mark.cases_of_set(WINDOWS)
def test_windows(file: GoldenFile, case: str) -> None:
    table, states, sizes = file.cases[case], joined(file, case), file.entry["config"]
    stride, frames = 2 * table["step"], table["frames"]
    assert frames == table["audio_len"] // table["step"]
    last = states[STEPS_BEFORE : len(states) - sizes["token_after"], -1]
    made = {
        f"{case}/token_windows": frame_windows(states, stride)[:frames],
        f"{case}/bucket_windows": last_windows(last, sizes["bucket_window"], stride)[:frames],
    }
    if table["step"] == 2:  # the rate of the model
        assert torch.equal(features_of(file, case).last_windows(sizes["bucket_window"]), made[f"{case}/bucket_windows"])
    file.check_recorded(made)


def test_the_shortest_speech(sonic: Golden) -> None:
    """What the release fails on is refused, with the length that it needs; everything else is taken."""
    file = sonic.file(WINDOWS)
    window, settings = file.entry["config"]["bucket_window"], SONIC.settings
    network = SimpleNamespace(config=BucketConfig(window=window))
    taken = [row["audio_len"] for row in file.entry["short_clips"] if row["result"] == "ok"]
    for row in file.entry["short_clips"]:
        length = row["audio_len"]
        features = SpeechFeatures(torch.ones(4 + 2 * length + 6, 2, 1), length // 2, length / 25)
        if row["result"] == "ok":
            check_length(network, features, settings)
            windows = features.last_windows(window)
            assert windows.shape == (row["frames"], *row["window_lengths"], 1)
            zeros = (windows[0] == 0).sum().item()
            assert zeros - max(0, window - row["zeros_before"] - 2 * length) == row["zeros_before"]
        elif row["frames"]:
            with pytest.raises(SpeechError, match=f"{length / 25:.2f} s long.*{min(taken) / 25:.2f} s or more"):
                check_length(network, features, settings)
            curves = replace(settings, motion_bucket=(8.0,), expression_bucket=(16.0,))
            check_length(network, features, curves)  # nothing is predicted


# The network


@pytest.fixture(scope="module")
def network(sonic: Golden) -> tuple[GoldenFile, AudioToBucket]:
    file = sonic.file(BUCKETS)
    sizes = file.entry["config"]
    config = BucketConfig(sizes["seq_len"], sizes["channels"], sizes["clip_channels"], sizes["intermediate_dim"])
    model = AudioToBucket(config).eval()
    model.load_state_dict(file.weights(like=model.state_dict()))
    return file, model


@torch.no_grad()
def test_network(network: tuple[GoldenFile, AudioToBucket]) -> None:
    file, model = network
    inputs = file.inputs()
    image = inputs["image_embeds"]
    one_by_one = torch.cat([model(window[None], image) for window in inputs["windows"]])
    file.check_recorded({"raw": one_by_one, "together": model(inputs["windows"], image)})


@pytest.mark.cases_of_set(BUCKETS)
def test_buckets_of_a_clip(network: tuple[GoldenFile, AudioToBucket], file_name: str, case: str) -> None:
    file, model = network
    made = predict_buckets(model, file.inputs()["image_embeds"][None], features_of(file, case))
    file.check_recorded({f"{case}/buckets": made, f"{case}/raw": (made - 16) / 16})


# From the speech to the ids of every call of the UNet


class IdsOnly(nn.Module):
    """A UNet that answers zeros and keeps the added ids that it is given."""

    config = SimpleNamespace(block_out_channels=(8,), in_channels=8)
    key_value_channels = 0

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[torch.Tensor] = []

    def project_clip(self, clip: torch.Tensor) -> list[torch.Tensor]:
        return []

    def project_adapter(self, adapter: int, tokens: torch.Tensor) -> list[torch.Tensor]:
        return []

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, ids: torch.Tensor, *rest: object) -> tuple:
        assert len(ids) == len(sample) == 3 and (ids == ids[:1]).all()
        self.ids.append(ids[0])
        return torch.zeros_like(sample[:, :, :4]), None


class NoTokens(nn.Module):
    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(windows), 1, 1)


def ids_of_every_call(
    file: GoldenFile, case: str, model: AudioToBucket, amount: float, dtype: torch.dtype
) -> torch.Tensor:
    """Added ids ``(steps, windows, 3)`` of a clip through the pipeline."""
    table, image, unet = file.cases[case], file.inputs()["image_embeds"], IdsOnly()
    latents = torch.zeros(4, 2, 2)
    portrait = EncodedPortrait(image[None].to(dtype), latents, latents, torch.ones(1, 1, 16, 16), None)
    settings = replace(
        SONIC.settings,
        steps=table["steps"],
        window=table["frames_per_batch"],
        overlap=table["overlap"],
        shift=table["shift_offset"],
        motion_amount=amount,
    )
    others = ("emotion_model", "pose_guider", "vae", "image_encoder", "whisper", "flownet", "embedder")
    dice = DiceModel(
        unet=unet,
        audio_projection=NoTokens(),
        **dict.fromkeys((*others, "expression_reader", "detector_path")),
        priors={},
        config=SONIC.config,
        dtype=dtype,
        adapters=SONIC.adapters,
        audio_to_bucket=model,
    )
    denoise(dice, portrait, features_of(file, case), None, settings)
    return torch.stack(unet.ids).unflatten(0, (table["steps"], -1))


@pytest.mark.cases_of_set(BUCKETS)
def test_added_ids(network: tuple[GoldenFile, AudioToBucket], file_name: str, case: str) -> None:
    file, model = network
    table = file.cases[case]
    made = {
        f"scale_{scale}/added_time_ids": ids_of_every_call(file, case, model, scale, torch.float32)
        for scale in table["motion_bucket_scales"]
    }
    made["half/added_time_ids"] = ids_of_every_call(file, case, model, table["half_scale"], torch.float16)
    file.check_recorded(made)
