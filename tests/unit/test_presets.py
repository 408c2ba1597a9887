"""Presets: which fields they fix, what wins over them, and how often each runs the network."""

import pytest
import torch

from dicetalk.bench.count import FlopCounter, PassCounter
from dicetalk.bench.random_model import random_model
from dicetalk.bench.run import Setting, count_flop, measure_run
from dicetalk.bench.sizes import SIZES, ClipSize
from dicetalk.cli.bench import _setting
from dicetalk.cli.options import sampler_settings
from dicetalk.cli.parser import build_parser
from dicetalk.config import SONIC, TINY
from dicetalk.denoise.unet import DeepFeatures
from dicetalk.errors import SettingError
from dicetalk.presets import PRESETS, with_preset
from dicetalk.settings import SamplerSettings
from dicetalk.talk import DiceTalk

CPU = torch.device("cpu")
NEEDED = ["generate", "--image", "a.png", "--audio", "a.wav", "--out", "a.mp4"]


def asked(*options: str) -> SamplerSettings:
    return sampler_settings(build_parser().parse_args([*NEEDED, *options]))


def test_exact_is_the_release() -> None:
    assert with_preset(SamplerSettings(seed=3), "exact") == SamplerSettings(seed=3)
    assert asked() == asked("--preset", "exact") == SamplerSettings()


def test_what_is_given_wins() -> None:
    fast = asked("--preset", "fast")
    assert fast == with_preset(SamplerSettings(), "fast") != SamplerSettings()
    options = ["--steps", "25", "--solver", "euler", "--guidance-every", "1", "--schedule", "reference"]
    assert asked("--preset", "fast", *options) == SamplerSettings()
    talk = DiceTalk.load("tiny", device="cpu")
    assert talk._settings("draft", {"steps": 3}).steps == 3
    assert talk._settings("draft", {}) == with_preset(talk.settings, "draft")


def test_a_preset_never_adds_steps_and_leaves_a_ring() -> None:
    short = SamplerSettings(steps=4, schedule="ring")
    assert {with_preset(short, name).steps for name in PRESETS} == {4}
    assert {with_preset(short, name).schedule for name in PRESETS} == {"ring"}
    assert sampler_settings(build_parser().parse_args([*NEEDED, "--preset", "fast"]), SONIC).schedule == "ring"
    assert sampler_settings(build_parser().parse_args(NEEDED), TINY).steps == TINY.sampling.steps


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(SettingError, match=r"preset 'quick' is unknown\. Choose one of: exact, fast, draft"):
        with_preset(SamplerSettings(), "quick")
    assert _setting(Setting(), ["preset=fast"]).sampler == with_preset(SamplerSettings(), "fast")


def test_calls_are_counted_by_frames_and_branches() -> None:
    class Called(torch.nn.Module):
        def forward(self, *given: object) -> None:
            pass

    network = Called()
    with PassCounter(network) as passes:
        network(torch.zeros(3, 5, 1), 0, 0, 0, None)
        network(torch.zeros(1, 5, 1), 0, 0, 0, None, DeepFeatures())
        network(torch.zeros(2, 4, 1), 0, 0, 0, None, DeepFeatures(torch.zeros(1)))
    network(torch.zeros(9, 9, 1))
    assert (passes.whole, passes.shallow) == (20, 8)


def test_flop_are_those_of_the_products() -> None:
    with FlopCounter() as counter, torch.no_grad():
        torch.nn.Linear(3, 5)(torch.zeros(7, 3))
        counter.hooks.report("speech", 1, 1)
        query, key = torch.zeros(1, 2, 4, 8), torch.zeros(1, 2, 6, 8)
        torch.nn.functional.scaled_dot_product_attention(query, key, key)
        counter.hooks.report("sample", 1, 2)
        counter.hooks.report("sample", 2, 2)
    assert counter.flop == {"speech": 2 * 7 * 3 * 5, "sample": 2 * 2 * (2 * 4 * 6 * 8)}


def test_passes_of_each_preset_on_released_settings() -> None:
    """A clip of one window, padding included; counted in the network."""
    size = SIZES["small"]
    model = random_model(size, torch.float32)
    passes, flop = {}, {}
    for name in PRESETS:
        setting = _setting(Setting(), [f"preset={name}"])
        short = ClipSize(64, 2.0)
        run = measure_run(model, short, setting, CPU)
        passes[name] = run["passes_per_frame"]
        if name != "exact":
            flop[name] = count_flop(model, short, setting, CPU)["sample"]
    assert passes["exact"] == 2 * 75
    assert passes["fast"] <= 15 and passes["draft"] <= 6
    assert flop["draft"] / flop["fast"] == pytest.approx(passes["draft"] / passes["fast"], rel=0.1)
