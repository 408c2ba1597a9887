"""A face cut out of a picture for a network that looks at faces."""

from dataclasses import dataclass

import cv2
import numpy as np

from dicetalk.portrait.faces import FaceBox


@dataclass(frozen=True)
class FaceCrop:
    """What a network wants to see of a face.

    Args:
        size: side of the crop in pixels.
        expand: the face box is widened by this part of its size on each side.
        square: take a square as long as the box's longer side; otherwise the box itself is stretched to a square.
    """

    size: int
    expand: float = 0.0
    square: bool = True

    def __call__(self, picture: np.ndarray, face: FaceBox) -> np.ndarray:
        """Cut `face` out of `picture` (uint8 RGB ``(H, W, 3)``), whose edge is drawn out where the crop reaches over
        it.

        Returns:
            uint8 ``(size, size, 3)``.
        """
        longer = max(face.width, face.height)
        width, height = (longer, longer) if self.square else (face.width, face.height)
        rows = _pixels(face.y + face.height / 2, height * (1 + 2 * self.expand), picture.shape[0])
        columns = _pixels(face.x + face.width / 2, width * (1 + 2 * self.expand), picture.shape[1])
        cut = picture[rows[:, None], columns]
        smaller = self.size < min(len(rows), len(columns))
        return cv2.resize(cut, (self.size, self.size), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def _pixels(centre: float, length: float, limit: int) -> np.ndarray:
    """Numbers of the pixels around `centre`, those outside 0..limit-1 replaced by the nearest inside."""
    start = round(centre - length / 2)
    return np.arange(start, start + max(round(length), 1)).clip(0, limit - 1)
