"""Opening of the mouth: the curve that speech asks for, and how well a shown curve follows it."""

from collections.abc import Sequence

import numpy as np

WINDOW_SECONDS = 0.032
LOOKS_PER_FRAME = 8
QUIET_DB, LOUD_DB = -48.0, -20.0
"""Level of full scale at which the mouth is closed, and at which loudness opens it no further."""

BAND_HZ = (200.0, 1100.0)
"""Where the first formant lies."""

CLOSE_HZ, OPEN_HZ = 330.0, 640.0
"""Centre of that band's energy for closed vowels, as in "see", and for open ones, as in "far"."""

CLOSE_VOWEL = 0.45
"""How far closed vowels open the mouth."""

MAX_LAG = 4
"""Frames by which a mouth is tried to be late or early."""


def mouth_curve(sound: np.ndarray, sample_rate: int, frames: int, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """The opening of the mouth and the stress of the speech in every frame.

    Both depend on nothing but the sound within the frame and its neighbours. Loudness opens the mouth, the more the
    higher the first formant is; silence closes it.

    Args:
        sound: mono, full scale at 1, ``(samples,)``.
        sample_rate: samples a second.
        frames: video frames; frame i shows the time from ``i / fps`` to ``(i + 1) / fps``.
        fps: frames a second.

    Returns:
        Opening and stress, each float32 ``(frames,)``, 0 to 1.
    """
    length = round(WINDOW_SECONDS * sample_rate)
    starts = ((np.arange(frames * LOOKS_PER_FRAME) + 0.5) / (LOOKS_PER_FRAME * fps) * sample_rate).astype(int)
    padded = np.pad(sound, (length // 2, length))
    windows = np.lib.stride_tricks.sliding_window_view(padded, length)[starts.clip(0, len(sound))]
    power = np.abs(np.fft.rfft(windows * np.hanning(length).astype(np.float32))) ** 2
    frequency = np.fft.rfftfreq(length, 1 / sample_rate)
    decibels = 10 * np.log10((windows**2).mean(1) + 1e-10)
    level = ((decibels - QUIET_DB) / (LOUD_DB - QUIET_DB)).clip(0, 1)
    band = (frequency >= BAND_HZ[0]) & (frequency <= BAND_HZ[1])
    centre = power[:, band] @ frequency[band] / (power[:, band].sum(1) + 1e-10)
    vowel = ((centre - CLOSE_HZ) / (OPEN_HZ - CLOSE_HZ)).clip(0, 1)
    # Hisses are loud with little energy in the band, and hardly open the mouth.
    voiced = (2 * power[:, band].sum(1) / (power.sum(1) + 1e-10)).clip(0.15, 1)
    opening = (level * voiced * (CLOSE_VOWEL + (1 - CLOSE_VOWEL) * vowel)).reshape(frames, -1).mean(1)
    stress = (np.convolve(level.reshape(frames, -1).mean(1), np.full(3, 1 / 3), "same") - 0.55).clip(0) / 0.45
    return _smoothed(opening), stress.clip(0, 1).astype(np.float32)


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


def _smoothed(curve: np.ndarray) -> np.ndarray:
    soft = np.convolve(curve, (0.12, 0.76, 0.12), "same")
    return np.where(soft < 0.03, 0, soft).astype(np.float32)
