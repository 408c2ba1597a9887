"""Hair and beard: what lies behind the head, over the forehead and around the mouth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dicetalk.drawn.faces.geometry import ellipse, mirrored, shifted, spline
from dicetalk.drawn.faces.head import dropped, nose_tip, outline
from dicetalk.drawn.faces.identity import Identity
from dicetalk.drawn.faces.mouth import Lips
from dicetalk.drawn.faces.paint import Pen, mix_colours, shade

SAMPLES = 49
"""Points along the outer edge and along the hairline."""

LONG = ("bob", "long", "wavy")


@dataclass(frozen=True, eq=False)
class Haircut:
    """Hair in face units, drawn once for each person.

    Args:
        back: shapes behind the head and the neck.
        front: the shape over the head, ``(n, 2)``, or none.
        strands: lighter and darker curves on `front`, by their brightness.
        back_strands: the same behind the head.
        alpha: how much of the skin the hair covers.
    """

    back: tuple[np.ndarray, ...]
    front: np.ndarray | None
    strands: tuple[tuple[float, list[np.ndarray]], ...]
    back_strands: tuple[tuple[float, list[np.ndarray]], ...]
    alpha: float


def cut_hair(person: Identity) -> Haircut:
    """The haircut of `person`."""
    hair, shape = person.hair, person.shape
    if hair.style == "bald":
        return Haircut((), None, (), (), 0.0)
    rng = np.random.default_rng(hair.seed)
    outer, inner = (_along(points) for points in _edges(person))
    if hair.style in ("curly", "afro"):
        outer = _scalloped(outer, 0.05, 9 if hair.style == "curly" else 13)
        inner = _scalloped(inner, -0.03, 7)
    back = _back(person, outer)
    front = np.concatenate((outer, inner[::-1]))
    if hair.style == "bun":
        back = (*back, ellipse(0.1 * hair.side, shape.skull_y - 0.2, 0.27, 0.22))
    strands = _strands(rng, hair.style, outer, inner)
    back_strands = _strands(rng, "back", back[0] * (0.6, 1), back[0]) if hair.style in LONG else ()
    return Haircut(back, front, strands, back_strands, 0.72 if hair.style == "buzz" else 1.0)


def _edges(person: Identity) -> tuple[np.ndarray, np.ndarray]:
    """The outer edge and the hairline, control points from the left ear over the top to the right ear."""
    style, volume = person.hair.style, person.hair.volume
    shape, top = person.shape, person.shape.skull_y
    side = max(shape.cheek, shape.temple) + 0.01
    rise = {"buzz": 0.03, "receding": 0.05, "bun": 0.06, "short": 0.1, "fringe": 0.13, "bob": 0.13, "long": 0.11}
    up = volume * rise.get(style, 0.16)
    out = 0.01 + 0.45 * up
    if style == "afro":
        up, out = 0.24 + 0.14 * volume, 0.2 + 0.1 * volume
    elif style == "curly":
        up, out = 0.14 + 0.1 * volume, 0.08 + 0.05 * volume
    crown = [
        (-side - out, -0.12),
        (-side - 1.2 * out, -0.5),
        (-0.86 * side - out, -0.86),
        (-0.48 * side, top - 0.75 * up + 0.06),
        (0, top - up),
    ]
    # Sideburn, temple, forehead, middle.
    line = [(-side + 0.06, -0.02), (-0.9 * side, -0.4), (-0.72 * side, -0.7), (-0.36, -0.82), (0, -0.85)]
    if style == "receding":
        line[2:] = [(-0.7 * side, -0.86), (-0.32, -0.98), (0, -0.82)]
    if style in ("curly", "afro"):
        line[1:] = [(-0.88 * side, -0.42), (-0.72 * side, -0.66), (-0.36, -0.76), (0, -0.78)]
    if style == "bun":
        line[0] = (-side + 0.02, -0.16)
    if style == "fringe":
        line[1:] = [(-0.9 * side, -0.3), (-0.78 * side, -0.5), (-0.36, -0.56), (0, -0.55)]
    if style in LONG:
        low = {"bob": 0.72, "long": 1.5, "wavy": 1.3}[style]
        spread = {"bob": 0.1, "long": 0.04, "wavy": 0.14}[style]
        crown[:1] = [(-side - spread, low), (-side - spread - 0.03, 0.45 * low), (-side - out - 0.02, -0.1)]
        line[0] = (-0.93 * side, -0.1)
        line[:0] = [(-side + 0.16, low), (-0.98 * side + 0.04, 0.45 * low)]
        line[-2:] = [(-0.33, -0.84), (0, -0.98)]
    crown_all, line_all = mirrored(np.array(crown)), mirrored(np.array(line))
    middle = len(line) - 1
    if style in ("parted", "wavy") or (style == "bob" and person.hair.seed % 2):
        # Combed over from the parting: the forehead is bare on one side and covered on the other.
        sweep = np.array(((0.02, -0.1), (-0.12, -0.12), (0.1, 0.08), (0.08, 0.16), (0.02, 0.08)))
        line_all[middle - 2 : middle + 3] += sweep if style != "bob" else 0.8 * sweep
    if style == "quiff":
        crown_all[2:7] += np.array(((0, -0.04), (0.04, -0.12), (0.16, -0.16), (0.12, -0.1), (0.02, 0)))
        line_all[middle - 1 : middle + 2] += np.array(((0, -0.04), (0, -0.08), (0, -0.06)))
    if person.hair.side < 0:
        crown_all, line_all = (points[::-1] * (-1, 1) for points in (crown_all, line_all))
    return crown_all, line_all


def _back(person: Identity, outer: np.ndarray) -> tuple[np.ndarray, ...]:
    if person.hair.style not in LONG:
        return (outer,)
    low = outer[[0, -1]]
    return (np.concatenate((outer, spline(np.array((low[1], (0, low[1, 1] + 0.1), low[0])), 6)[1:-1])),)


def _along(points: np.ndarray) -> np.ndarray:
    """A smooth curve through `points`, with points at equal distances along it."""
    curve = spline(points, 8)
    length = np.concatenate(((0,), np.linalg.norm(np.diff(curve, axis=0), axis=1).cumsum()))
    at = np.linspace(0, length[-1], SAMPLES)
    return np.stack([np.interp(at, length, axis) for axis in curve.T], 1)


def _scalloped(curve: np.ndarray, height: float, curls: int) -> np.ndarray:
    fine = np.stack([np.interp(np.linspace(0, 1, 145), np.linspace(0, 1, len(curve)), axis) for axis in curve.T], 1)
    along = np.gradient(fine, axis=0)
    outwards = np.stack((along[:, 1], -along[:, 0]), 1) / np.linalg.norm(along, axis=1, keepdims=True)
    bumps = height * np.abs(np.sin(np.linspace(0, np.pi * curls, 145)))
    return (fine + outwards * bumps[:, None])[::3]


def _strands(
    rng: np.random.Generator, style: str, outer: np.ndarray, inner: np.ndarray
) -> tuple[tuple[float, list[np.ndarray]], ...]:
    """Curves between the outer edge and the hairline, in four brightnesses."""
    n = len(outer)
    if style in ("curly", "afro"):
        across, at = rng.uniform(0.06, 0.94, 70), rng.integers(1, n - 1, 70)
        centres = outer[at] * (1 - across[:, None]) + inner[at] * across[:, None]
        starts = rng.integers(0, 5, 70)
        curves = [ellipse(x, y, 0.05, 0.045, 12)[r : r + 7] for (x, y), r in zip(centres, starts, strict=True)]
    elif style in ("fringe", "quiff", "short", "buzz", "receding", "bun"):
        across = np.linspace(0.04, 0.98, 7)[:, None]
        curves = []
        for i in rng.permutation(n)[:40]:
            sway = int(np.clip(i + rng.integers(-2, 3), 0, n - 1))
            curves.append(outer[i] * (1 - across) + inner[sway] * across)
    else:
        shares = np.linspace(0.05, 0.95, 11) + rng.uniform(-0.03, 0.03, 11)
        rows = [outer * (1 - share) + inner * share for share in shares]
        starts = rng.integers(0, n // 2, 11)
        curves = [row[s : s + n // 2 + 4] for row, s in zip(rows, starts, strict=True)]
        curves += [row[::-1][s : s + n // 3] for row, s in zip(rows, starts[::-1], strict=True)]
    brightness = (0.7, 0.85, 1.25, 1.5)
    return tuple((value, curves[i :: len(brightness)]) for i, value in enumerate(brightness))


def paint_back(pen: Pen, person: Identity, cut: Haircut) -> None:
    """Paint the hair behind the head, in its own shadow."""
    for points in cut.back if cut.alpha == 1 else ():
        pen.fill(points, shade(person.hair.colour, 0.68), -0.35)
    _paint_strands(pen, person, cut.back_strands, 0.68, -0.35)


def paint_front(pen: Pen, person: Identity, cut: Haircut) -> None:
    """Paint the hair over the head."""
    if cut.front is None:
        return
    colour = person.hair.colour
    if cut.alpha < 1:
        pen.tint(cut.front, mix_colours(colour, person.skin, 0.1), cut.alpha, 0.05, soft=0.012)
        return
    pen.fill(cut.front, colour, 0.05)
    _paint_strands(pen, person, cut.strands, 1.0, 0.05)


def _paint_strands(
    pen: Pen, person: Identity, strands: tuple[tuple[float, list[np.ndarray]], ...], factor: float, depth: float
) -> None:
    for brightness, curves in strands:
        # Dark hair shines more, relative to its colour, than fair hair.
        gleam = 1 + (brightness - 1) * (0.4 if sum(person.hair.colour) > 330 else 1.0)
        pen.stroke(curves, shade(person.hair.colour, factor * gleam), 0.016, depth)


def shadow(cut: Haircut) -> np.ndarray | None:
    """The shape that the hair's shadow has on the forehead, before it is shifted."""
    return cut.front if cut.alpha == 1 else None


def paint_beard(pen: Pen, person: Identity, units: dict[str, float], shape: Lips) -> None:
    """Paint beard and moustache, if the person has any; before the mouth."""
    kind = person.extras.beard
    if kind == "none":
        return
    jaw, colour = units["jaw_open"], shade(person.hair.colour, 0.9)
    if kind in ("stubble", "full"):
        edge = outline(person.shape)
        lower = edge[edge[:, 1] > 0.1]
        cheek = person.shape.cheek
        line = _mirrored_line(((-cheek, 0.1), (-0.8 * cheek, 0.32), (-0.5, 0.44), (-0.3, 0.4), (0, 0.38)))
        rim = lower[np.argsort(np.arctan2(lower[:, 0], lower[:, 1] - 0.1))]
        area = dropped(np.concatenate((rim * (0.98, 1), line[::-1] if rim[0, 0] < 0 else line)), jaw)
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
