"""Expression coefficients of real faces: MediaPipe's 52 blendshapes."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from dicetalk.errors import CheckpointError, NoFaceError, SettingError

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
        path = Path(model)
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
        found = {}
        for number, crop in enumerate(crops):
            faces = self._landmarker.detect(self._image(np.ascontiguousarray(crop))).face_blendshapes
            if faces:
                found[number] = [shape.score for shape in faces[0]]
        if not found or len(found) < MIN_SHARE * len(crops):
            raise NoFaceError(f"MediaPipe found a face in {len(found)} of {len(crops)} frames only.")
        known = np.array(list(found.values()), np.float32)
        everywhere = [np.interp(np.arange(len(crops)), list(found), curve) for curve in known.T]
        return np.stack(everywhere, axis=1).astype(np.float32)


def _mediapipe() -> Any:
    wanted = "pip install --no-deps 'mediapipe<0.10.34'"
    try:
        import mediapipe
    except ImportError as error:
        raise SettingError(f"Expression coefficients need the package mediapipe ({error}): {wanted}.") from error
    version = tuple(int(part) for part in mediapipe.__version__.split(".")[:3])
    if version >= FIRST_ONLINE_VERSION:
        raise SettingError(f"mediapipe {mediapipe.__version__} calls out to the network: {wanted}.")
    return mediapipe
