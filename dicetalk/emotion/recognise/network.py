"""Runs an ONNX file on the CPU: with onnxruntime where it is installed, otherwise, for the bundled one, with OpenCV."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from dicetalk.emotion.recognise.onnx_file import check_onnx
from dicetalk.errors import CheckpointError
from dicetalk.paths import read_limited

MAX_FILE_BYTES = 1 << 30

Network = Callable[[np.ndarray], np.ndarray]
"""One input, float32 ``(1, ...)``, to the first output, float32 ``(1, ...)``."""


def open_network(path: Path, trusted: bool = False) -> Network:
    """Load an ONNX file whose weights lie in it; nothing beside it is opened.

    A damaged file can end the process inside OpenCV, which divides by what it reads there. So OpenCV runs only what
    comes with this package.

    Args:
        path: the file.
        trusted: it comes with this package, so OpenCV may run it where onnxruntime is not installed.

    Raises:
        CheckpointError: the file is missing, larger than 1 GB, damaged, has its weights elsewhere, or needs what cannot
            be run here; or onnxruntime is not installed.
    """
    content = read_limited(path, MAX_FILE_BYTES, CheckpointError, "the recogniser")
    try:
        check_onnx(content)
    except ValueError as error:
        raise _unusable(path, str(error)) from error
    try:
        import onnxruntime
    except ImportError as error:
        if trusted:
            return opencv_network(content, path)
        raise CheckpointError(
            f"{path}: recognisers of your own are run by onnxruntime, which is not installed: "
            'pip install "dicetalk[recognise]", or pip install onnxruntime.'
        ) from error
    return onnxruntime_network(content, path, onnxruntime)


def opencv_network(content: bytes, path: Path) -> Network:
    """The network of the bytes of an ONNX file that can be trusted, run by OpenCV; others may end the process.

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
