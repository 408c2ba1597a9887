"""How the head moves, by slow random motion."""

from dataclasses import dataclass

import numpy as np

from dicetalk.drawn.faces.geometry import Placement
from dicetalk.emotion.prior import PRESET_NAMES

POSE = ("x", "y", "scale", "roll", "yaw", "pitch")
"""Shift in face units, size relative to rest, angles in radians (positive: clockwise, to the viewer's right, down)."""

SPREAD = np.array((0.02, 0.016, 0.012, 0.022, 0.09, 0.06))
EMOTION_POSE = {
    "sad": {"pitch": 0.12, "y": 0.03, "roll": 0.03},
    "angry": {"pitch": 0.05, "scale": 0.03},
    "surprised": {"pitch": -0.08, "scale": -0.015, "y": -0.02},
    "fear": {"scale": -0.025, "pitch": -0.03},
    "contempt": {"pitch": -0.1, "roll": -0.03},
    "happy": {"roll": 0.03},
}
"""How each emotion holds the head at intensity 1."""

PIXELS_PER_UNIT = 0.335
"""A face unit in widths of the picture."""

MIDDLE = (0.5, 0.5)
NECK = np.array((0.0, 1.25))
"""The head rolls about this point, in face units."""


def head_motion(
    weights: np.ndarray, emphasis: np.ndarray, fps: float, rng: np.random.Generator, liveliness: float = 1.0
) -> np.ndarray:
    """The pose of the head in every frame.

    Args:
        weights: of the eight emotions, ``(N, 8)``.
        emphasis: how much the speech stresses each frame, 0 to 1, ``(N,)``; the head nods with it.
        fps: frames a second.
        rng: of the motion.
        liveliness: factor on the motion that comes from nothing but chance.

    Returns:
        ``(N, 6)``, in the order of :data:`POSE`; zeros look straight out of the middle of the picture.
    """
    frames = len(weights)
    basis = np.array([[EMOTION_POSE.get(name, {}).get(part, 0.0) for part in POSE] for name in PRESET_NAMES])
    slow = smooth_noise(rng, frames, fps, 1.6, len(POSE))
    quick = smooth_noise(rng, frames, fps, 0.6, len(POSE))
    pose = weights @ basis + liveliness * SPREAD * (0.8 * slow + 0.25 * quick)
    pose[:, POSE.index("pitch")] += 0.06 * emphasis
    return pose


@dataclass(frozen=True)
class Pose:
    """One frame's pose; see :data:`POSE`."""

    x: float = 0.0
    y: float = 0.0
    scale: float = 0.0
    roll: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0

    def placement(self, size: float) -> Placement:
        """Where this pose puts the face in a picture of `size` pixels a side."""
        unit = PIXELS_PER_UNIT * size
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        turn = (1 + self.scale) * np.array(((cos, -sin), (sin, cos)))
        shift = np.array((self.x, self.y)) + NECK - turn @ NECK
        parallax = turn @ (np.sin(self.yaw), np.sin(self.pitch))
        return Placement(unit * turn, unit * shift + size * np.array(MIDDLE), unit * parallax)


def smooth_noise(rng: np.random.Generator, frames: int, fps: float, seconds: float, channels: int) -> np.ndarray:
    """Band-limited noise of mean 0 and deviation about 1: random values every `seconds`, joined by a smooth curve.

    Returns:
        ``(frames, channels)``.
    """
    at = np.arange(frames) / (fps * seconds)
    knots = rng.normal(0, 1, (int(at[-1]) + 2, channels))
    left = at.astype(int)
    done = (0.5 - 0.5 * np.cos(np.pi * (at - left)))[:, None]
    # The curve lies nearer to 0 between knots than at them; the divisor makes up for that on average.
    return (knots[left] * (1 - done) + knots[left + 1] * done) / np.sqrt((1 - done) ** 2 + done**2)
