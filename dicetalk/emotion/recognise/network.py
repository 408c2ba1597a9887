"""Runs an ONNX file on the CPU: with onnxruntime where it is installed, otherwise with OpenCV, which knows less."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from dicetalk.errors import CheckpointError

MAX_FILE_BYTES = 1 << 30

Network = Callable[[np.ndarray], np.ndarray]
"""One input, float32 ``(1, ...)``, to the first output, float32 ``(1, ...)``."""


def open_network(path: Path) -> Network:
    """Load an ONNX file whose weights lie in it; nothing beside it is opened.

    Raises:
        CheckpointError: the file is missing, larger than 1 GB, damaged, or needs what cannot be run here.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise CheckpointError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MB; a recogniser of faces is not.")
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}).") from error
    try:
        import onnxruntime
    except ImportError:
        return opencv_network(content, path)
    return onnxruntime_network(content, path, onnxruntime)


def opencv_network(content: bytes, path: Path) -> Network:
    """The network of an ONNX file's bytes, run by OpenCV.

    Raises:
        CheckpointError: OpenCV cannot read it.
    """
    try:
        network = cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))
    except cv2.error as error:
        raise _unusable(path, str(error), " OpenCV runs simple models only: pip install onnxruntime.") from error

    def run(faces: np.ndarray) -> np.ndarray:
        try:
            network.setInput(faces)
            return network.forward()
        except cv2.error as error:
            raise _unusable(path, str(error), " Does its description give the right size and layout?") from error

    return run


def onnxruntime_network(content: bytes, path: Path, onnxruntime) -> Network:
    """The network of an ONNX file's bytes, run by `onnxruntime`, which is the imported package.

    Raises:
        CheckpointError: it cannot be read.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is fatal comes as an exception too
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base class
        raise _unusable(path, str(error)) from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1:
        raise _unusable(path, f"it has {len(inputs)} inputs instead of one")

    def run(faces: np.ndarray) -> np.ndarray:
        try:
            return session.run([outputs[0].name], {inputs[0].name: faces})[0]
        except Exception as error:
            raise _unusable(path, str(error), " Does its description give the right size and layout?") from error

    return run


def _unusable(path: Path, reason: str, advice: str = "") -> CheckpointError:
    line = " ".join(reason.split())[:200].rstrip(".")
    return CheckpointError(f"{path} cannot be run as a recogniser ({line}).{advice}")
