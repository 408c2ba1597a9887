"""The mouth: its shape, how it is drawn, and how far it is open in pixels."""

from dataclasses import dataclass

import numpy as np

from dicetalk.drawn.faces.expression import CONTEMPT_SIDE
from dicetalk.drawn.faces.geometry import ellipse, shifted, spline
from dicetalk.drawn.faces.head import nose_tip
from dicetalk.drawn.faces.identity import LIP_PALENESS, Identity
from dicetalk.drawn.faces.motion import PIXELS_PER_UNIT
from dicetalk.drawn.faces.paint import Pen, Relief, mix_colours, shade

OPENING = 0.3
"""Height of the fully open mouth in face units."""

INSIDE = (124.0, 8.0, 16.0)
"""Colour of the open mouth. Nothing else on a face is as much redder than green and blue: it can be measured."""

TONGUE = (150.0, 24.0, 34.0)
TEETH = (236, 230, 222)
DEPTH = 0.25
T = np.linspace(-1, 1, 17)
"""Along the mouth, from the viewer's left to the right."""

ROWS, COLUMNS = (0.57, 0.87), (0.3, 0.7)
"""Where the mouth can be, in heights and widths of the picture."""

MARGIN = 4.0
"""Redness below this belongs to lips, skin and noise."""

WIDEST = 0.06
"""The opening is measured over its highest columns, so many widths of the picture together."""

SEEN = 0.68
"""Share of the opening's height that is its dark inside, between the teeth and the tongue, in those columns."""


@dataclass(frozen=True, eq=False)
class Lips:
    """Four curves from left to right, each ``(17, 2)``: the lips' outer edges and the edges of the opening."""

    top: np.ndarray
    inner_top: np.ndarray
    inner_bottom: np.ndarray
    bottom: np.ndarray


def lips(person: Identity, units: dict[str, float]) -> Lips:
    """Where the lips are."""
    mouth, manner = person.mouth, person.manner
    pucker, press, stretch = (max(units[name], 0) for name in ("lip_pucker", "lip_press", "lip_stretch"))
    up, down, raised = units["corner_up"], units["corner_down"], units["upper_lip_raise"]
    one_side = max(units["corner_one_side"], 0)
    width = mouth.width * (1 + 0.26 * up + 0.3 * stretch - 0.42 * pucker - 0.12 * press - 0.08 * raised)
    corners = []
    for side in (-1, 1):
        strength = 1 - side * manner.lopsided
        y = side * mouth.slant + strength * (0.14 * down - 0.15 * up)
        curled = one_side if side == CONTEMPT_SIDE else 0.0
        corners.append((side * width * (1 + 0.3 * curled), y - 0.15 * curled))
    (left_x, left_y), (right_x, right_y) = corners
    share = (1 + T) / 2
    x = left_x * (1 - share) + right_x * share + 0.3 * person.nose.bend
    bend = np.abs(T) ** 1.7
    middle = mouth.y - 0.035 * units["chin_raise"] + 0.02 * up - 0.05 * max(raised, 0)
    rest = middle + (left_y * (1 - share) + right_y * share) * bend
    arch = (1 - T**2).clip(0)
    opening = OPENING * units["jaw_open"]
    thin = (1 - 0.6 * press) * (1 - 0.25 * stretch - 0.12 * max(up, 0)) * (1 + 0.3 * pucker)
    bow = 1 - mouth.bow * np.exp(-((T / 0.2) ** 2)) + 0.25 * mouth.bow * np.exp(-(((np.abs(T) - 0.35) / 0.25) ** 2))
    inner_top = rest - 0.2 * opening * arch**0.6 - 0.04 * max(raised, 0) * arch
    inner_bottom = inner_top + opening * arch**0.6
    top = inner_top - mouth.upper * thin * (1 - 0.35 * max(raised, 0)) * arch**0.7 * bow
    bottom = inner_bottom + mouth.lower * thin * (1 + 0.3 * max(units["chin_raise"], 0)) * arch**0.75
    return Lips(*(np.stack((x, y), 1) for y in (top, inner_top, inner_bottom, bottom)))


def model_mouth(relief: Relief, person: Identity, units: dict[str, float], shape: Lips) -> None:
    """Draw the folds beside the mouth, the groove above and the shadow below the lower lip."""
    tip = nose_tip(person, units)
    age = person.extras.age
    for side, corner in ((-1, shape.top[0]), (1, shape.top[-1])):
        curled = max(units["corner_one_side"], 0) if side == CONTEMPT_SIDE else 0.0
        pull = max(units["corner_up"], 0) + max(units["upper_lip_raise"], 0) + 0.7 * curled
        start = np.array((tip[0] + side * (person.nose.width + 0.03), tip[1] - 0.02))
        end = shifted(corner, side * 0.08, 0.02)
        half = shifted(0.5 * (start + end), side * (0.04 + 0.05 * pull), -0.01)
        fold = spline(np.stack((start, half, end)), 5)
        relief.fold.stroke([fold], 128 - min(16 + 26 * age + 46 * pull, 90), 0.045, 0.15)
        relief.crease.stroke(
            [corner[None] + np.array(((0, 0), (side * 0.035, 0.01 - 0.03 * curled)))], 70, 0.035, DEPTH
        )
    middle = shape.bottom[len(T) // 2]
    relief.fold.fill(ellipse(middle[0], middle[1] + 0.05, 0.16, 0.035), 80 - 20 * max(units["chin_raise"], 0), 0.2)
    groove = 0.5 * (tip + shape.top[len(T) // 2]) + (0, 0.03)
    relief.crease.fill(ellipse(groove[0], groove[1], 0.025, 0.05), 112, DEPTH)


def paint_mouth(pen: Pen, person: Identity, units: dict[str, float], shape: Lips) -> None:
    """Paint lips, and what is seen between them."""
    colour = person.mouth.colour
    pen.fill(np.concatenate((shape.top, shape.inner_top[::-1])), shade(colour, 0.86), DEPTH)
    pen.fill(np.concatenate((shape.inner_bottom, shape.bottom[::-1])), colour, DEPTH)
    gloss = 0.45 * shape.inner_bottom + 0.55 * shape.bottom
    pen.stroke([gloss[6:10]], mix_colours(colour, (255, 240, 236), 0.14), 0.03, DEPTH)
    line = shade(mix_colours(colour, person.skin, 0.2), 0.6)
    opening = units["jaw_open"]
    if opening > 0:
        _paint_inside(pen, shape, opening)
    pen.stroke([shape.inner_top], line, 0.012 + 0.01 * (opening < 0.05), DEPTH)


def _paint_inside(pen: Pen, shape: Lips, opening: float) -> None:
    depth = shape.inner_bottom - shape.inner_top
    pen.fill(np.concatenate((shape.inner_top, shape.inner_bottom[::-1])), INSIDE, DEPTH)
    teeth = slice(2, -2)
    pen.fill(
        np.concatenate((shape.inner_top[teeth], (shape.inner_top + 0.24 * depth)[teeth][::-1])),
        mix_colours(INSIDE, TEETH, min(0.25 + 2 * opening, 1)),
        DEPTH,
    )
    tongue = slice(4, -4)
    pen.fill(
        np.concatenate(((shape.inner_bottom - 0.3 * depth)[tongue], (shape.inner_bottom - 0.04 * depth)[tongue][::-1])),
        TONGUE,
        DEPTH,
    )


def measure_mouth(frames: np.ndarray) -> np.ndarray:
    """Opening of the mouth in frames of drawn faces.

    A :class:`dicetalk.drawn.faces.render.FaceRenderer` drew them, or a network made them in their likeness.

    The inside of the mouth is redder, against its green and blue, than anything else on a face. A column's redness adds
    up to the height of the opening there, and stays so when the picture is blurred.

    Args:
        frames: uint8 RGB ``(N, H, W, 3)``.

    Returns:
        float32 ``(N,)``: 0 closed, about 1 fully open.
    """
    height, width = frames.shape[1:3]
    rows = slice(round(ROWS[0] * height), round(ROWS[1] * height))
    columns = slice(round(COLUMNS[0] * width), round(COLUMNS[1] * width))
    part = frames[:, rows, columns].astype(np.float32)
    redness = (part[..., 0] - part[..., 1:].max(-1) / LIP_PALENESS - MARGIN).clip(0)
    full = INSIDE[0] - max(INSIDE[1:]) / LIP_PALENESS - MARGIN
    heights = np.sort(redness.sum(1) / full, axis=1)[:, -max(round(WIDEST * width), 1) :].mean(1)
    return heights / (SEEN * OPENING * PIXELS_PER_UNIT * height)
