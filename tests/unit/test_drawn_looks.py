"""Measures of how pictures look, on pictures whose right value is known."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from dicetalk.drawn.clips import SAMPLE_RATE
from dicetalk.drawn.evaluate.looks import look_rows
from dicetalk.drawn.evaluate.run import Pair
from dicetalk.drawn.evaluate.takes import Shot, Take, drawn_portrait, drawn_regions, drawn_shot
from dicetalk.drawn.faces.expression import ACTION_UNITS, UNIT, at_rest
from dicetalk.drawn.faces.identity import identity_seeds, sample_identity
from dicetalk.drawn.faces.motion import POSE, Pose
from dicetalk.drawn.faces.render import FaceRenderer
from dicetalk.drawn.faces.scene import sample_scene
from dicetalk.evaluate.likeness import (
    colour_drift,
    flicker,
    gradient_energy,
    peak_signal_to_noise,
    still_pixels,
    structural_similarity,
)
from dicetalk.evaluate.liveliness import (
    closed_eyes,
    count_blinks,
    eye_contrast,
    eye_windows,
    head_movement,
    head_shifts,
)
from dicetalk.evaluate.real_or_made import Sample, told_apart
from dicetalk.evaluate.table import Row, format_rows

TEST = identity_seeds("test")
SIZE = 128
TAKES = [Take(TEST[n], (emotion,), 1.0, ("said",), seed=n) for n, emotion in enumerate(("happy", "sad", "angry"))]


def shot(take: Take, chance: int = 0) -> Shot:
    level = np.repeat((0, 0.2, 0.05, 0.2, 0), SAMPLE_RATE // 3)
    tone = (level * np.sin(2 * np.pi * 500 * np.arange(len(level)) / SAMPLE_RATE)).astype(np.float32)
    return drawn_shot(take, (tone, SAMPLE_RATE), SIZE, chance)


@pytest.fixture(scope="module")
def truth() -> dict[Take, Pair]:
    return {take: Pair(shot(take), shot(take), shot(take, 1)) for take in TAKES}


def noise(seed: int, frames: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, 40, 40, 3), dtype=np.uint8)


# Likeness


def test_ssim_is_that_of_its_formula() -> None:
    a, b = noise(0), noise(1)
    assert structural_similarity(a, a) == pytest.approx(1)
    assert abs(structural_similarity(a, b)) < 0.1, "noise is like no other noise"
    assert structural_similarity(a, 255 - a) < -0.5
    grey = [np.full((1, 20, 20, 3), level, np.uint8) for level in (100, 150)]
    stable = (0.01 * 255) ** 2
    assert structural_similarity(*grey) == pytest.approx(
        (2 * 100 * 150 + stable) / (100**2 + 150**2 + stable), rel=1e-3
    )


def test_ssim_at_a_pixel_agrees_with_sums_over_its_window() -> None:
    a, b = (noise(seed)[:1, :11, :11].astype(float) for seed in (2, 3))
    bell = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    weight = np.outer(bell, bell)[..., None] / bell.sum() ** 2
    means = [(weight * x[0]).sum((0, 1)) for x in (a, b)]
    spread = [(weight * (x[0] - m) ** 2).sum((0, 1)) for x, m in zip((a, b), means, strict=True)]
    both = (weight * (a[0] - means[0]) * (b[0] - means[1])).sum((0, 1))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = (2 * means[0] * means[1] + c1) / (means[0] ** 2 + means[1] ** 2 + c1)
    expected *= (2 * both + c2) / (spread[0] + spread[1] + c2)
    from dicetalk.evaluate.likeness import _similarity

    np.testing.assert_allclose(_similarity(a[0], b[0])[5, 5], expected, rtol=1e-3)


def test_psnr_of_a_known_error() -> None:
    a = np.full((3, 8, 8, 3), 100, np.uint8)
    assert peak_signal_to_noise(a + 5, a) == pytest.approx(20 * np.log10(255 / 5))
    assert peak_signal_to_noise(a, a) == float("inf")


def test_blur_lowers_and_sharpening_raises_the_gradient_energy() -> None:
    edge = np.zeros((1, 10, 10, 3), np.uint8)
    edge[:, :, 5:] = 90
    assert gradient_energy(edge) == pytest.approx(90**2 / 9)
    frames = shot(TAKES[0]).frames[:3]
    soft = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in frames])
    sharp = (2.0 * frames - soft).clip(0, 255).astype(np.uint8)
    assert gradient_energy(soft) < 0.75 * gradient_energy(frames) < 0.6 * gradient_energy(sharp)


def test_flicker_is_measured_where_nothing_moves() -> None:
    frames = np.full((6, 30, 30, 3), 120, np.uint8)
    frames[:, 10:14, 10:14] = np.arange(6)[:, None, None, None] * 20
    still = still_pixels(frames)
    assert not still[6:18, 6:18].any() and still[:5].all() and still[19:].all()
    assert flicker(frames, still) == 0
    frames[1::2] += 6
    assert flicker(frames, still) == pytest.approx(6 / 255)
    assert np.isnan(flicker(frames, np.zeros((30, 30), bool)))


def test_drift_is_the_shift_of_a_regions_colour() -> None:
    take = TAKES[1]
    portrait, regions = drawn_portrait(take, SIZE).pixels, drawn_regions(take, SIZE)
    frames = shot(take).frames
    assert {name for name, region in regions.items() if region.sum() > 40} == {"hair", "skin"}
    for region in regions.values():
        assert colour_drift(frames, portrait, region) < 0.02
        tinted = frames.copy()
        tinted[:, region, 0] = (frames[:, region, 0].astype(int) - 20).clip(0, 255)
        assert colour_drift(tinted, portrait, region) == pytest.approx(20 / 255, abs=0.02)
    assert np.isnan(colour_drift(frames, portrait, np.zeros((SIZE, SIZE), bool)))


# Liveliness


@pytest.mark.parametrize("seed", TEST[:5])
def test_blinks_are_counted(seed: int) -> None:
    person = sample_identity(seed)
    rows = np.tile(at_rest(person.manner), (44, 1))
    rows[8:10, UNIT["blink"]] = 1
    rows[30, UNIT["blink"]] = 1
    rows[12:28, UNIT["lid_tighten"]] += 0.5 * np.hanning(16)  # narrowed eyes are open
    rows[:, UNIT["brow_lower"]] += np.linspace(0, 1, 44)
    poses = np.zeros((44, len(POSE)))
    poses[:, POSE.index("x")] = 0.04 * np.sin(np.arange(44) / 6)
    renderer = FaceRenderer(person, sample_scene(np.random.default_rng(seed)), SIZE)
    assert rows.shape[1] == len(ACTION_UNITS)
    drawn = renderer.draw_clip(rows, poses)
    eyes = renderer.draw(rows[0], Pose()).landmarks[:2]
    frames = np.stack([frame.pixels for frame in drawn])
    windows = eye_windows(eyes, float(eyes[1, 0] - eyes[0, 0]) / 2, (SIZE, SIZE))
    closed = closed_eyes(eye_contrast(frames, windows))
    assert closed[[8, 9, 30]].all() and not closed[[7, 10, 29, 31]].any() and count_blinks(closed) == 2
    soft = np.stack([cv2.GaussianBlur(frame, (0, 0), 0.8) for frame in frames])
    assert count_blinks(closed_eyes(eye_contrast(soft, windows))) == 2


def test_a_shift_of_the_head_is_measured_in_pixels() -> None:
    picture = drawn_portrait(TAKES[0], SIZE).pixels
    xs = 1.5 * np.sin(np.arange(12))
    moved = np.stack([cv2.warpAffine(picture, np.float32([[1, 0, x], [0, 1, 0.5 * x]]), (SIZE, SIZE)) for x in xs])
    shifts = head_shifts(moved, (26, 5, 102, 46))
    np.testing.assert_allclose(shifts[:, 0], xs - xs.mean(), atol=0.4)
    np.testing.assert_allclose(shifts[:, 1], 0.5 * (xs - xs.mean()), atol=0.4)
    assert head_movement(shifts) == pytest.approx(np.sqrt(1.25) * xs.std(), rel=0.15)
    assert head_movement(head_shifts(picture[None].repeat(5, 0), (26, 5, 102, 46))) < 1e-6


# The judge of made pictures


def test_a_judge_tells_blurred_pictures_from_true_ones_and_true_ones_from_none() -> None:
    pairs = [(shot(take), shot(take, 1)) for take in TAKES]
    alike = [Sample(one.take.person, other.frames, one.frames) for one, other in pairs]
    assert told_apart(alike) == pytest.approx(0.5, abs=0.1)
    soft = [np.stack([cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in other.frames]) for _, other in pairs]
    blurred = [replace(sample, made=frames) for sample, frames in zip(alike, soft, strict=True)]
    assert told_apart(blurred) > 0.85
    assert np.isnan(told_apart(alike[:1]))


# The rows


def test_the_truth_reaches_every_bar_and_what_was_done_to_it_is_seen(truth: dict[Take, Pair]) -> None:
    rows = {row.measure.removeprefix("looks: "): row for row in look_rows(truth)}
    assert rows["SSIM to the drawn truth"].generated == pytest.approx(1)
    assert rows["sharpness, of the truth's"].generated == pytest.approx(1)
    assert rows["flicker where nothing moves"].generated == 0
    assert [name for name, row in rows.items() if row.passed is False] == []
    assert rows["SSIM to the drawn truth"].drawn < 0.999, "another chance moves the head elsewhere"
    assert rows["movement of the head, of the width"].generated > 0.001

    def spoilt(pair: Pair) -> Pair:
        frames = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.2) for frame in pair.made.frames]).astype(int)
        frames[..., 1] -= 9
        frames[1::2] += 4
        return replace(pair, made=replace(pair.made, frames=frames.clip(0, 255).astype(np.uint8)))

    worse = {row.measure.removeprefix("looks: "): row for row in look_rows({t: spoilt(p) for t, p in truth.items()})}
    assert {name for name, row in worse.items() if row.passed is False} >= {
        "sharpness, of the truth's",
        "drift of the skin's colour, largest",
        "drift of the hair's colour, largest",
    }
    assert worse["flicker where nothing moves"].generated > 3 / 255
    assert worse["SSIM to the drawn truth"].generated < 0.97
    telling = "accuracy of telling generated pictures from drawn ones"
    assert worse[telling].generated > rows[telling].drawn + 0.2


def test_a_bar_may_have_an_upper_end() -> None:
    row = Row("sharpness", 1.3, 1.0, 0.85, most=1.1)
    assert [replace(row, generated=value).passed for value in (0.8, 1.0, 1.3, float("nan"))] == [
        False,
        True,
        False,
        False,
    ]
    assert ">= 0.85 <= 1.10" in format_rows([row])
