"""CenterFace: faces as points (Xu et al. 2019, https://arxiv.org/abs/1911.03599), run by OpenCV on the CPU.

The network answers on a grid of 4-pixel cells with four maps: the probability that a face's centre lies in the cell,
the logarithm of the face's height and width in cells, the centre's offset (y, x) from the cell's middle in cells, and
five landmarks (y, x) in units of the face's height and width, counted from its upper left corner.
"""

from importlib.resources import files

import cv2
import numpy as np

from dicetalk.portrait.faces import FaceBox, suppress_overlaps

OUTPUTS = ("537", "538", "539", "540")
CELL = 4
PAD_TO = 32
# The network was trained on small faces: on one larger than this the box shrinks to the middle of the face.
LARGEST_FACE = 320
SMALLEST_PICTURE = 320
LARGEST_PICTURE = 1280


class CenterFace:
    """Face detector that comes with the package (MIT licence, 7 MB).

    A picture is searched at a few sizes, each half the one before; each answers for the faces that it shows as large as
    the network knows them. The first has at most 1280 pixels a side, which bounds time and memory for any picture.

    Args:
        confidence: probability from which a face counts.
        iou_threshold: overlap from which two boxes are one face.
    """

    def __init__(self, confidence: float = 0.5, iou_threshold: float = 0.4):
        payload = files("dicetalk").joinpath("assets/centerface/centerface.onnx").read_bytes()
        self.payload = np.frombuffer(payload, np.uint8)
        self.confidence = confidence
        self.iou_threshold = iou_threshold

    def detect(self, picture: np.ndarray) -> list[FaceBox]:
        """Faces in `picture` (uint8 RGB ``(H, W, 3)``), the largest first."""
        found = []
        sides = pyramid_sides(max(picture.shape[:2]))
        for side in sides:
            scale = side / max(picture.shape[:2])
            candidates = decode(*self._run(picture, scale), self.confidence)
            if side != sides[-1]:
                candidates = candidates[(candidates[:, 3:5] - candidates[:, 1:3]).max(axis=1) <= LARGEST_FACE]
            candidates[:, 1:] /= scale
            found.append(candidates)
        rows = np.concatenate(found)
        rows = rows[suppress_overlaps(rows[:, 1:5], rows[:, 0], self.iou_threshold)]
        return sorted(map(_face, rows), key=lambda face: face.area, reverse=True)

    def _run(self, picture: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
        resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        padded = np.pad(resized, ((0, -height % PAD_TO), (0, -width % PAD_TO), (0, 0)))
        network = cv2.dnn.readNetFromONNX(
            self.payload
        )  # anew, since OpenCV 4 computes nonsense for a second input size
        network.setInput(cv2.dnn.blobFromImage(padded))
        heatmap, size, offset, landmarks = (output[0] for output in network.forward(OUTPUTS))
        return heatmap, size, offset, landmarks


def pyramid_sides(longest: int) -> list[int]:
    """Longest sides at which a picture of `longest` pixels is searched, the largest first."""
    sides = [min(max(longest, SMALLEST_PICTURE), LARGEST_PICTURE)]
    while sides[-1] >= 1.5 * SMALLEST_PICTURE:
        sides.append(sides[-1] // 2)
    return sides


def decode(
    heatmap: np.ndarray, size: np.ndarray, offset: np.ndarray, landmarks: np.ndarray, confidence: float
) -> np.ndarray:
    """Rows of score, corners x0, y0, x1, y1 and five landmarks x, y, in pixels of the network's input.

    Args:
        heatmap: ``(1, h, w)``.
        size: log height, log width, ``(2, h, w)``.
        offset: y, x, ``(2, h, w)``.
        landmarks: y, x of five points, ``(10, h, w)``.
        confidence: smallest probability of interest.

    Returns:
        ``(n, 15)``, float32.
    """
    cells = np.argwhere(heatmap[0] >= confidence)
    rows, columns = cells.T
    extent = np.exp(size[:, rows, columns].T) * CELL
    centre = (cells + 0.5 + offset[:, rows, columns].T) * CELL
    corner = centre - extent / 2
    points = corner[:, None] + landmarks[:, rows, columns].T.reshape(-1, 5, 2) * extent[:, None]
    parts = (
        heatmap[0, rows, columns, None],
        corner[:, ::-1],
        (corner + extent)[:, ::-1],
        points[..., ::-1].reshape(-1, 10),
    )
    return np.concatenate(parts, axis=1).astype(np.float32)


def _face(row: np.ndarray) -> FaceBox:
    score, x0, y0, x1, y1, *points = map(float, row)
    return FaceBox(x0, y0, x1 - x0, y1 - y0, score, tuple(zip(points[::2], points[1::2], strict=True)))
