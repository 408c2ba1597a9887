"""Whether the mouth does what the speech says."""

from collections.abc import Sequence

import numpy as np

MAX_LAG = 4
"""Frames by which a mouth is tried to be late or early."""


def correlation(shown: np.ndarray, asked: np.ndarray) -> float:
    """Correlation of two curves ``(N,)``; one that stands still correlates with nothing: 0."""
    spread = shown.std() * asked.std()
    return float(((shown - shown.mean()) * (asked - asked.mean())).mean() / spread) if spread > 1e-6 else 0.0


def lag_correlations(shown: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Correlation of two curves ``(N,)`` when the first is taken to be late by -4 to 4 frames, ``(9,)``."""
    late = [shown[max(lag, 0) : len(shown) + min(lag, 0)] for lag in range(-MAX_LAG, MAX_LAG + 1)]
    early = [asked[max(-lag, 0) : len(asked) + min(-lag, 0)] for lag in range(-MAX_LAG, MAX_LAG + 1)]
    return np.array([correlation(*pair) for pair in zip(late, early, strict=True)])


def best_lag(correlations: Sequence[np.ndarray]) -> int:
    """The lag in frames at which the mean of several clips' correlations is highest; positive: the mouth is late."""
    return int(np.mean(correlations, axis=0).argmax()) - MAX_LAG


def silent_frames(asked: np.ndarray) -> np.ndarray:
    """Frames in which, and beside which, nothing is said: booleans ``(N,)``."""
    still = np.pad(asked == 0, 1, mode="edge")
    return still[:-2] & still[1:-1] & still[2:]


def speaking_moment(opening: np.ndarray) -> int:
    """The frame to show of a clip ``(N,)``: the mouth is open, but not as far as it ever goes."""
    return int(np.abs(opening - 0.6 * opening.max()).argmin())
