"""The face detector of a model: the released one while it can be used, else the one that comes with the package.

The released one is a YOLOv5 with five landmarks in a TorchScript file (`yoloface_v5m.pt`). Its resizing, decoding and
suppression are the released program's.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from dicetalk.errors import CheckpointError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.portrait.centerface import CenterFace
from dicetalk.portrait.faces import FaceBox, FaceDetector, suppress_overlaps
from dicetalk.portrait.torchscript import load_torchscript
from dicetalk.residency import CPU, Residency

INPUT_SIDE = 416
STRIDES = (8, 16, 32)
CONFIDENCE = 0.5
IOU_THRESHOLD = 0.45


class YoloFace:
    """Face detector of the released files.

    Args:
        path: of `yoloface_v5m.pt`.
        residency: brings the network onto its device.

    Raises:
        CheckpointError: the file is missing or damaged, or its program does what a detector does not need.
    """

    def __init__(self, path: str | Path, residency: Residency = CPU):
        self.path = Path(path)
        self.network = load_torchscript(self.path).float()
        self.residency = residency

    def detect(self, picture: np.ndarray) -> list[FaceBox]:
        """Faces in `picture` (uint8 RGB ``(H, W, 3)``), the largest first.

        Raises:
            CheckpointError: the network does not take a picture or does not return boxes.
        """
        height, width = input_size(*picture.shape[:2])
        pixels = torch.from_numpy(network_input(picture))
        with self.residency(self.network) as device, torch.inference_mode():
            predictions = self._run(pixels.to(device)).cpu().numpy()
        rows = suppress(predictions, CONFIDENCE, IOU_THRESHOLD)
        faces = to_faces(rows, picture.shape[1] / width, picture.shape[0] / height)
        return sorted(faces, key=lambda face: face.area, reverse=True)

    def _run(self, pixels: torch.Tensor) -> torch.Tensor:
        """Raw predictions ``(n, 16)`` for ``(1, 3, h, w)``."""
        forward: Any = self.network.forward  # of a class that torch's types do not name
        arguments = forward.schema.arguments[1:]
        height, width = pixels.shape[-2:]
        grids = cell_grids(height, width, pixels.device)
        # A traced network cannot make its cell grids for any size, so they are inputs where it has more than one.
        inputs = [pixels] if len(arguments) < 2 else [pixels, grids] if len(arguments) == 2 else [pixels, *grids]
        try:
            output = self.network(*inputs)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise CheckpointError(f"{self.path} cannot be run as a face detector: {reason}") from error
        predictions = output[0] if isinstance(output, (tuple, list)) else output
        if not isinstance(predictions, torch.Tensor) or predictions.ndim != 3 or predictions.shape[2] != 16:
            raise CheckpointError(f"{self.path} is no face detector: it does not return rows of 16 numbers.")
        return predictions[0].float()


def input_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of the network's input: the shorter side 416, both the next multiples of 32."""
    step, shorter = STRIDES[-1], min(height, width)
    rows, columns = (-(-side * INPUT_SIDE // (shorter * step)) * step for side in (height, width))
    return rows, columns


def network_input(picture: np.ndarray) -> np.ndarray:
    """uint8 RGB ``(H, W, 3)`` to float32 ``(1, 3, h, w)`` in 0..1; the aspect ratio is stretched to the input size."""
    height, width = input_size(*picture.shape[:2])
    resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(resized.transpose(2, 0, 1)[None], dtype=np.float32) / 255


def cell_grids(height: int, width: int, device: torch.device | str = "cpu") -> list[torch.Tensor]:
    """x, y of every cell at each stride, float32 ``(1, 1, height / stride, width / stride, 2)``."""
    grids = []
    for stride in STRIDES:
        rows, columns = torch.arange(height // stride), torch.arange(width // stride)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        grids.append(torch.stack([x, y], dim=-1)[None, None].float().to(device))
    return grids


def suppress(predictions: np.ndarray, confidence: float, iou_threshold: float) -> np.ndarray:
    """Choose among raw predictions.

    Args:
        predictions: rows of centre x, y, width, height, probability of an object, 5 landmarks x, y, probability that
            the object is a face, ``(n, 16)``.
        confidence: what the product of both probabilities must exceed.
        iou_threshold: see :func:`dicetalk.portrait.faces.suppress_overlaps`.

    Returns:
        Rows of corners x0, y0, x1, y1, score, 5 landmarks x, y, ``(m, 15)``, the best score first.
    """
    scores = predictions[:, 4] * predictions[:, 15]
    chosen = scores > confidence
    predictions, scores = predictions[chosen], scores[chosen]
    centre, half = predictions[:, :2], predictions[:, 2:4] / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    kept = suppress_overlaps(boxes, scores, iou_threshold)
    return np.concatenate([boxes, scores[:, None], predictions[:, 5:15]], axis=1)[kept]


def to_faces(rows: np.ndarray, scale_x: float, scale_y: float) -> list[FaceBox]:
    """Rows of :func:`suppress` in pixels of the picture."""
    faces = []
    for x0, y0, x1, y1, score, *points in rows.tolist():
        landmarks = tuple((x * scale_x, y * scale_y) for x, y in zip(points[::2], points[1::2], strict=True))
        faces.append(FaceBox(x0 * scale_x, y0 * scale_y, (x1 - x0) * scale_x, (y1 - y0) * scale_y, score, landmarks))
    return faces


class ReleasedOrCenterFace:
    """The released detector, opened when the first picture comes; CenterFace from when it cannot be used.

    Args:
        path: of `yoloface_v5m.pt`.
        residency: brings its network onto its device.
        hooks: one notice if CenterFace takes its place.
    """

    def __init__(self, path: Path, residency: Residency = CPU, hooks: Hooks = SILENT):
        self.path = path
        self.residency = residency
        self.hooks = hooks
        self.chosen: FaceDetector | None = None
        self.refused: str | None = None

    def report_to(self, hooks: Hooks) -> None:
        """Send notices to `hooks` from here on; if CenterFace has taken the released detector's place, so at once."""
        self.hooks = hooks
        if self.refused:
            hooks.notice(self.refused)

    def detect(self, picture: np.ndarray) -> list[FaceBox]:
        """Faces in `picture` (uint8 RGB ``(H, W, 3)``), the largest first."""
        try:
            if self.chosen is None:
                self.chosen = YoloFace(self.path, self.residency)
            return self.chosen.detect(picture)
        except CheckpointError as error:
            self.chosen = CenterFace()
            self.refused = f"{error} Faces are found by CenterFace, which comes with the package, instead."
            self.hooks.notice(self.refused)
            return self.chosen.detect(picture)


def choose_detector(path: Path | None, residency: Residency = CPU, hooks: Hooks = SILENT) -> FaceDetector:
    """The detector of a model whose released one is at `path`; `None` if it has none."""
    return CenterFace() if path is None else ReleasedOrCenterFace(path, residency, hooks)
