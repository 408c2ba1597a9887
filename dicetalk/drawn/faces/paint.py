"""Anti-aliased drawing in face units."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from dicetalk.drawn.faces.geometry import Placement

SHIFT = 4
"""Fractional bits of OpenCV's coordinates."""


class Pen:
    """Draws on `pixels` (uint8, ``(H, W)`` or ``(H, W, 3)``) what is given in face units."""

    def __init__(self, pixels: np.ndarray, place: Placement):
        self.pixels, self.place = pixels, place

    def fill(self, points: np.ndarray, colour: Sequence[float] | float, depth: float = 0.0) -> None:
        """A filled polygon."""
        cv2.fillPoly(self.pixels, [self._fixed(points, depth)], _scalar(colour), cv2.LINE_AA, SHIFT)

    def stroke(
        self, curves: Sequence[np.ndarray], colour: Sequence[float] | float, width: float, depth: float = 0.0
    ) -> None:
        """Curves of one colour and width."""
        pixels = max(round(width * self.place.unit), 1)
        lines = [self._fixed(curve, depth) for curve in curves]
        cv2.polylines(self.pixels, lines, False, _scalar(colour), pixels, cv2.LINE_AA, SHIFT)

    def flood(self, colour: Sequence[float]) -> None:
        """The whole picture in one colour."""
        self.pixels[:] = colour

    def tint(
        self, points: np.ndarray, colour: Sequence[float], alpha: float, depth: float = 0.0, soft: float = 0.0
    ) -> None:
        """A polygon that lets what is under it shine through, with an edge blurred by `soft` face units."""
        self.inside(points, lambda pen: pen.flood(colour), depth, alpha, soft)

    def inside(
        self,
        points: np.ndarray,
        paint: Callable[["Pen"], None],
        depth: float = 0.0,
        alpha: float = 1.0,
        soft: float = 0.0,
    ) -> None:
        """What `paint` draws, seen only inside the polygon, whose edge is blurred by `soft` face units."""
        outline = self._fixed(points, depth)
        blur = soft * self.place.unit
        edge = 1 + int(2.5 * blur)
        low = np.maximum((outline.min(0) >> SHIFT) - edge, 0)
        high = np.minimum((outline.max(0) >> SHIFT) + edge + 2, self.pixels.shape[1::-1])
        if (low >= high).any():
            return
        (x0, y0), (x1, y1) = low.tolist(), high.tolist()
        under = self.pixels[y0:y1, x0:x1]
        over = under.copy()
        paint(Pen(over, self.place.moved(x0, y0)))
        mask: np.ndarray = np.zeros(under.shape[:2], np.uint8)
        corner = np.array([x0, y0], np.int32) << SHIFT
        cv2.fillPoly(mask, [outline - corner], round(255 * alpha), cv2.LINE_AA, SHIFT)
        if blur > 0:
            mask = cv2.GaussianBlur(mask, (0, 0), blur)
        weight = mask * np.float32(1 / 255)
        under[...] = cv2.blendLinear(over, under, weight, 1 - weight)

    def _fixed(self, points: np.ndarray, depth: float) -> np.ndarray:
        # Pixel 0 of OpenCV's coordinates is the middle of the first pixel.
        return np.rint((self.place(points, depth) - 0.5) * (1 << SHIFT)).astype(np.int32)


class Relief:
    """Light and shadow on the skin: shapes at three softnesses, drawn in grey around 128 and added up.

    Args:
        size: of the picture, half as wide and high as the canvas.
        place: on the picture.
    """

    SOFTNESS = (0.012, 0.045, 0.13)
    """Deviation of the blur in face units: creases, folds, forms."""

    def __init__(self, size: int, place: Placement):
        self.place = place
        self.crease, self.fold, self.form = (Pen(np.full((size, size), 128, np.uint8), place) for _ in self.SOFTNESS)

    def light(self) -> np.ndarray:
        """The light's change, float32 ``(size, size)``: -1 to 1, 0 where nothing was drawn."""
        total = np.full(self.crease.pixels.shape, -3 * 128, np.float32)
        for pen, softness in zip((self.crease, self.fold, self.form), self.SOFTNESS, strict=True):
            total += cv2.GaussianBlur(pen.pixels, (0, 0), max(softness * self.place.unit, 0.3))
        return total / 128


def mix_colours(a: Sequence[float], b: Sequence[float], share: float) -> tuple[float, ...]:
    """The colour between `a` and `b` that holds `share` of `b`."""
    return tuple((1 - share) * x + share * y for x, y in zip(a, b, strict=True))


def shade(colour: Sequence[float], factor: float) -> tuple[float, ...]:
    """A lighter or darker colour."""
    return tuple(min(factor * c, 255.0) for c in colour)


def _scalar(colour: Sequence[float] | float) -> tuple[float, ...]:
    return tuple(colour) if isinstance(colour, Sequence) else (colour,)
