"""How the pictures look: likeness to the drawn truth of the same clip, colours, stillness, and what moves of itself.

Sway of the head and blinks are chance, which no network can foretell. So the drawn truth is drawn again with another
chance, and what that reaches is the best that a measure can give.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from dicetalk.drawn.evaluate.run import Pair
from dicetalk.drawn.evaluate.takes import Take, drawn_portrait, drawn_regions
from dicetalk.evaluate.likeness import (
    colour_drift,
    flicker,
    gradient_energy,
    peak_signal_to_noise,
    still_pixels,
    structural_similarity,
)
from dicetalk.evaluate.liveliness import (
    Window,
    closed_eyes,
    count_blinks,
    eye_contrast,
    eye_windows,
    head_movement,
    head_shifts,
)
from dicetalk.evaluate.real_or_made import Sample, told_apart
from dicetalk.evaluate.table import Better, Row
from dicetalk.hooks import SILENT, Hooks
from dicetalk.settings import FPS

CROWN = (0.2, 0.04, 0.8, 0.36)
"""Left, top, right and bottom of the part of a picture that holds the head above the brows, in its widths."""

LEAST_SSIM, LEAST_SHARPNESS, MOST_SHARPNESS, MOST_DRIFT = 0.92, 0.85, 1.1, 0.02


@dataclass(frozen=True)
class Looks:
    """Measures of one clip.

    Args:
        ssim: see :func:`dicetalk.evaluate.likeness.structural_similarity`.
        psnr: in decibels.
        sharpness: gradient energy, of that of the truth.
        skin: drift of its colour from the portrait's, of the range.
        hair: likewise; NaN without hair.
        flicker: where nothing should move, of the range.
        blinks: how many.
        seconds: of the clip.
        movement: of the head, root mean square, in widths of the picture.
    """

    ssim: float
    psnr: float
    sharpness: float
    skin: float
    hair: float
    flicker: float
    blinks: int
    seconds: float
    movement: float


def looks_of(take: Take, frames: np.ndarray, truth: np.ndarray) -> Looks:
    """Measure a clip.

    Args:
        take: what was asked for.
        frames: of the clip, uint8 RGB ``(N, size, size, 3)``.
        truth: as it would be drawn, likewise.
    """
    size = frames.shape[1]
    portrait = drawn_portrait(take, size)
    regions = drawn_regions(take, size)
    eyes = portrait.landmarks[:2]
    windows = eye_windows(eyes, float(eyes[1, 0] - eyes[0, 0]) / 2, frames.shape[1:3])
    left, top, right, bottom = (round(edge * size) for edge in CROWN)
    crown: Window = (left, top, right, bottom)
    return Looks(
        ssim=structural_similarity(frames, truth),
        psnr=peak_signal_to_noise(frames, truth),
        sharpness=gradient_energy(frames) / gradient_energy(truth),
        skin=colour_drift(frames, portrait.pixels, regions["skin"]),
        hair=colour_drift(frames, portrait.pixels, regions["hair"]),
        flicker=flicker(frames, still_pixels(truth)),
        blinks=count_blinks(closed_eyes(eye_contrast(frames, windows))),
        seconds=len(frames) / FPS,
        movement=head_movement(head_shifts(frames, crown)) / size,
    )


def look_rows(shots: Mapping[Take, Pair], hooks: Hooks = SILENT) -> list[Row]:
    """Rows of the table about how the clips look.

    Args:
        shots: of every take.
        hooks: progress of `looks`, in clips.
    """
    made, again = [], []
    for number, (take, pair) in enumerate(shots.items()):
        hooks.check()
        truth = pair.drawn.frames
        made.append(looks_of(take, pair.made.frames, truth))
        again.append(looks_of(take, pair.again.frames, truth))
        hooks.report("looks", number + 1, len(shots))
    rows = []

    def row(
        measure: str,
        of: Callable[[Looks], float],
        mean: Callable[[Iterable[float]], float],
        bar: float | None = None,
        better: Better = "higher",
        most: float | None = None,
    ) -> None:
        generated, drawn = (mean([of(looks) for looks in each]) for each in (made, again))
        rows.append(Row(measure, generated, drawn, bar, better, most))

    row("looks: SSIM to the drawn truth", lambda s: s.ssim, _mean, bar=LEAST_SSIM)
    row("looks: PSNR to the drawn truth, dB", lambda s: s.psnr, _mean)
    row("looks: sharpness, of the truth's", lambda s: s.sharpness, _mean, bar=LEAST_SHARPNESS, most=MOST_SHARPNESS)
    row("looks: drift of the skin's colour, largest", lambda s: s.skin, _largest, bar=MOST_DRIFT, better="lower")
    row("looks: drift of the hair's colour, largest", lambda s: s.hair, _largest, bar=MOST_DRIFT, better="lower")
    row("looks: flicker where nothing moves", lambda s: s.flicker, _mean)
    rows.append(Row("looks: blinks a minute", _blinks_a_minute(made), _blinks_a_minute(again)))
    row("looks: movement of the head, of the width", lambda s: s.movement, _mean)
    accuracy, accuracy_again = (
        told_apart([Sample(take.person, getattr(pair, kind).frames, pair.drawn.frames) for take, pair in shots.items()])
        for kind in ("made", "again")
    )
    rows.append(Row("looks: accuracy of telling generated pictures from drawn ones", accuracy, accuracy_again))
    return rows


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def _largest(values: Iterable[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return max(known) if known else float("nan")


def _blinks_a_minute(looks: Iterable[Looks]) -> float:
    every = list(looks)
    return 60 * sum(each.blinks for each in every) / sum(each.seconds for each in every)
