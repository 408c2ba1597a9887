"""Runs an ONNX file on the CPU: with onnxruntime where it is installed, otherwise, for the bundled one, with OpenCV.

Before anything runs it, the file's protobuf structure is checked, and that its weights lie in it: a tensor may name
another file, by any path, in which its numbers are, and what reads the tensor opens that file. The message types are
those of onnx.proto; of each only the fields that lead to tensors are followed.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

from dicetalk.errors import CheckpointError
from dicetalk.paths import read_limited

MAX_FILE_BYTES = 1 << 30

Network = Callable[[np.ndarray], np.ndarray]
"""One input, float32 ``(1, ...)``, to the first output, float32 ``(1, ...)``."""

_LEADS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Fields of each message, by number, that hold another message."""

_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
MAX_DEPTH = 40
"""Of graphs in nodes in graphs."""

MAX_MESSAGES = 1_000_000


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


def onnxruntime_network(content: bytes, path: Path, onnxruntime: ModuleType) -> Network:
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


def check_onnx(content: bytes) -> None:
    """Refuse what is no ONNX file, and one whose weights lie elsewhere.

    Raises:
        ValueError: it is one of these; the text says which.
    """
    view = memoryview(content)
    waiting = [("model", view, 0)]
    seen, has_graph = 0, False
    while waiting:
        kind, message, depth = waiting.pop()
        seen += 1
        if depth > MAX_DEPTH or seen > MAX_MESSAGES:
            raise ValueError("it nests deeper, or has more parts, than any recogniser")
        for number, value in _fields(message):
            if kind == "tensor":
                if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
                    raise ValueError(
                        "its weights lie in another file. Save it as one: "
                        "onnx.save(onnx.load(model), path, save_as_external_data=False)"
                    )
            elif number in _LEADS[kind]:
                if not isinstance(value, memoryview):
                    raise ValueError("it is damaged: a part has a number in its place")
                has_graph |= kind == "model" and number == 7
                waiting.append((_LEADS[kind][number], value, depth + 1))
    if not has_graph:
        raise ValueError("it holds no network")


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a protobuf message: a number, or bytes."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _varint(message, place)
            yield number, value
            continue
        if wire == 2:
            length, place = _varint(message, place)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError("it is damaged or no ONNX file")
        if number == 0 or place + length > len(message):
            raise ValueError("it is damaged, cut off, or no ONNX file")
        yield number, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("it is damaged, cut off, or no ONNX file")
