"""Boxes of HEIF files (ISO/IEC 14496-12 and 23008-12): which pictures there are, and of what they are made."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from dicetalk.media import MAX_BOXES

CODED = (b"hvc1", b"av01", b"avc1")
"""Kinds of items that a decoder of video reads."""

GRID = b"grid"

_MAX_META = 1 << 24


@dataclass
class Still:
    """What the boxes say, by number of item.

    Args:
        primary: the picture that is meant.
        kinds: four letters of each item.
        hidden: items that are no pictures of their own.
        references: of each kind, from an item to others.
        properties: name and content, in the order in which they apply.
        places: offset and length in the file, or of negative offset -1 - n from byte n of :attr:`data`.
        data: content that stands among the boxes.
    """

    primary: int | None = None
    kinds: dict[int, bytes] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)
    references: dict[bytes, dict[int, list[int]]] = field(default_factory=dict)
    properties: dict[int, list[tuple[bytes, bytes]]] = field(default_factory=dict)
    places: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    data: bytes = b""

    def property_of(self, item: int, name: bytes) -> bytes | None:
        """Content of the first property `name` of `item`."""
        return next((content for each, content in self.properties.get(item, ()) if each == name), None)

    def related(self, kind: bytes, item: int) -> list[int]:
        """Items that `item` refers to."""
        return self.references.get(kind, {}).get(item, [])

    def others(self) -> int:
        """How many more pictures there are, without tiles, thumbnails and masks."""
        parts = {each for several in self.references.get(b"dimg", {}).values() for each in several}
        helpers = set(self.references.get(b"thmb", {})) | set(self.references.get(b"auxl", {}))
        whole = {item for item, kind in self.kinds.items() if kind in (*CODED, GRID)}
        return len(whole - parts - helpers - self.hidden - {self.primary})


def top_boxes(file: BinaryIO) -> dict[bytes, tuple[int, int]]:
    """Where the contents of a file's boxes begin, and how long they are; of several of one name the first counts."""
    found: dict[bytes, tuple[int, int]] = {}
    place = 0
    for _ in range(MAX_BOXES):
        file.seek(place)
        head = file.read(16)
        length, start = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, start = int.from_bytes(head[8:], "big"), 16
        if len(head) < 8 or length < start:
            break
        found.setdefault(head[4:8], (place + start, length - start))
        place += length
    return found


def still_of(file: BinaryIO, boxes: dict[bytes, tuple[int, int]]) -> Still:
    """What the box ``meta`` among :func:`top_boxes` says; empty if there is none.

    Raises:
        ValueError, IndexError: it is damaged.
    """
    place, length = boxes.get(b"meta", (0, 0))
    if length > _MAX_META:
        raise ValueError("its index is too long")
    file.seek(place)
    return _parsed(file.read(length))


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of the boxes in `data`."""
    place = 0
    while place + 8 <= len(data):
        length, start = int.from_bytes(data[place : place + 4], "big"), 8
        if length == 1:
            length, start = int.from_bytes(data[place + 8 : place + 16], "big"), 16
        elif length == 0:
            length = len(data) - place
        if length < start:
            raise ValueError("a box of no length")
        yield data[place + 4 : place + 8], data[place + start : place + length]
        place += length


class _Numbers:
    """Reads numbers of a box one after another."""

    def __init__(self, data: bytes, place: int = 0):
        self.data, self.place = data, place

    def __call__(self, size: int) -> int:
        part = self.data[self.place : self.place + size]
        if len(part) < size:
            raise ValueError("a box ends in the middle")
        self.place += size
        return int.from_bytes(part, "big")


def _parsed(meta: bytes) -> Still:
    still = Still()
    known: list[tuple[bytes, bytes]] = []
    for name, body in _boxes(meta[4:]):
        version = body[0] if body else 0
        if name == b"pitm":
            still.primary = _Numbers(body, 4)(4 if version else 2)
        elif name == b"iinf":
            for each, entry in _boxes(body[8 if version else 6 :]):
                if each == b"infe" and entry[0] >= 2:
                    numbers = _Numbers(entry, 4)
                    item = numbers(4 if entry[0] > 2 else 2)
                    numbers(2)
                    still.kinds[item] = numbers(4).to_bytes(4, "big")
                    if entry[3] & 1:
                        still.hidden.add(item)
        elif name == b"iref":
            for kind, entry in _boxes(body[4:]):
                size, numbers = 4 if version else 2, _Numbers(entry)
                item = numbers(size)
                still.references.setdefault(kind, {})[item] = [numbers(size) for _ in range(numbers(2))]
        elif name == b"iprp":
            for each, content in _boxes(body):
                if each == b"ipco":
                    known = list(_boxes(content))
                elif each == b"ipma":
                    _associate(still, content, known)
        elif name == b"iloc":
            _locate(still, body)
        elif name == b"idat":
            still.data = body
    return still


def _associate(still: Still, body: bytes, known: Sequence[tuple[bytes, bytes]]) -> None:
    """Give items their properties, which are numbered from 1."""
    numbers, wide = _Numbers(body, 4), body[3] & 1
    for _ in range(numbers(4)):
        item = numbers(4 if body[0] else 2)
        for _ in range(numbers(1)):
            index = numbers(2) & 0x7FFF if wide else numbers(1) & 0x7F
            if index:
                with suppress(IndexError):  # of a kind that came later than this program
                    still.properties.setdefault(item, []).append(known[index - 1])


def _locate(still: Still, body: bytes) -> None:
    """Where the data of items is."""
    version, numbers = body[0], _Numbers(body, 4)
    sizes = numbers(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    for _ in range(numbers(4 if version > 1 else 2)):
        item = numbers(4 if version > 1 else 2)
        inside = numbers(2) & 15 if version else 0
        numbers(2)
        base = numbers(base_size)
        for _ in range(numbers(2)):
            numbers(index_size)
            offset, length = base + numbers(offset_size), numbers(length_size)
            still.places.setdefault(item, []).append((-1 - offset if inside == 1 else offset, length))
