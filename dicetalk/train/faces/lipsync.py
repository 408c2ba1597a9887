"""What a face does because it speaks, from the sound alone."""

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


def _smoothed(curve: np.ndarray) -> np.ndarray:
    soft = np.convolve(curve, (0.12, 0.76, 0.12), "same")
    return np.where(soft < 0.03, 0, soft).astype(np.float32)
