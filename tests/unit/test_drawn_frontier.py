"""Quality against passes: the same clips under several settings, of which some are spoilt."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from dicetalk.drawn.clips import SAMPLE_RATE
from dicetalk.drawn.evaluate.frontier import (
    format_frontier,
    frontier,
    frontier_picture,
    frontier_plan,
    frontier_settings,
    likeness_of,
)
from dicetalk.drawn.evaluate.judge_training import load_judges
from dicetalk.drawn.evaluate.plan import full_plan, unseen_people
from dicetalk.drawn.evaluate.run import people_gallery
from dicetalk.drawn.evaluate.takes import Shot, Sound, Take, drawn_shot
from dicetalk.settings import SamplerSettings

SIZE = 128


def hum(take: Take) -> Sound:
    at = np.arange(round((1.2 if len(take.sentences) == 1 else 4.0) * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.2 * np.sin(2 * np.pi * 300 * at) * np.sin(2 * np.pi * 2 * at)).astype(np.float32), SAMPLE_RATE


def test_a_spoilt_setting_is_worse_in_what_was_spoilt() -> None:
    judges = load_judges(Path(__file__).parent / "data" / "judges.safetensors")
    plan = full_plan(1, videos=False)
    takes = [plan.presets[1], plan.long[0]]
    unet = torch.nn.Identity()

    def make(settings: SamplerSettings):  # type: ignore[no-untyped-def]
        def one(take: Take, sound: Sound) -> Shot:
            shot = drawn_shot(take, sound, SIZE)
            for _ in range(settings.steps):
                unet(torch.zeros(2, len(shot.frames)))
            frames = shot.frames
            if settings.solver == "dpmpp_2m":
                frames = np.stack([cv2.GaussianBlur(frame, (0, 0), 3) for frame in frames])
            if settings.steps == 2:
                frames = np.repeat(frames[:1], len(frames), axis=0)  # nothing moves
            return replace(shot, frames=frames)

        return one

    settings = {
        "exact": SamplerSettings(steps=4),
        "frozen": SamplerSettings(steps=2),
        "soft": SamplerSettings(steps=4, solver="dpmpp_2m"),
    }
    rows = frontier(make, unet, settings, takes, judges, people_gallery(unseen_people(), judges, SIZE), say=hum)
    exact, frozen, soft = rows
    assert [row.passes for row in rows] == [8, 4, 8]
    assert (exact.psnr, exact.ssim) == (100.0, pytest.approx(1.0))
    assert frozen.jump == 0 < exact.jump and frozen.psnr < 100
    assert soft.ssim < 0.95 and soft.psnr < 40
    assert exact.mouth > soft.mouth - 0.05
    lines = format_frontier(rows).splitlines()
    assert len({len(line) for line in lines}) <= 2 and "frozen" in format_frontier(rows)
    pixels = np.asarray(frontier_picture(rows))
    assert pixels.shape[2] == 3 and (pixels != pixels[0, 0]).any(axis=2).mean() > 0.01


def test_exact_comes_first_and_every_technique_stands_alone() -> None:
    made_for = SamplerSettings(steps=10)
    settings = frontier_settings(made_for)
    assert next(iter(settings.items())) == ("exact", made_for)
    assert {"fast", "draft"} < set(settings) and settings["fast"].steps == 5
    assert settings["half the steps"] == replace(made_for, steps=5)
    assert len(set(settings.values())) == len(settings)
    assert len(frontier_plan(full_plan(1, videos=False))) == 9


def test_likeness_is_that_of_scikit_image() -> None:
    rng = np.random.default_rng(0)
    frame = cv2.GaussianBlur(rng.integers(0, 256, (48, 40, 3), dtype=np.uint8), (0, 0), 2)
    other = np.clip(frame.astype(int) + rng.integers(-9, 10, frame.shape), 0, 255).astype(np.uint8)
    psnr, ssim = likeness_of(frame[None], other[None])
    assert psnr == pytest.approx(cv2.PSNR(frame, other), abs=1e-3)
    expected = structural_similarity(
        frame, other, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2
    )
    assert ssim == pytest.approx(expected, abs=0.01)
    assert likeness_of(frame[None], frame[None]) == (100.0, pytest.approx(1.0))
