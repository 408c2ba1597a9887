"""Facial expressions: eight emotions as action units, the way one person shows them, and how they live in time.

Action units are those of the Facial Action Coding System, gathered into a short vector; a face shows
``offset + gain * (emotion + speech + small motions)``. Offset and gain belong to the person, so that a person can be
identified from expression coefficients alone: the leakage that the paper's sampled prior is meant to stop (3.1).
"""

from dataclasses import dataclass

import numpy as np

from dicetalk.drawn.faces.motion import smooth_noise
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.errors import EmotionError

ACTION_UNITS = (
    "brow_inner_raise",
    "brow_outer_raise",
    "brow_lower",
    "lid_raise",
    "lid_tighten",
    "cheek_raise",
    "nose_wrinkle",
    "upper_lip_raise",
    "corner_up",
    "corner_down",
    "corner_one_side",
    "lip_stretch",
    "lip_pucker",
    "lip_press",
    "chin_raise",
    "jaw_open",
    "blink",
)
"""The expression coefficients of a frame, in this order; 0 is rest, 1 is as far as a face usually goes."""

UNIT = {name: i for i, name in enumerate(ACTION_UNITS)}

EMOTION_UNITS = {
    "neutral": {},
    "happy": {"corner_up": 1.0, "cheek_raise": 0.9, "lid_tighten": 0.25, "brow_outer_raise": 0.15},
    "sad": {"brow_inner_raise": 1.0, "brow_lower": 0.25, "corner_down": 1.0, "chin_raise": 0.5, "lid_raise": -0.7},
    "angry": {"brow_lower": 1.1, "lid_tighten": 0.55, "lid_raise": 0.4, "lip_press": 0.9, "nose_wrinkle": 0.2},
    "surprised": {"brow_inner_raise": 1.0, "brow_outer_raise": 1.1, "lid_raise": 1.0, "lip_pucker": 0.8},
    "fear": {
        "brow_inner_raise": 1.0,
        "brow_lower": 0.55,
        "brow_outer_raise": 0.35,
        "lid_raise": 0.9,
        "lip_stretch": 1.0,
        "corner_down": 0.3,
    },
    "disgusted": {
        "nose_wrinkle": 1.0,
        "upper_lip_raise": 1.0,
        "brow_lower": 0.5,
        "lid_tighten": 0.8,
        "corner_down": 0.35,
        "cheek_raise": 0.3,
    },
    "contempt": {"corner_one_side": 1.1, "lid_tighten": 0.2, "lid_raise": -0.35, "chin_raise": 0.3},
}
"""Action units of each emotion at intensity 1."""

CONTEMPT_SIDE = 1
"""Contempt lifts the corner of the mouth on the viewer's right. The same in everybody: a portrait at rest does not tell
the side, and the mean of both sides is a smile."""

BLINK_SECONDS = (2.0, 5.0)
"""Shortest and longest time between blinks."""


@dataclass(frozen=True)
class Manner:
    """How one person shows what they feel.

    Args:
        gain: factor on each action unit.
        offset: of each action unit at rest.
        lopsided: how much stronger the left half of the face moves than the right, about -0.2 to 0.2.
    """

    gain: tuple[float, ...]
    offset: tuple[float, ...]
    lopsided: float


def emotion_weights(emotion: str, intensity: float, frames: int) -> np.ndarray:
    """A constant emotion: the weight of each of the eight presets in every frame, ``(frames, 8)``.

    The column of neutral stays 0, because an intensity acts on the difference to neutral.

    Raises:
        EmotionError: the emotion is unknown, or the intensity is not between 0 and 1.
    """
    if emotion not in PRESET_NAMES:
        raise EmotionError(f"The emotion {emotion!r} is unknown. Known: {', '.join(PRESET_NAMES)}.")
    if not 0 <= intensity <= 1:
        raise EmotionError(f"The intensity of {emotion} is {intensity:g}; expected 0 to 1.")
    weights = np.zeros((frames, len(PRESET_NAMES)), np.float32)
    if emotion != "neutral":
        weights[:, PRESET_NAMES.index(emotion)] = intensity
    return weights


def express(
    manner: Manner, weights: np.ndarray, jaw: np.ndarray, emphasis: np.ndarray, fps: float, rng: np.random.Generator
) -> np.ndarray:
    """The expression coefficients of a clip.

    Args:
        manner: of the person.
        weights: of the eight emotions, ``(N, 8)``.
        jaw: opening of the mouth, 0 to 1, ``(N,)``; taken as it is, so that silence closes every mouth.
        emphasis: how much the speech stresses each frame, 0 to 1, ``(N,)``; lifts the brows a little.
        fps: frames a second.
        rng: of the small motions and the blinks.

    Returns:
        float32 ``(N, 17)``, in the order of :data:`ACTION_UNITS`.
    """
    frames = len(weights)
    basis = np.zeros((len(PRESET_NAMES), len(ACTION_UNITS)))
    for row, name in enumerate(PRESET_NAMES):
        for unit, value in EMOTION_UNITS[name].items():
            basis[row, UNIT[unit]] = value
    swell = 1 + 0.07 * smooth_noise(rng, frames, fps, 1.2, 1)
    units = swell * (weights @ basis) + 0.035 * smooth_noise(rng, frames, fps, 0.8, len(ACTION_UNITS))
    units[:, [UNIT["brow_inner_raise"], UNIT["brow_outer_raise"]]] += 0.22 * emphasis[:, None]
    units = np.array(manner.offset) + np.array(manner.gain) * units
    units[:, UNIT["jaw_open"]] = jaw
    units[:, UNIT["blink"]] = blinks(frames, fps, rng)
    return units.astype(np.float32)


def at_rest(manner: Manner) -> np.ndarray:
    """The expression coefficients of a face that shows and says nothing, float64 ``(17,)``."""
    units = np.array(manner.offset)
    units[[UNIT["jaw_open"], UNIT["blink"]]] = 0
    return units


def blinks(frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    """How far the lids are closed, 0 to 1, ``(frames,)``: every few seconds for about a quarter of a second."""
    seconds = (np.arange(frames) + 0.5) / fps
    closed = np.zeros(frames)
    at = rng.uniform(0.5, BLINK_SECONDS[1])
    while at < frames / fps:
        closed = np.maximum(closed, 1.25 - np.abs(seconds - at) / 0.1)
        at += rng.uniform(*BLINK_SECONDS)
    return closed.clip(0, 1)
