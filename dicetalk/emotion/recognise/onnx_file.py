"""Looks through an ONNX file before anything runs it: its protobuf structure, and that its weights lie in it.

The message types are those of onnx.proto; of each only the fields that lead to tensors are followed. A tensor may name
another file, by any path, in which its numbers are: what reads it opens that file.
"""

from collections.abc import Iterator

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
