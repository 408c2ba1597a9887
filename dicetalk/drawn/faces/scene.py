"""Surroundings of the head: background, shoulders and clothes. None of it belongs to the person, none of it moves."""

from dataclasses import dataclass

import cv2
import numpy as np

from dicetalk.drawn.faces.geometry import ellipse, mirrored, spline
from dicetalk.drawn.faces.identity import Colour, Identity
from dicetalk.drawn.faces.paint import Pen, mix_colours, shade

WALLS = (
    (188, 196, 204),
    (204, 190, 170),
    (150, 168, 176),
    (172, 184, 160),
    (92, 104, 124),
    (210, 202, 196),
    (118, 98, 92),
)
CLOTHES = (
    (44, 52, 74),
    (116, 54, 58),
    (60, 92, 84),
    (208, 204, 198),
    (96, 84, 116),
    (40, 42, 46),
    (176, 132, 74),
    (88, 124, 160),
)
BACKGROUNDS = ("plain", "lights", "window", "shelf", "corner")
COLLARS = ("round", "shirt", "vee", "high")


@dataclass(frozen=True)
class Scene:
    """Where a clip was filmed, and what the person wore.

    Args:
        background: one of :data:`BACKGROUNDS`.
        wall: its colour.
        collar: one of :data:`COLLARS`.
        clothes: their colour.
        brightness: of the light on the whole picture, about 1.
        warmth: more red and less blue, about -0.05 to 0.05.
        seed: of the background's details.
    """

    background: str
    wall: Colour
    collar: str
    clothes: Colour
    brightness: float
    warmth: float
    seed: int


def sample_scene(rng: np.random.Generator) -> Scene:
    """A random scene."""
    jitter = rng.normal(0, 8, (2, 3))
    return Scene(
        background=str(rng.choice(BACKGROUNDS)),
        wall=tuple((np.array(WALLS[rng.integers(len(WALLS))]) + jitter[0]).clip(20, 240).tolist()),
        collar=str(rng.choice(COLLARS)),
        clothes=tuple((np.array(CLOTHES[rng.integers(len(CLOTHES))]) + jitter[1]).clip(20, 240).tolist()),
        brightness=rng.uniform(0.92, 1.06),
        warmth=rng.uniform(-0.04, 0.04),
        seed=int(rng.integers(1 << 31)),
    )


def paint_background(scene: Scene, side: int) -> np.ndarray:
    """The picture behind the person, out of focus: uint8 ``(side, side, 3)``."""
    rng = np.random.default_rng(scene.seed)
    ramp = np.linspace(1.1, 0.8, side)[:, None, None] * np.linspace(1.05, 0.92, side)[None, :, None]
    picture = (np.array(scene.wall) * ramp).clip(0, 255).astype(np.uint8)

    def box(x0: float, y0: float, x1: float, y1: float, factor: float, colour: Colour = scene.wall) -> None:
        corners = (round(x0 * side), round(y0 * side)), (round(x1 * side), round(y1 * side))
        cv2.rectangle(picture, *corners, shade(colour, factor), cv2.FILLED)

    if scene.background == "lights":
        for x, y, radius, factor in rng.uniform((0, 0, 0.02, 1.15), (1, 0.9, 0.09, 1.6), (14, 4)):
            middle = round(x * side), round(y * side)
            cv2.circle(picture, middle, round(radius * side), shade(scene.wall, factor), cv2.FILLED, cv2.LINE_AA)
    elif scene.background == "window":
        x = rng.choice((-0.06, 0.68))
        box(x, 0.06, x + 0.38, 0.62, 1.0, (226, 236, 244))
        box(x + 0.17, 0.06, x + 0.2, 0.62, 0.8)
        box(x, 0.32, x + 0.38, 0.35, 0.8)
    elif scene.background == "shelf":
        for y in (0.3, 0.62, 0.94):
            for x in np.arange(0, 1, 0.055):
                height = rng.uniform(0.12, 0.22)
                red, green, blue = mix_colours(scene.wall, rng.uniform(50, 210, 3).tolist(), 0.55)
                box(x, y - height, x + rng.uniform(0.03, 0.05), y, 0.85, (red, green, blue))
            box(0, y, 1, y + 0.03, 0.6)
    elif scene.background == "corner":
        x = rng.uniform(0.1, 0.3) if rng.random() < 0.5 else rng.uniform(0.7, 0.9)
        box(x, 0, 1, 1, 0.8)
        box(0, 0.78, 1, 1, 0.6)
    return cv2.GaussianBlur(picture, (0, 0), 0.016 * side)


def paint_body(person: Identity, scene: Scene, pen: Pen) -> np.ndarray:
    """Paint neck, shoulders and clothes.

    Returns:
        Where they are: uint8, 255 inside, of the picture's height and width.
    """
    shape = person.shape
    neck_width = (0.3 if person.high_voice else 0.38) + 0.12 * (shape.jaw - 0.6)
    slope = 1.26 if person.high_voice else 1.19
    neck = spline(
        mirrored(
            np.array(((-neck_width - 0.5, 1.75), (-neck_width - 0.04, slope), (-neck_width, 0.95), (-neck_width, 0.3)))
        ),
        5,
    )
    broad = 1.25 if person.high_voice else 1.5
    shoulders = np.array(((-broad - 0.1, 2.4), (-broad, 1.72), (-0.9, slope + 0.17), (-neck_width - 0.1, slope - 0.04)))
    dips = {"round": 0.26, "shirt": 0.3, "vee": 0.55, "high": 0.06}
    collar = np.array(((-0.55 * neck_width, slope + 0.6 * dips[scene.collar]), (0, slope + dips[scene.collar])))
    if scene.collar in ("vee", "shirt"):
        collar = collar[1:]
    body = np.concatenate(
        (spline(shoulders, 5), mirrored(collar) if len(collar) > 1 else collar, spline(shoulders, 5)[::-1] * (-1, 1))
    )
    mask = np.zeros(pen.pixels.shape[:2], np.uint8)
    for points in (neck, body):
        Pen(mask, pen.place).fill(points, 255)
    skin = shade(person.skin, 0.86)
    pen.fill(neck, skin)
    chin_shadow = ellipse(0.04, shape.chin_y - 0.02, 0.62, 0.34)
    pen.tint(chin_shadow, shade(mix_colours(skin, (90, 40, 30), 0.3), 0.62), 0.75, soft=0.07)
    for sign in (-1, 1):
        collarbone = spline(np.array(((0.1, slope + 0.24), (0.35, slope + 0.2), (0.6, slope + 0.24))) * (sign, 1), 4)
        pen.stroke([collarbone], shade(skin, 0.88), 0.03)
    pen.fill(body, scene.clothes)
    pen.tint(body * (0.94, 1) + (-0.05, 0.05), shade(scene.clothes, 1.16), 0.6, soft=0.14)
    for x in (-0.95, -0.5, 0.55, 1.0):
        crease = spline(np.array(((x, slope + 0.4), (1.05 * x, slope + 0.65), (1.02 * x, 2.3))), 5)
        pen.stroke([crease], shade(scene.clothes, 0.86), 0.03)
    rim = mirrored(collar) if len(collar) > 1 else np.stack((shoulders[-1], collar[0], shoulders[-1] * (-1, 1)))
    rim = rim if len(collar) == 1 else np.concatenate((shoulders[-1:], rim, shoulders[-1:] * (-1, 1)))
    if scene.collar == "shirt":
        for sign in (-1, 1):
            flap = np.array(
                ((-neck_width - 0.1, slope - 0.06), (0, slope + 0.3), (-0.22, slope + 0.5), (-0.52, slope + 0.18))
            )
            pen.fill(flap * (sign, 1), shade(scene.clothes, 1.25))
            pen.stroke([flap[1:] * (sign, 1)], shade(scene.clothes, 0.7), 0.02)
    else:
        width = 0.16 if scene.collar == "high" else 0.07
        pen.stroke([spline(rim, 5) if len(collar) > 1 else rim], shade(scene.clothes, 0.72), width)
    return mask
