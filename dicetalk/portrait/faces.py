"""Faces in a picture: what a detector returns, and which one is meant."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dicetalk.errors import NoFaceError, PortraitError


@dataclass(frozen=True)
class FaceBox:
    """One face, in pixels of the picture that was searched; the box may reach over the picture's border.

    Args:
        x: left edge.
        y: upper edge.
        width: of the box.
        height: of the box.
        score: the detector's confidence, 0..1.
        landmarks: eyes, nose and mouth corners as (x, y), left to right; empty if nobody looked for them.
    """

    x: float
    y: float
    width: float
    height: float
    score: float = 1.0
    landmarks: tuple[tuple[float, float], ...] = ()

    @property
    def area(self) -> float:
        """In square pixels."""
        return self.width * self.height


class FaceDetector(Protocol):
    """Finds faces."""

    def detect(self, picture: np.ndarray) -> list[FaceBox]:
        """Faces in `picture` (uint8 RGB ``(H, W, 3)``), the largest first."""
        ...


def choose_face(faces: list[FaceBox], index: int | None = None) -> FaceBox:
    """The largest face, or number `index` counted from the largest.

    The released program means the largest face as well, but takes the last one that is larger than the first; where the
    two differ this function follows the intention.

    Raises:
        NoFaceError: `faces` is empty.
        PortraitError: there is no face of that number.
    """
    if not faces:
        raise NoFaceError(
            "No face was found in the picture. Give the face's box (x, y, width, height), "
            "or use the whole picture without a face mask."
        )
    by_size = sorted(faces, key=lambda face: face.area, reverse=True)
    if index is None:
        return by_size[0]
    if not 0 <= index < len(by_size):
        found = "1 face was" if len(by_size) == 1 else f"{len(by_size)} faces were"
        raise PortraitError(f"Face {index} does not exist: {found} found. Give 0 (the largest) to {len(by_size) - 1}.")
    return by_size[index]


def suppress_overlaps(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Greedy non-maximum suppression.

    Args:
        boxes: corners x0, y0, x1, y1, ``(n, 4)``.
        scores: ``(n,)``.
        iou_threshold: a box is dropped if it overlaps a better one by more than this intersection over union.

    Returns:
        Indices of the boxes that remain, the best score first.
    """
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = np.prod((high - low).clip(min=0), axis=1)
        order = rest[shared <= iou_threshold * (areas[best] + areas[rest] - shared)]
    return np.array(kept, dtype=np.intp)
