"""Curves in face units, and where the head puts them in the picture."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Placement:
    """Face units to pixels: ``linear @ point + shift + depth * parallax``.

    Args:
        linear: rotation and scale, ``(2, 2)``.
        shift: where the middle of the face lies, ``(2,)``.
        parallax: how far a point one face unit nearer to the viewer moves, ``(2,)``.
    """

    linear: np.ndarray
    shift: np.ndarray
    parallax: np.ndarray

    def __call__(self, points: np.ndarray, depth: float = 0.0) -> np.ndarray:
        """The pixels of `points` ``(..., 2)``, which stand `depth` out of the plane of the face."""
        return points @ self.linear.T + (self.shift + depth * self.parallax)

    @property
    def unit(self) -> float:
        """Pixels in a face unit."""
        return float(np.hypot(*self.linear[:, 0]))

    def scaled(self, factor: float) -> "Placement":
        """The same in a picture `factor` times as large."""
        return Placement(self.linear * factor, self.shift * factor, self.parallax * factor)

    def moved(self, x: float, y: float) -> "Placement":
        """The same in a picture whose corner lies at pixel (x, y) of this one."""
        return Placement(self.linear, self.shift - (x, y), self.parallax)


def spline(points: np.ndarray, per_segment: int = 6, closed: bool = False) -> np.ndarray:
    """A Catmull-Rom curve through `points` ``(n, 2)``.

    Returns:
        ``((n - 1) * per_segment + 1, 2)``, or ``(n * per_segment, 2)`` if closed.
    """
    points = np.asarray(points, float)
    t = np.arange(per_segment)[:, None] / per_segment
    basis = np.hstack((-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)) / 2
    if closed:
        knots = np.concatenate((points[-1:], points, points[:2]))
    else:
        knots = np.concatenate((2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]))
    windows = np.stack([knots[i : len(knots) - 3 + i] for i in range(4)], 1)
    curve = (basis @ windows).reshape(-1, 2)
    return curve if closed else np.concatenate((curve, points[-1:]))


def shifted(points: np.ndarray, x: float, y: float) -> np.ndarray:
    """`points` ``(..., 2)``, moved."""
    return points + np.array((x, y))


def mirrored(points: np.ndarray) -> np.ndarray:
    """A curve from left to right from its left half, which ends on the axis or short of it."""
    points = np.asarray(points, float)
    right = points[::-1] * (-1, 1)
    return np.concatenate((points, right[1:] if points[-1, 0] == 0 else right))


def ellipse(x: float, y: float, width: float, height: float, points: int = 20) -> np.ndarray:
    """An ellipse with the half axes `width` and `height`, ``(points, 2)``."""
    angle = np.arange(points) * (2 * np.pi / points)
    return np.stack((x + width * np.cos(angle), y + height * np.sin(angle)), 1)


def ribbon(line: np.ndarray, thickness: np.ndarray) -> np.ndarray:
    """The outline of a band along `line` ``(n, 2)`` that is `thickness` ``(n,)`` wide, ``(2 n, 2)``."""
    along = np.gradient(line, axis=0)
    across = np.stack((along[:, 1], -along[:, 0]), 1) / np.linalg.norm(along, axis=1, keepdims=True)
    half = across * thickness[:, None] / 2
    return np.concatenate((line + half, (line - half)[::-1]))
