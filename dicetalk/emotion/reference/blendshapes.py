"""Expression coefficients of real faces: MediaPipe's 52 blendshapes."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from dicetalk.emotion.reference.face_track import FaceCrop
from dicetalk.errors import CheckpointError, NoFaceError, SettingError
from dicetalk.paths import checked_path

BLENDSHAPES = 52
MIN_SHARE = 0.5
"""Of a clip's frames, those in which the landmarker must find the face."""

FIRST_ONLINE_VERSION = (0, 10, 34)
"""MediaPipe from here on calls out to the network during a plain run."""


class MediaPipeBlendshapes:
    """Coefficients of face crops. Use as a context manager; not from several threads at once.

    Args:
        model: ``face_landmarker.task``.

    Raises:
        SettingError: the package `mediapipe` is missing, or is a version that uses the network.
        CheckpointError: the model is missing or MediaPipe cannot read it.
    """

    def __init__(self, model: Path | str):
        mediapipe = _mediapipe()
        path = checked_path(model, CheckpointError)
        if not path.is_file():
            raise CheckpointError(f"{path}: there is no such file. Give MediaPipe's face_landmarker.task.")
        vision = mediapipe.tasks.vision
        try:
            self._landmarker = vision.FaceLandmarker.create_from_options(
                vision.FaceLandmarkerOptions(
                    # The bytes, because MediaPipe takes some paths for names inside its own package.
                    base_options=mediapipe.tasks.BaseOptions(model_asset_buffer=path.read_bytes()),
                    output_face_blendshapes=True,
                )
            )
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(f"{path} is no face landmarker that MediaPipe can read ({error}).") from error
        self._image: Callable[[np.ndarray], Any] = lambda pixels: mediapipe.Image(
            image_format=mediapipe.ImageFormat.SRGB, data=pixels
        )

    def __enter__(self) -> "MediaPipeBlendshapes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._landmarker.close()

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """Blendshapes of `crops` (uint8 RGB ``(N, H, W, 3)``), 0 to 1, float32 ``(N, 52)``.

        A frame without a face gets what lies between its neighbours.

        Raises:
            NoFaceError: the face is found in less than half of the frames.
        """
        seen = self.read(crops)
        found = np.flatnonzero(np.isfinite(seen[:, 0]))
        if not len(found) or len(found) < MIN_SHARE * len(crops):
            raise NoFaceError(f"MediaPipe found a face in {len(found)} of {len(crops)} frames only.")
        everywhere = [np.interp(np.arange(len(crops)), found, curve) for curve in seen[found].T]
        return np.stack(everywhere, axis=1).astype(np.float32)

    def read(self, crops: np.ndarray) -> np.ndarray:
        """Blendshapes as above, NaN in frames without a face."""
        rows = np.full((len(crops), BLENDSHAPES), np.nan, np.float32)
        for row, crop in zip(rows, crops, strict=True):
            faces = self._landmarker.detect(self._image(np.ascontiguousarray(crop))).face_blendshapes
            if faces:
                row[:] = [shape.score for shape in faces[0]]
        return rows


@dataclass(frozen=True)
class BlendshapeReader:
    """Reads faces with :class:`MediaPipeBlendshapes`; see :class:`dicetalk.emotion.reference.face_track.FaceReader`.

    MediaPipe looks for the face itself, so it is given some of its surroundings.
    """

    blendshapes: MediaPipeBlendshapes

    @property
    def crop(self) -> FaceCrop:
        """How faces are cut out."""
        return FaceCrop(256, 0.5)

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """Blendshapes ``(N, 52)`` of crops, uint8 RGB ``(N, 256, 256, 3)``; NaN where MediaPipe sees no face."""
        return self.blendshapes.read(crops)


def _mediapipe() -> Any:
    wanted = "pip install --no-deps 'mediapipe<0.10.34'"
    try:
        import mediapipe
    except ImportError as error:
        raise SettingError(f"Expression coefficients need the package mediapipe ({error}): {wanted}.") from error
    version = tuple(int(number) for number in re.findall(r"\d+", mediapipe.__version__)[:3])  # 0.10.33rc1 as well
    if version >= FIRST_ONLINE_VERSION:
        raise SettingError(f"mediapipe {mediapipe.__version__} calls out to the network: {wanted}.")
    return mediapipe
