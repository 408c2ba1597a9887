"""What the sampler node makes of its inputs, against the method written out in `plain_sampling`."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from comfyui.prompts import SAMPLER, nested
from plain_sampling import PlainSettings, plain_clip, plain_latents, ring

from dicetalk.emotion.mix import mix
from dicetalk.pipeline import encode_portrait
from dicetalk.settings import SamplerSettings

KEYFRAMES = """{"keyframes": [
    {"time": 0.1, "weights": {"happy": 1.0}, "intensity": 1.5, "easing": "linear"},
    {"time": 0.3, "emotion": "sad:0.5", "easing": "linear"}
]}"""
VALUES = SAMPLER | {
    "seed": 5,
    "preset.steps": 5,
    "noise_strength": 0.6,
    "preset.portrait_guidance": 1.5,
    "preset.portrait_guidance_change": 1.5,
    "preset.expression_guidance": 4.0,
    "preset.expression_guidance_change": -2.0,
    "preset.window": 4,
    "preset.overlap": 1,
    "preset.shift": 3,
    "audio_scale": 0.35,
    "emotion_scale": 0.8,
    "motion_bucket": 60.0,
    "expression_bucket": 20.0,
    "portrait_noise": 0.1,
    "interpolate": False,
}
PLAIN = PlainSettings(
    steps=5,
    steps_run=3,
    windows=ring(9, 4, 1, 3),
    portrait_guidance=(1.5, 3.0),
    expression_guidance=(4.0, 2.0),
    audio_scale=0.35,
    emotion_scale=0.8,
    motion_bucket=60.0,
    expression_bucket=20.0,
)
TIGHT = ((0, 1), (0, 1), (0, 1))
"""First frames of the windows of 4 over 5 frames, in each step."""


@pytest.mark.parametrize(("schedule", "retrieval"), [("reference", False), ("tight", False), ("tight", True)])
def test_the_latents_are_those_of_the_method(
    nodes: dict[str, Any], model: Any, portrait: Any, speech: Any, schedule: str, retrieval: bool
) -> None:
    emotion = nodes["DICETalk_EmotionTimeline"].execute(model, speech, KEYFRAMES).result[0]
    given = VALUES | {"preset.schedule": schedule, "retrieval": retrieval}
    made = nodes["DICETalk_Sampler"].execute(model, portrait, speech, emotion, **nested(given)).result[4]["samples"]

    dice = model.dice
    first, last = mix({"happy": 1.5}, dice.priors).mu, mix({"sad": 0.5}, dice.priors).mu
    # 0, 0.08, 0.16, 0.24 and 0.32 s; the emotion changes from 0.1 to 0.3 s.
    means = torch.stack([first + way * (last - first) for way in (0.0, 0.0, 0.3, 0.7, 1.0)])
    encoded = encode_portrait(dice, portrait, SamplerSettings(seed=5, portrait_noise=0.1))
    total = 9 if schedule == "reference" else 5
    generator = torch.Generator().manual_seed(5)
    torch.randn(1, 3, *portrait.image.shape[1:], generator=generator)  # the portrait's noise comes first
    noise = torch.randn(1, total, *encoded.start_latents.shape, generator=generator)[0]
    clip = plain_clip(dice, encoded, speech.features, means, noise, retrieval=retrieval)
    whole_bank = plain_clip(dice, encoded, speech.features, means, noise)

    plain = PLAIN
    if schedule == "tight":
        plain = replace(plain, windows=lambda step: [list(range(start, start + 4)) for start in TIGHT[step]])
    expected = plain_latents(dice.unet, clip, plain)[:5] / 0.18215
    assert made.shape == expected.shape
    assert (made - expected).abs().max() < 2e-3
    # Otherwise what follows could not be told apart.
    swapped = replace(plain, audio_scale=plain.emotion_scale, emotion_scale=plain.audio_scale)
    late = replace(clip, emotion=clip.emotion.roll(1, dims=0))
    others = [plain_latents(dice.unet, clip, swapped), plain_latents(dice.unet, late, plain)]
    if retrieval:
        others.append(plain_latents(dice.unet, whole_bank, plain))
    for other in others:
        assert (other[:5] / 0.18215 - expected).abs().max() > 0.02


def test_every_value_reaches_the_library(
    nodes: dict[str, Any], model: Any, portrait: Any, speech: Any, node_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler, seen = node_module("sampler"), []
    denoise = sampler.denoise

    def watched(*arguments: Any, **options: Any) -> Any:
        seen.extend(argument for argument in arguments if isinstance(argument, SamplerSettings))
        return denoise(*arguments, **options)

    monkeypatch.setattr(sampler, "denoise", watched)
    emotion = nodes["DICETalk_EmotionTimeline"].execute(model, speech, KEYFRAMES).result[0]
    given = VALUES | {"preset.schedule": "tight", "batched_guidance": False, "key_value_budget": 3, "retrieval": True}
    nodes["DICETalk_Sampler"].execute(model, portrait, speech, emotion, **nested(given))
    assert seen == [
        SamplerSettings(
            steps=5,
            window=4,
            overlap=1,
            shift=3,
            schedule="tight",
            portrait_guidance=(1.5, 3.0),
            expression_guidance=(4.0, 2.0),
            audio_scale=0.35,
            emotion_scale=0.8,
            motion_bucket=60.0,
            expression_bucket=20.0,
            noise_strength=0.6,
            portrait_noise=0.1,
            seed=5,
            batched_guidance=False,
            key_value_budget=3 * 1024 * 1024,
            retrieval=True,
        )
    ]
