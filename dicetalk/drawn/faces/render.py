"""One person in one scene, drawn frame by frame."""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from dicetalk.drawn.faces.expression import ACTION_UNITS
from dicetalk.drawn.faces.eyes import eye_centre, paint_brow, paint_eye, paint_glasses
from dicetalk.drawn.faces.geometry import ellipse, shifted
from dicetalk.drawn.faces.hair import cut_hair, paint_back, paint_beard, paint_front, shadow
from dicetalk.drawn.faces.head import model_skin, nose_tip, outline, paint_nostrils, paint_skin
from dicetalk.drawn.faces.identity import Identity
from dicetalk.drawn.faces.motion import Pose
from dicetalk.drawn.faces.mouth import lips, model_mouth, paint_mouth
from dicetalk.drawn.faces.paint import Pen, Relief, mix_colours, shade
from dicetalk.drawn.faces.scene import Scene, paint_background, paint_body

OVERSAMPLING = 2
"""The canvas has this many times the picture's pixels along each side."""

REGION_MARGIN = 0.05
"""How far a region keeps from its edge, both sides together, in widths of the picture."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One drawn frame.

    Args:
        pixels: uint8 RGB ``(size, size, 3)``.
        box: x, y, width and height of the face without hair, in pixels, ``(4,)``.
        landmarks: eyes, tip of the nose and corners of the mouth as (x, y), left to right, in pixels, ``(5, 2)``.
    """

    pixels: np.ndarray
    box: np.ndarray
    landmarks: np.ndarray


class FaceRenderer:
    """Draws one person in one scene; what does not move is drawn once.

    Args:
        person: who is seen.
        scene: where.
        size: of the picture, in pixels.
    """

    def __init__(self, person: Identity, scene: Scene, size: int = 128):
        self.person, self.scene, self.size = person, scene, size
        self.side = OVERSAMPLING * size
        self.hair = cut_hair(person)
        self.background = paint_background(scene, self.side)
        self.body = self.background.copy()
        self.body_mask = paint_body(person, scene, Pen(self.body, Pose().placement(self.side)))
        tone = scene.brightness * np.array((1 + scene.warmth, 1.0, 1 - scene.warmth))
        # One table for each channel: the light of the scene on the finished picture.
        self.tone = (np.arange(256)[:, None] * tone).clip(0, 255).astype(np.uint8)[None]
        rng = np.random.default_rng([person.seed, 0xF])
        self.freckles = rng.normal((0, 0.1), (0.3, 0.09), (person.extras.freckles, 2))

    def draw(self, coefficients: np.ndarray, pose: Pose) -> Frame:
        """Draw one frame.

        Args:
            coefficients: of the expression, ``(17,)``, as :func:`dicetalk.drawn.faces.expression.express` makes them.
            pose: of the head.
        """
        person = self.person
        units = dict(zip(ACTION_UNITS, coefficients.tolist(), strict=True))
        place = pose.placement(self.side)
        mouth = lips(person, units)
        relief = Relief(self.size, place.scaled(1 / OVERSAMPLING))
        model_skin(relief, person, units)
        model_mouth(relief, person, units, mouth)
        hairline = shadow(self.hair)
        if hairline is not None:
            relief.fold.fill(shifted(hairline, 0.03, 0.05), 88)

        canvas = self.background.copy()
        pen = Pen(canvas, place)
        paint_back(pen, person, self.hair)
        cv2.copyTo(self.body, self.body_mask, canvas)
        paint_skin(pen, person, units["jaw_open"], relief.light())
        self._paint_marks(pen)
        paint_beard(pen, person, units, mouth)
        paint_mouth(pen, person, units, mouth)
        paint_nostrils(pen, person, units)
        for side in (-1, 1):
            paint_eye(pen, person, units, side)
        for side in (-1, 1):
            paint_brow(pen, person, units, side)
        paint_glasses(pen, person)
        paint_front(pen, person, self.hair)
        pixels = cv2.resize(canvas, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return self._frame(cv2.LUT(pixels, self.tone), units, pose, mouth.top[[0, -1]])

    def draw_clip(self, coefficients: np.ndarray, poses: Iterable[np.ndarray]) -> list[Frame]:
        """Draw frames with the coefficients ``(N, 17)`` and the poses ``(N, 6)``."""
        return [self.draw(row, Pose(*pose)) for row, pose in zip(coefficients, poses, strict=True)]

    def regions(self) -> dict[str, np.ndarray]:
        """Where hair and skin are seen at rest, away from their edges: booleans ``(size, size)``, by name.

        Skin is the whole face: more than half of it is bare in everybody. Without hair its region is empty.
        """
        place = Pose().placement(self.size)
        masks = {name: np.zeros((self.size, self.size), np.uint8) for name in ("hair", "skin")}
        if self.hair.front is not None and self.hair.alpha == 1:
            Pen(masks["hair"], place).fill(self.hair.front, 255)
        Pen(masks["skin"], place).fill(outline(self.person.shape), 255)
        masks["skin"][masks["hair"] > 0] = 0
        margin = np.ones((max(round(REGION_MARGIN * self.size), 1),) * 2, np.uint8)
        return {name: cv2.erode(mask, margin) == 255 for name, mask in masks.items()}

    def _paint_marks(self, pen: Pen) -> None:
        extras, skin = self.person.extras, self.person.skin
        for x, y in self.freckles:
            pen.tint(ellipse(x, y, 0.016, 0.014, 8), mix_colours(skin, (130, 70, 40), 0.6), 0.6, 0.1)
        if extras.mark is not None:
            pen.fill(ellipse(*extras.mark, 0.026, 0.026, 10), shade(skin, 0.38), 0.1)
        if extras.earrings:
            for side in (-1, 1):
                pen.fill(ellipse(side * (self.person.shape.cheek + 0.03), 0.18, 0.035, 0.04, 10), (226, 196, 110), -0.3)

    def _frame(self, pixels: np.ndarray, units: dict[str, float], pose: Pose, corners: np.ndarray) -> Frame:
        person, place = self.person, pose.placement(self.size)
        edge = place(outline(person.shape, units["jaw_open"]))
        box = np.concatenate((edge.min(0), edge.max(0) - edge.min(0)))
        eyes = [place(eye_centre(person, side), 0.12) for side in (-1, 1)]
        points = np.stack((*eyes, place(nose_tip(person, units), 0.5), *place(corners, 0.25)))
        return Frame(pixels, box.astype(np.float32), points.astype(np.float32))
