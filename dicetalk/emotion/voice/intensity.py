"""How intense a voice is over time, compared with how its speaker speaks.

Five measures of the neighbourhood of each moment (loudness, pitch, its range, spectral tilt, pace) are compared with
the speaker's own average and variation. Louder, higher, livelier, brighter and faster is what anger, joy, fear and
surprise have in common (arousal); sadness goes the other way.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dicetalk.emotion.mix import MAX_WEIGHT
from dicetalk.emotion.track import MODEL_FPS, Curve
from dicetalk.emotion.voice.features import STEPS_PER_SECOND, VoiceFeatures
from dicetalk.errors import EmotionError, SpeechError

MEASURES = ("loudness", "pitch", "pitch range", "tilt", "pace")
_WEIGHTS = np.array([0.35, 0.30, 0.10, 0.15, 0.10])
_LIVELINESS = np.array([0.6, 0.0, 0.0, 0.0, 0.4])
_LEAST_SCALE = np.array([3.0, 2.0, 1.0, 2.0, 0.25])
"""In dB, semitones, semitones, dB, dB: an even voice is not taken to be lively because it varies a little."""

_WINDOW_SECONDS = np.array([0.25, 0.35, 0.7, 0.35, 0.7])
"""Standard deviations of the neighbourhoods; range and pace need more than a syllable."""

BREATH_SECONDS = 0.3
"""Shorter silences, between words, do not count as silence."""

DIRECTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "louder": lambda deviations: deviations @ _WEIGHTS,
    "softer": lambda deviations: -deviations @ _WEIGHTS,
    "either": lambda deviations: np.sqrt(deviations**2 @ _WEIGHTS) - 1,
}
"""Which voice counts as more intense, from deviations ``(T, 5)`` in the speaker's standard deviations: the aroused one,
the quiet one (for sadness), or any that departs from the ordinary."""


@dataclass(frozen=True)
class IntensityScale:
    """What the voice is turned into.

    Args:
        silence: intensity where nobody speaks; also the lowest.
        ordinary: of the speaker's ordinary voice.
        highest: what the most intense voice comes near to.
        smoothing: standard deviation, in seconds, of the Gaussian that the curve is blurred with.

    Raises:
        EmotionError: not ``0 <= silence <= ordinary <= highest <= 2``, or the smoothing is outside 0.05 to 5 s.
    """

    silence: float = 0.25
    ordinary: float = 0.8
    highest: float = 1.4
    smoothing: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.silence <= self.ordinary <= self.highest <= MAX_WEIGHT:
            raise EmotionError(
                f"The intensity of silence, ordinary voice and highest are {self.silence:g}, {self.ordinary:g} and "
                f"{self.highest:g}; expected 0 to {MAX_WEIGHT:g}, none lower than the one before."
            )
        if not 0.05 <= self.smoothing <= 5:
            raise EmotionError(f"The smoothing of the voice is {self.smoothing:g} s; expected 0.05 to 5 s.")


@dataclass(frozen=True, eq=False)
class Speaker:
    """How somebody speaks: mean and standard deviation of the :data:`MEASURES`, each float64 ``(5,)``."""

    mean: np.ndarray
    deviation: np.ndarray


def describe_speaker(recordings: Sequence[VoiceFeatures]) -> Speaker:
    """A speaker's average and variation, from recordings of their ordinary voice; silences do not count.

    Raises:
        SpeechError: nobody speaks in them.
    """
    rows = [measures[speaking] for measures, speaking in map(_local_measures, recordings)]
    spoken = np.concatenate(rows) if rows else np.zeros((0, len(MEASURES)))
    if not len(spoken):
        raise SpeechError("Nobody speaks in the recordings of the speaker: give ordinary speech of a few seconds.")
    return Speaker(spoken.mean(axis=0), np.maximum(spoken.std(axis=0), _LEAST_SCALE))


def voice_intensity(
    features: VoiceFeatures,
    speaker: Speaker | None = None,
    scale: IntensityScale | None = None,
    direction: str = "louder",
) -> Curve:
    """The intensity of a voice at the model's frames.

    :func:`dicetalk.emotion.algebra.scale` multiplies it into a track.

    Args:
        features: of the speech.
        speaker: what the voice is compared with; if none, the same speech, so that only its changes count.
        scale: what comes out; :class:`IntensityScale`'s defaults if none.
        direction: one of :data:`DIRECTIONS`.

    Raises:
        EmotionError: the direction is unknown.
    """
    if direction not in DIRECTIONS:
        raise EmotionError(f"The direction {direction!r} is unknown. Known: {', '.join(DIRECTIONS)}.")
    return _intensity(features, speaker, scale or IntensityScale(), DIRECTIONS[direction])


def voice_liveliness(features: VoiceFeatures, scale: IntensityScale) -> Curve:
    """Loudness and pace of a voice alone, compared with the same speech, at the model's frames.

    Args:
        features: of the speech.
        scale: numbers of silence, of ordinary and of the loudest and fastest voice.
    """
    return _intensity(features, None, scale, lambda deviations: deviations @ _LIVELINESS)


def _intensity(
    features: VoiceFeatures,
    speaker: Speaker | None,
    scale: IntensityScale,
    score_of: Callable[[np.ndarray], np.ndarray],
) -> Curve:
    measures, speaking = _local_measures(features)
    if not speaking.any():
        return Curve.uniform(np.full(len(measures), scale.silence))
    speaker = speaker or describe_speaker([features])
    score = np.tanh(score_of((measures - speaker.mean) / speaker.deviation))
    span = np.where(score > 0, scale.highest - scale.ordinary, scale.ordinary - scale.silence)
    intensity = scale.ordinary + score * span
    presence = _presence(features)
    return Curve.uniform(_blur(scale.silence + presence * (intensity - scale.silence), scale.smoothing * MODEL_FPS))


def _local_measures(features: VoiceFeatures) -> tuple[np.ndarray, np.ndarray]:
    """The :data:`MEASURES` around each of the model's frames ``(T, 5)``, and where somebody speaks, bool ``(T,)``.

    Where nothing is voiced nearby, a measure takes the average of the whole speech.
    """
    active, voiced = features.active, features.voiced
    pitch = np.where(voiced, features.pitch, 0)
    columns = [
        _local_mean(features.loudness, active, _WINDOW_SECONDS[0]),
        _local_mean(pitch, voiced, _WINDOW_SECONDS[1]),
        np.sqrt(
            np.maximum(
                _local_mean(pitch**2, voiced, _WINDOW_SECONDS[2]) - _local_mean(pitch, voiced, _WINDOW_SECONDS[2]) ** 2,
                0,
            )
        ),
        _local_mean(features.tilt, voiced, _WINDOW_SECONDS[3]),
        _local_mean(features.flux, active, _WINDOW_SECONDS[4]),
    ]
    moments = _moments(len(features))
    return np.stack(columns, axis=1)[moments], active[moments]


def _local_mean(values: np.ndarray, counted: np.ndarray, seconds: float) -> np.ndarray:
    """Average of the counted `values` near each step; far from all of them their overall average."""
    if not counted.any():
        return np.zeros(len(values))
    whole = values[counted].mean()
    weight = _blur(counted.astype(np.float64), seconds * STEPS_PER_SECOND)
    total = _blur(np.where(counted, values - whole, 0.0), seconds * STEPS_PER_SECOND)
    return whole + total / (weight + 0.02)


def _presence(features: VoiceFeatures) -> np.ndarray:
    """1 where somebody speaks, 0 in silence, with soft edges and short silences closed; at the model's frames."""
    reach = round(BREATH_SECONDS * STEPS_PER_SECOND / 2)
    near = np.convolve(np.pad(features.active, reach), np.ones(2 * reach + 1), "valid") > 0
    return _blur(near.astype(np.float64), 0.08 * STEPS_PER_SECOND)[_moments(len(features))]


def _moments(steps: int) -> np.ndarray:
    """The steps at the model's frames."""
    return np.arange(0, steps, round(STEPS_PER_SECOND / MODEL_FPS))


def _blur(values: np.ndarray, deviation: float) -> np.ndarray:
    """Gaussian blur of `values` ``(n,)``, its ends held."""
    reach = math.ceil(4 * deviation)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    return np.convolve(np.pad(values, reach, mode="edge"), kernel / kernel.sum(), "valid")
