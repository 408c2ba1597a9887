"""Beards, between the skin and the mouth."""

from collections.abc import Sequence

import numpy as np

from dicetalk.drawn.faces.geometry import shifted, spline
from dicetalk.drawn.faces.head import dropped, nose_tip, outline
from dicetalk.drawn.faces.identity import Identity
from dicetalk.drawn.faces.mouth import Lips
from dicetalk.drawn.faces.paint import Pen, shade


def paint_beard(pen: Pen, person: Identity, units: dict[str, float], shape: Lips) -> None:
    """Paint beard and moustache, if the person has any; before the mouth."""
    kind = person.extras.beard
    if kind == "none":
        return
    jaw, colour = units["jaw_open"], shade(person.hair.colour, 0.9)
    if kind in ("stubble", "full"):
        edge = outline(person.shape)
        low = edge[edge[:, 1] > 0.1]
        cheek = person.shape.cheek
        line = _mirrored_line(((-cheek, 0.1), (-0.8 * cheek, 0.32), (-0.5, 0.44), (-0.3, 0.4), (0, 0.38)))
        order = np.argsort(np.arctan2(low[:, 0], low[:, 1] - 0.1))
        area = dropped(np.concatenate((low[order] * (0.98, 1), line[::-1] if low[order][0, 0] < 0 else line)), jaw)
        pen.tint(area, colour, 0.3 if kind == "stubble" else 0.88, 0.1, 0.04)
        if kind == "full":
            rng = np.random.default_rng(person.hair.seed)
            roots = dropped(rng.uniform((-0.62, 0.5), (0.62, 1.0), (70, 2)), jaw)
            inside = np.abs(roots[:, 0]) < 0.75 - 0.55 * (roots[:, 1] - 0.45).clip(0)
            hairs = [np.stack((root, shifted(root, 0.12 * root[0], 0.07))) for root in roots[inside]]
            pen.stroke(hairs, shade(colour, 1.35), 0.012, 0.1)
    if kind == "goatee":
        low = person.shape.chin_y
        half = np.array(((-0.1, 0.66), (-0.19, 0.76), (-0.21, low - 0.04), (-0.1, low + 0.04), (0, low + 0.05)))
        chin = dropped(np.concatenate((_mirrored_line(half), [[0, 0.7]])), jaw)
        pen.tint(chin, colour, 0.85, 0.15, 0.025)
    if kind in ("moustache", "goatee", "full"):
        tip = nose_tip(person, units)
        half = shape.top[len(shape.top) // 2 :]
        over = np.array(((0, tip[1] + 0.1), (0.14, tip[1] + 0.11), (half[-1, 0] + 0.05, half[-1, 1] + 0.02)))
        under = shifted(half[::-2], 0, 0.012)
        right = np.concatenate((spline(over, 5), under))
        centre = half[0, 0]
        for points in (right, np.stack((2 * centre - right[:, 0], right[:, 1]), 1)):
            pen.tint(points, colour, 0.88, 0.22, 0.012)


def _mirrored_line(left: Sequence[tuple[float, float]] | np.ndarray) -> np.ndarray:
    """A smooth line from its left half."""
    points = np.array(left)
    return spline(np.concatenate((points, points[-2::-1] * (-1, 1))), 4)
