"""The setting `retrieval`: another clip, and a refusal where there is no emotion bank."""

from dataclasses import replace

import pytest
import torch

from dicetalk.bench.random_model import random_model
from dicetalk.bench.run import synthetic_portrait, synthetic_speech
from dicetalk.bench.sizes import SIZES
from dicetalk.checkpoints.load import DiceModel
from dicetalk.cli.options import sampler_settings
from dicetalk.cli.parser import build_parser
from dicetalk.emotion.bank import PriorTokens
from dicetalk.emotion.track import EmotionTrack
from dicetalk.errors import SettingError
from dicetalk.pipeline import generate_latents
from dicetalk.settings import SamplerSettings

SIZE = replace(SIZES["small"], short_side=64, seconds=0.3)


@pytest.fixture(scope="module")
def model() -> DiceModel:
    return random_model(SIZE, torch.float32)


def sampled(model: DiceModel, retrieval: bool) -> torch.Tensor:
    settings = SamplerSettings(steps=1, window=4, schedule="tight", retrieval=retrieval)
    track = EmotionTrack.constant(model.priors["happy"])
    portrait, speech = synthetic_portrait(SIZE, model), synthetic_speech(SIZE.seconds)
    return generate_latents(model, portrait, speech, track, settings).values


def test_another_path_makes_another_clip(model: DiceModel) -> None:
    whole, nearest = sampled(model, False), sampled(model, True)
    assert torch.equal(nearest, sampled(model, True))
    assert (whole - nearest).abs().max() > 1e-3 * whole.abs().max()


def test_a_model_without_a_bank_refuses(model: DiceModel) -> None:
    without = replace(model, emotion_model=PriorTokens(model.emotion_model))
    with pytest.raises(SettingError, match="no bank"):
        sampled(without, True)


def test_command_line() -> None:
    needed = ["generate", "--image", "a.png", "--audio", "a.wav", "--out", "a.mp4"]
    assert not sampler_settings(build_parser().parse_args(needed)).retrieval
    assert sampler_settings(build_parser().parse_args([*needed, "--retrieval"])).retrieval
