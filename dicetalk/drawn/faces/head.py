"""The head without its features: outline, ears, neck, nose, and the light on the skin."""

import cv2
import numpy as np

from dicetalk.drawn.faces.geometry import ellipse, mirrored, shifted, spline
from dicetalk.drawn.faces.identity import Identity, Shape
from dicetalk.drawn.faces.paint import Pen, Relief, mix_colours, shade

JAW_DROP = 0.13
"""How far the chin falls when the mouth is fully open, in face units."""

WARMTH = np.array((0.62, 0.86, 0.95), np.float32)
"""Light changes red least: shadows on skin are warm."""


def dropped(points: np.ndarray, jaw: float) -> np.ndarray:
    """`points` when the mouth is open by `jaw`: the lower face moves down, the more the lower it lies."""
    share = ((points[:, 1] - 0.25) / 0.75).clip(0, 1)
    return points + np.stack((np.zeros_like(share), JAW_DROP * jaw * share), 1)


def outline(shape: Shape, jaw: float = 0.0) -> np.ndarray:
    """The edge of the face from the middle of the skull around and back, ``(n, 2)``."""
    left = (
        (0, shape.skull_y),
        (-0.62 * shape.temple, shape.skull_y + 0.12),
        (-0.96 * shape.temple, -0.62),
        (-0.5 * (shape.temple + shape.cheek) - 0.02, -0.2),
        (-shape.cheek, 0.12),
        (-0.5 * (shape.cheek + shape.jaw) - 0.02, 0.42),
        (-shape.jaw, 0.62),
        (-0.55 * (shape.jaw + shape.chin), 0.5 * (0.62 + shape.chin_y) + 0.04),
        (-shape.chin, shape.chin_y - 0.055),
        (0, shape.chin_y),
    )
    points = mirrored(np.array(left))[:-1]
    points[:, 0] += shape.lean * (points[:, 1] > 0.3)
    return spline(dropped(points, jaw), 5, closed=True)


def ears(shape: Shape) -> list[np.ndarray]:
    """Both ears, left first."""
    left = np.array(((0.02, -0.2), (-0.1, -0.24), (-0.15, -0.12), (-0.11, 0.06), (-0.05, 0.16), (0.04, 0.12)))
    left = left * shape.ear + (-shape.cheek + 0.03, -0.02)
    return [spline(left, 4, closed=True), spline(left * (-1, 1), 4, closed=True)]


def model_skin(relief: Relief, person: Identity, units: dict[str, float]) -> None:
    """Draw the forms of forehead, cheeks, nose and chin, and the lines that moving brows and nose make."""
    shape, eyes = person.shape, person.eyes
    jaw, age = units["jaw_open"], person.extras.age
    edge = outline(shape, jaw)
    form, fold, crease = relief.form, relief.fold, relief.crease
    # The light stands at the upper left: the face darkens towards its edge, most on the right and under the jaw.
    form.pixels[:] = 62
    form.fill(edge * (0.93, 0.93) + (-0.05, -0.03), 132)
    form.fill(ellipse(-0.16, -0.62, 0.36, 0.2), 150)
    raised = 0.05 * (units["cheek_raise"] + 0.6 * units["corner_up"])
    for x, value in ((-0.43, 158), (0.41, 142)):
        form.fill(ellipse(x, 0.2 - raised, 0.19, 0.14), value + 130 * max(raised, 0))
    chin = shape.chin_y + 0.11 * jaw - 0.03 * units["chin_raise"]
    form.fill(ellipse(-0.03, chin - 0.17, 0.16, 0.1), 150)
    for side in (-1, 1):
        socket = ellipse(side * eyes.spacing, eyes.y - 0.06, eyes.width * 1.15, 0.13)
        fold.fill(socket, 106 if side < 0 else 98)
        bag = spline(np.array(((-0.16, 0.13), (-0.02, 0.19), (0.15, 0.14))), 4)
        bag = shifted(bag, side * eyes.spacing, eyes.y)
        fold.stroke([bag], 122 - 26 * age - 14 * max(units["cheek_raise"], 0), 0.05)
    _model_nose(relief, person, units)
    frown = max(units["brow_lower"], 0)
    if frown > 0.1:
        lines = [np.array(((0.055 * s, eyes.y - 0.23), (0.075 * s, eyes.y - 0.1))) for s in (-1, 1)]
        crease.stroke(lines, 128 - 62 * min(frown, 1), 0.024, 0.2)
    lifted = max(0.5 * (units["brow_inner_raise"] + units["brow_outer_raise"]), 0)
    for i, y in enumerate((-0.53, -0.63, -0.73)):
        strength = 60 * lifted + 40 * age * (i < 2)
        line = spline(np.array(((-0.36, y + 0.03), (-0.15, y - 0.015), (0.15, y - 0.015), (0.36, y + 0.03))), 4)
        crease.stroke([line], 128 - min(strength, 70), 0.022, 0.1)


def _model_nose(relief: Relief, person: Identity, units: dict[str, float]) -> None:
    nose, eyes = person.nose, person.eyes
    tip = nose_tip(person, units)
    top = np.array((0.0, eyes.y - 0.02))
    side_line = spline(
        np.array(
            (shifted(top, nose.bridge + 0.02, -0.05), (nose.bridge + 0.01, 0.05), shifted(tip, nose.width, -0.06))
        ),
        5,
    )
    relief.fold.stroke([side_line], 84, 0.06, 0.25)
    relief.fold.stroke([side_line * (-1, 1)], 112, 0.045, 0.25)
    relief.fold.stroke([spline(np.array((top, (0.3 * tip[0], 0.05), shifted(tip, 0, -0.05))), 5)], 158, 0.06, 0.35)
    relief.fold.fill(ellipse(tip[0] - 0.02, tip[1] - 0.03, 0.05, 0.045), 196, 0.5)
    relief.fold.fill(ellipse(tip[0] + 0.01, tip[1] + 0.075, nose.width, 0.035), 74, 0.4)
    wrinkle = max(units["nose_wrinkle"], 0)
    if wrinkle > 0.15:
        lines = [np.array(((-0.07, y + 0.03), (0, y), (0.07, y + 0.03))) for y in eyes.y + np.array((0.0, 0.065, 0.13))]
        relief.crease.stroke(lines, 128 - 52 * min(wrinkle, 1), 0.02, 0.3)


def nose_tip(person: Identity, units: dict[str, float]) -> np.ndarray:
    """Where the tip of the nose is; wrinkling lifts it."""
    return np.array((person.nose.bend, person.nose.y - 0.04 * units["nose_wrinkle"]))


def paint_skin(pen: Pen, person: Identity, jaw: float, light: np.ndarray) -> None:
    """Paint ears and face; `light` is float32, half as wide and high as the pen's picture."""
    ear_skin = shade(mix_colours(person.skin, (190, 90, 80), 0.12), 0.86)
    for ear in ears(person.shape):
        pen.fill(ear, ear_skin, -0.3)
        pen.stroke([(ear - ear.mean(0)) * 0.55 + ear.mean(0)], shade(ear_skin, 0.8), 0.025, -0.3)
    edge = outline(person.shape, jaw)
    pen.fill(edge, person.skin)
    face = np.zeros(pen.pixels.shape[:2], np.uint8)
    Pen(face, pen.place).fill(edge, 255)
    x, y, width, height = cv2.boundingRect(face)
    part = np.s_[y : y + height, x : x + width]
    # Highlights are held back: pale skin must not burn out.
    strength = (
        cv2.resize(np.where(light > 0, 0.55 * light, light), face.shape[::-1])[part] * face[part] / np.float32(255)
    )
    factor = cv2.merge([1 + warmth * strength for warmth in WARMTH])
    pen.pixels[part] = cv2.multiply(pen.pixels[part], factor, dtype=cv2.CV_8U)


def paint_nostrils(pen: Pen, person: Identity, units: dict[str, float]) -> None:
    """Paint the nostrils and the edge of the wings."""
    tip, width = nose_tip(person, units), person.nose.width
    flare = 1 + 0.15 * max(units["nose_wrinkle"], 0)
    dark = shade(mix_colours(person.skin, (120, 50, 40), 0.4), 0.5)
    for side in (-1, 1):
        pen.tint(ellipse(tip[0] + side * 0.5 * width, tip[1] + 0.055, 0.042, 0.02, 12), dark, 0.85, 0.35, 0.008)
        wing = np.array(((0.92, -0.04), (1.06, 0.015), (0.88, 0.06))) * (side * width * flare, 1) + tip
        pen.stroke([spline(wing, 4)], shade(person.skin, 0.7), 0.02, 0.3)
