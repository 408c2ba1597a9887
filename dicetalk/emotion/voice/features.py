"""Loudness, pitch, spectral tilt and pace of speech, fifty times a second."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dicetalk.audio.level import FAINTEST_DB, QUIET_DB, USUAL_DB, audible, audible_levels
from dicetalk.audio.speech import SAMPLE_RATE
from dicetalk.hooks import SILENT, Hooks

HOP = 320
STEPS_PER_SECOND = SAMPLE_RATE / HOP
FRAME = 1024
"""Samples of a frame, 64 ms: two periods of the lowest pitch twice over."""

BLOCK_STEPS = 3000
MARGIN_STEPS = 25
"""Speech is measured a minute at a time, with half a second around it."""

PITCH_RANGE = (60.0, 500.0)
PITCH_REFERENCE = 100.0
VOICED_CORRELATION = 0.5
TILT_EDGE = 1000.0
SILENCE_DB = -100.0
ACTIVE_BELOW_PEAK_DB = 30.0
ACTIVE_ABOVE_FLOOR = 0.4
"""Of the way from the noise of the room, which fills the pauses, to the loud moments."""

STEADY_DB = 12.0
"""A sound whose level varies less has no pauses: it is all voice, or all noise."""

STEADY_AT_LEAST_DB = -55.0
"""It is noise if it is fainter than this."""


@dataclass(frozen=True, eq=False)
class VoiceFeatures:
    """A voice over time, at 50 Hz; each array is float64 ``(steps,)``.

    Args:
        loudness: level in dB of full scale.
        pitch: semitones over 100 Hz, NaN where nothing is voiced.
        tilt: level above 1 kHz in dB of that below; rises with vocal effort.
        flux: how fast the spectrum rises, in dB a step; rises with the pace of syllables.
    """

    loudness: np.ndarray
    pitch: np.ndarray
    tilt: np.ndarray
    flux: np.ndarray

    def __len__(self) -> int:
        return len(self.loudness)

    @property
    def active(self) -> np.ndarray:
        """Where somebody speaks: within 30 dB of the loud moments and well above the noise, bool ``(steps,)``.

        How loud the recording is as a whole hardly matters.
        """
        floor, peak = np.percentile(self.loudness, [5, 95])
        if peak - floor < STEADY_DB:
            return self.loudness > max(peak - ACTIVE_BELOW_PEAK_DB, STEADY_AT_LEAST_DB)
        above_noise = floor + ACTIVE_ABOVE_FLOOR * (peak - floor)
        return self.loudness > max(peak - ACTIVE_BELOW_PEAK_DB, above_noise, FAINTEST_DB)

    @property
    def voiced(self) -> np.ndarray:
        """Where there is a pitch as well, bool ``(steps,)``."""
        return self.active & np.isfinite(self.pitch)


def measure_voice(samples: np.ndarray, hooks: Hooks = SILENT) -> VoiceFeatures:
    """Measure speech a minute at a time, so that memory does not grow with it beyond the result.

    Args:
        samples: mono at 16 kHz, float32 ``(n,)``.
        hooks: hears the stage ``voice``, in blocks.

    Raises:
        Cancelled: the caller asked to stop.
    """
    steps = -(-len(samples) // HOP)
    starts = range(0, steps, BLOCK_STEPS)
    blocks = []
    gain = _gain(samples)
    for number, start in enumerate(starts, start=1):
        hooks.check()
        first, end = max(start - MARGIN_STEPS, 0), min(start + BLOCK_STEPS, steps)
        part = samples[first * HOP : (end + MARGIN_STEPS) * HOP]
        blocks.append(_measure(part, gain)[:, start - first : end - first])
        hooks.report("voice", number, len(starts))
    return VoiceFeatures(*np.concatenate(blocks, axis=1))


def _gain(samples: np.ndarray) -> float:
    """Factor that makes faint speech as loud as speech usually is; 1 for ordinary recordings."""
    levels = audible_levels(samples)
    loud = float(np.percentile(levels, 95)) if len(levels) else 0.0
    return 10 ** ((USUAL_DB - loud) / 20) if FAINTEST_DB < loud < QUIET_DB else 1.0


def _measure(samples: np.ndarray, gain: float) -> np.ndarray:
    """The four features of one block, ``(4, steps)``; `gain` brings faint speech to where spectra are compared."""
    import librosa  # takes a second

    padded = np.pad(audible(samples) * gain, FRAME // 2)
    frames = librosa.util.frame(padded, frame_length=FRAME, hop_length=HOP, axis=0)
    loudness = 10 * np.log10((frames**2).mean(axis=1) / gain**2 + 10 ** (SILENCE_DB / 10))
    power = np.abs(librosa.stft(padded, n_fft=FRAME, hop_length=HOP, center=False)) ** 2
    high = librosa.fft_frequencies(sr=SAMPLE_RATE, n_fft=FRAME) >= TILT_EDGE
    floor = 10 ** (SILENCE_DB / 10) * FRAME
    tilt = 10 * np.log10((power[high].sum(axis=0) + floor) / (power[~high].sum(axis=0) + floor))
    mel = librosa.power_to_db(
        librosa.feature.melspectrogram(S=power, sr=SAMPLE_RATE, n_mels=40), amin=1e-3, top_db=None
    )
    flux = librosa.onset.onset_strength(S=mel, sr=SAMPLE_RATE, hop_length=HOP, center=False)
    return np.stack([loudness, _pitch(librosa, padded, frames), tilt, flux])


def _pitch(librosa: Any, padded: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Semitones, NaN where a frame is not like itself one period later."""
    low, high = PITCH_RANGE
    hertz = librosa.yin(padded, fmin=low, fmax=high, sr=SAMPLE_RATE, frame_length=FRAME, hop_length=HOP, center=False)
    lag = np.round(SAMPLE_RATE / hertz).astype(int)[:, None]
    index = np.arange(FRAME - int(SAMPLE_RATE / low) - 1)
    now, later = frames[:, : len(index)], np.take_along_axis(frames, index + lag, axis=1)
    energy = np.sqrt((now**2).sum(axis=1) * (later**2).sum(axis=1))
    correlation = (now * later).sum(axis=1) / np.maximum(energy, 1e-9)
    inside = (hertz > low * 1.02) & (hertz < high * 0.98)
    return np.where((correlation > VOICED_CORRELATION) & inside, 12 * np.log2(hertz / PITCH_REFERENCE), np.nan)
