"""Whether one sees where one window ends and the next begins."""

from itertools import pairwise

import numpy as np

from dicetalk.denoise.windows import padding, window_schedule
from dicetalk.settings import SamplerSettings

SPREAD = 0.95
"""Of a clip's own differences, so many lie within its spread."""


def frame_differences(frames: np.ndarray) -> np.ndarray:
    """Root mean square difference of each frame to the one before, 0 to 255, ``(N - 1,)``.

    Args:
        frames: uint8 ``(N, H, W, 3)``.
    """
    return np.array(
        [np.sqrt(np.square(after.astype(np.float32) - before).mean()) for before, after in pairwise(frames)]
    )


def last_borders(settings: SamplerSettings, frames: int) -> list[int]:
    """The first frames of the windows of the last step, but for the clip's own first: what came last shows most."""
    total = frames + padding(settings.schedule, settings.window)
    windows = window_schedule(settings.schedule, total, settings.window, settings.overlap, settings.shift)(
        settings.steps - 1
    )
    return sorted({window[0] for window in windows} & set(range(1, frames)))


def seam_scores(frames: np.ndarray, borders: list[int]) -> tuple[float, float]:
    """How much more happens at `borders` than elsewhere.

    Args:
        frames: uint8 ``(N, H, W, 3)``.
        borders: first frames of windows, at least one, none of them 0.

    Returns:
        Difference at borders as a multiple of what it is in the four frames around, about 1 without seams; and the part
        of the borders whose difference lies outside the spread of the clip's other ones, 0.05 by chance.
    """
    differences = frame_differences(frames)
    at = np.zeros(len(differences), bool)
    at[np.array(borders) - 1] = True
    here, around = [], []
    for border in np.flatnonzero(at).tolist():
        near = np.arange(max(border - 2, 0), min(border + 3, len(differences)))
        here.append(differences[border])
        around.append(differences[near[near != border]].mean())
    spread = np.quantile(differences[~at], SPREAD)
    return float(np.sum(here) / max(np.sum(around), 1e-6)), float((differences[at] > spread).mean())
