"""What a listener hears of a recording: no constant offset, and speech at a level that can be understood.

Ordinary recordings pass unchanged, so that the network hears what it was trained on.
"""

import math
from collections.abc import Callable

import numpy as np

RATE = 16_000
WINDOW = 1600
"""0.1 s: what the mean of such a window holds lies below 10 Hz, where nobody hears or speaks."""

OFFSET_PART = 0.25
"""An offset is removed if its effective value is more than this part of the sound's; voices stay far below."""

STEP = 1 / 32768
"""One step of 16 bits."""

FRAME = 320
QUIET_DB = -50.0
"""Speech whose loud moments (95 % of frames of 20 ms are below) are fainter is made louder..."""

USUAL_DB = -26.0
"""...to this level, the nominal one of speech (ITU-T P.56 levels of the recordings that recognisers learn from)."""

FAINTEST_DB = -90.0
"""Below this, where the steps of 16 bits are, there is only noise."""

VARIED_DB = 12.0
"""The level of speech varies at least so much between its loud moments and its pauses; that of noise does not."""

_CHUNK = 400 * FRAME
"""Samples worked on at a time."""

LOWEST_HERTZ = 60.0
"""What lies below is no voice: the lowest voices begin at 80 Hz."""

_LEAST_FILTERED = 64
"""Samples; the filter needs some."""

_MARGIN = RATE // 2
"""Samples around a part that is filtered alone; the filter forgets what lies further away."""


def as_heard(samples: np.ndarray, name: str, notice: Callable[[str], None]) -> np.ndarray:
    """Speech for a network that learnt from ordinary recordings.

    Args:
        samples: mono at 16 kHz, float32 ``(n,)``; changed in place if there is need.
        name: what messages call the sound.
        notice: hears what was done.

    Returns:
        `samples`, or what was made of them.
    """
    offset = _offset(samples)
    if offset:
        samples = without_offset(samples)
        if np.abs(samples).max(initial=0.0) >= STEP:
            notice(f"{name} has a constant or slowly changing offset (effective value {offset:.3g}); it is removed.")
    level = _quiet_level(frame_levels(samples))
    rumble = ""
    if level is None:
        level = _quiet_level(audible_levels(samples))
        if level is not None:
            rumble = " and without the rumble or hum over it"
            samples = audible(samples).astype(np.float32)
    if level is not None:
        gain = USUAL_DB - level
        notice(
            f"{name} is very quiet ({level:.0f} dB of full scale): the network hears it {gain:.0f} dB louder{rumble}."
        )
        samples *= np.float32(10 ** (gain / 20))
    return samples


def _offset(samples: np.ndarray) -> float:
    """Effective value of an offset that is to be removed; 0 if there is none to speak of."""
    whole = len(samples) // WINDOW * WINDOW
    if not whole:
        return 0.0
    slow = total = 0.0
    for start in range(0, whole, _CHUNK):
        part = samples[start : min(start + _CHUNK, whole)].astype(np.float64)
        slow += WINDOW * float(np.square(part.reshape(-1, WINDOW).mean(axis=1)).sum())
        total += float(np.square(part).sum())
    offset, rest = math.sqrt(slow / whole), math.sqrt(max(total - slow, 0.0) / whole)
    return offset if offset > max(OFFSET_PART * rest, STEP) else 0.0


def without_offset(samples: np.ndarray) -> np.ndarray:
    """Take from `samples` ``(n,)``, in place, their moving average, twice over 0.1 s: a high-pass of 6 Hz."""
    margin = 2 * WINDOW
    before = samples[:0].astype(np.float64)  # what stood there before it was changed
    for start in range(0, len(samples), _CHUNK):
        end = min(start + _CHUNK, len(samples))
        part = np.concatenate([before, samples[start : end + margin]])
        slow = _moving_mean(_moving_mean(part))
        here = slice(len(before), len(before) + end - start)
        samples[start:end] = (part - slow)[here]
        before = part[: here.stop][-margin:]
    return samples


def _moving_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the window around each value; the window is cut off at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low = np.maximum(places - WINDOW // 2, 0)
    high = np.minimum(places + WINDOW // 2 + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def frame_levels(samples: np.ndarray, length: int = FRAME) -> np.ndarray:
    """Level in dB of full scale of each whole frame of `length` samples."""
    count, many = len(samples) // length, max(_CHUNK // length, 1)
    power = np.empty(count)
    for start in range(0, count, many):
        end = min(start + many, count)
        frames = samples[start * length : end * length].reshape(-1, length).astype(np.float64)
        power[start:end] = np.square(frames).mean(axis=1)
    return 10 * np.log10(power + 1e-12)


def audible(samples: np.ndarray) -> np.ndarray:
    """`samples` at 16 kHz ``(n,)`` without constant offsets, rumble and most of mains hum, which are no voice.

    A Butterworth high-pass of order 4 at :data:`LOWEST_HERTZ`, forwards and backwards, so that nothing is delayed.

    Returns:
        float64 ``(n,)``.
    """
    from scipy.signal import butter, sosfiltfilt

    if len(samples) <= _LEAST_FILTERED:
        return samples - samples.mean(dtype=np.float64) if len(samples) else samples.astype(np.float64)
    sections = butter(4, LOWEST_HERTZ, "highpass", fs=RATE, output="sos")
    return sosfiltfilt(sections, samples.astype(np.float64), padlen=min(WINDOW, len(samples) - 1))


def audible_levels(samples: np.ndarray, length: int = FRAME) -> np.ndarray:
    """:func:`frame_levels` of what is :func:`audible`, a part at a time."""
    whole = len(samples) // length * length
    step = max(_CHUNK // length, 1) * length
    levels = []
    for start in range(0, whole, step):
        first, end = max(start - _MARGIN, 0), min(start + step, whole)
        part = audible(samples[first : end + _MARGIN])
        levels.append(frame_levels(part[start - first : end - first], length))
    return np.concatenate(levels) if levels else np.empty(0)


def _quiet_level(levels: np.ndarray) -> float | None:
    """Level of speech that is to be made louder; `None` for what is loud enough, or is no speech."""
    if not len(levels):
        return None
    low, loud = np.percentile(levels, [5, 95])
    return float(loud) if FAINTEST_DB < loud < QUIET_DB and loud - low >= VARIED_DB else None
