"""Eyes, brows and glasses."""

import numpy as np

from dicetalk.drawn.faces.geometry import ellipse, ribbon, shifted, spline
from dicetalk.drawn.faces.identity import Identity
from dicetalk.drawn.faces.paint import Pen, mix_colours, shade

DEPTH = 0.12
LASH = (34, 24, 24)
T = np.linspace(-1, 1, 15)
"""Along an eye, from the viewer's left to the right."""


def eye_centre(person: Identity, side: int) -> np.ndarray:
    """The middle of the left (-1) or right (1) eye."""
    return np.array((side * person.eyes.spacing, person.eyes.y + side * person.eyes.uneven))


def lids(person: Identity, units: dict[str, float], side: int) -> tuple[np.ndarray, np.ndarray]:
    """The edges of the upper and the lower lid, each ``(15, 2)``."""
    eyes = person.eyes
    tight, cheek = max(units["lid_tighten"], 0), max(units["cheek_raise"], 0)
    upper = eyes.height * (1 + 0.5 * units["lid_raise"] - 0.28 * tight - 0.1 * cheek)
    lower = 0.72 * eyes.height * (1 + 0.12 * max(units["lid_raise"], 0) - 0.45 * tight - 0.6 * cheek)
    lower = max(lower, 0.1 * eyes.height)
    upper += units["blink"] * (-0.75 * lower - upper)
    arch = (1 - np.abs(T) ** 2.2) ** 0.9
    x, y = eye_centre(person, side)
    x = x + eyes.width * T
    y = y - eyes.tilt * T * side
    return np.stack((x, y - upper * arch), 1), np.stack((x, y + lower * arch), 1)


def paint_eye(pen: Pen, person: Identity, units: dict[str, float], side: int) -> None:
    """Paint one eye: white, iris with pupil and glints, lid and lashes."""
    eyes = person.eyes
    upper, lower = lids(person, units, side)
    centre = eye_centre(person, side)
    lid_skin = shade(person.skin, 0.8)
    lift = np.stack((np.zeros_like(T), 0.035 + 0.03 * (1 - T**2)), 1)
    pen.tint(np.concatenate((upper, (upper - lift)[::-1])), lid_skin, 0.55, DEPTH, 0.012)

    def ball(eye: Pen) -> None:
        eye.flood((238, 234, 230))
        x, y = shifted(centre, 0, -0.004)
        eye.fill(ellipse(x, y, eyes.iris, eyes.iris), shade(eyes.colour, 0.45), DEPTH)
        eye.fill(ellipse(x, y, 0.84 * eyes.iris, 0.84 * eyes.iris), eyes.colour, DEPTH)
        eye.fill(ellipse(x, y + 0.4 * eyes.iris, 0.6 * eyes.iris, 0.35 * eyes.iris), shade(eyes.colour, 1.35), DEPTH)
        eye.fill(ellipse(x, y, 0.46 * eyes.iris, 0.46 * eyes.iris), (14, 12, 14), DEPTH)
        eye.stroke([shifted(upper, 0, 0.02)], (150, 138, 134), 0.03, DEPTH)
        eye.fill(ellipse(x - 0.032, y - 0.034, 0.024, 0.024, 10), (255, 255, 255), DEPTH)
        eye.fill(ellipse(x + 0.034, y + 0.03, 0.012, 0.012, 8), (210, 210, 214), DEPTH)

    pen.inside(np.concatenate((upper, lower[::-1])), ball, DEPTH)
    pen.stroke([lower[2:-2]], mix_colours(person.skin, (120, 60, 50), 0.35), 0.016, DEPTH)
    line = mix_colours(LASH, person.skin, 0.15 * (1 - eyes.lashes))
    pen.fill(ribbon(upper, (0.014 + 0.022 * eyes.lashes) * (1 - 0.6 * T**2) + 0.012), line, DEPTH)
    pen.stroke([(upper - lift - (0, 0.012))[1:-1]], shade(person.skin, 0.66), 0.016, DEPTH)
    if eyes.lashes > 0.5:
        outer = upper[0] if side < 0 else upper[-1]
        pen.stroke([np.stack((outer, shifted(outer, 0.05 * side, -0.03)))], line, 0.02, DEPTH)


def brow_line(person: Identity, units: dict[str, float], side: int) -> np.ndarray:
    """The middle of one brow from its inner to its outer end, ``(n, 2)``."""
    brows, eyes = person.brows, person.eyes
    t = np.linspace(0, 1, 5)
    strength = 1 - side * person.manner.lopsided
    inner, outer, lower = (units[name] for name in ("brow_inner_raise", "brow_outer_raise", "brow_lower"))
    x = eyes.spacing + brows.length * (-0.92 + 2.02 * t) - 0.05 * lower * (1 - t)
    y = eyes.y - brows.gap - brows.arch * np.sin(np.pi * t**0.85) + side * brows.uneven + 0.02 * t
    y -= strength * (0.15 * inner * (1 - t) ** 1.3 + 0.13 * outer * t**0.8 - 0.13 * lower * (1 - 0.75 * t))
    return spline(np.stack((side * x, y), 1), 4)


def paint_brow(pen: Pen, person: Identity, units: dict[str, float], side: int) -> None:
    """Paint one brow, full in its inner half, with a few hairs."""
    line = brow_line(person, units, side)
    t = np.linspace(0, 1, len(line))
    thickness = person.brows.thickness * (0.7 + 0.5 * np.sin(np.pi * t**0.7) - 0.55 * t)
    band = ribbon(line, thickness)
    colour = person.brows.colour
    pen.tint(band, colour, 0.92, 0.15, 0.006)
    hairs = [
        np.stack((shifted(root, 0, 0.3 * width), shifted(root, 0.045 * side, -0.45 * width)))
        for root, width in zip(line, thickness, strict=True)
    ]
    pen.stroke(hairs[1:-2:2], shade(colour, 0.75), 0.01, 0.15)


def paint_glasses(pen: Pen, person: Identity) -> None:
    """Paint the frame and a faint reflection, if the person wears glasses."""
    extras, eyes = person.extras, person.eyes
    if extras.glasses == "none":
        return
    rims = []
    for side in (-1, 1):
        x, y = shifted(eye_centre(person, side), 0.01 * side, 0.03)
        rim = ellipse(x, y, 0.265, 0.225, 28)
        if extras.glasses == "square":
            corners = np.array(((-0.26, -0.17), (0, -0.18), (0.26, -0.17), (0.23, 0.16), (0, 0.19), (-0.23, 0.16)))
            rim = spline(shifted(corners, x, y), 4, closed=True)
        pen.tint(rim, (235, 242, 250), 0.1, 0.3)
        rims.append(np.concatenate((rim, rim[:1])))
    y = eyes.y
    bridge = spline(np.array(((-eyes.spacing + 0.25, y), (0, y - 0.05), (eyes.spacing - 0.25, y))), 4)
    arms = [np.array(((s * (eyes.spacing + 0.26), y), (s * person.shape.cheek, y - 0.04))) for s in (-1, 1)]
    pen.stroke([*rims, bridge, *arms], extras.frame_colour, 0.034, 0.3)
