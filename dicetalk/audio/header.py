"""Lengths that headers of sound files promise, and marks of their end."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_UNKNOWN = 0xFFFFFFFF
_MAX_CHUNKS = 1000
_LAST_PAGES = 1 << 17


@dataclass(frozen=True)
class Promise:
    """What a header says.

    Args:
        seconds: length; `None` where it says that it does not know.
        wrong: the file has more sound than its header says, and is to be read to its end.
    """

    seconds: float | None
    wrong: bool = False


def wav_promise(path: Path) -> Promise | None:
    """Length that the header of a WAV file (RIFF, RIFX, RF64, BW64) gives; `None` for other files and torn headers.

    Programs that stop early leave 0, those that write to a pipe 0 or 0xFFFFFFFF.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(12)
        if len(head) < 12 or head[:4] not in (b"RIFF", b"RIFX", b"RF64", b"BW64") or head[8:] != b"WAVE":
            return None
        order = ">" if head[:4] == b"RIFX" else "<"
        bytes_per_second = long_size = 0
        for _ in range(_MAX_CHUNKS):
            chunk = file.read(8)
            if len(chunk) < 8:
                return None
            name, length = struct.unpack(f"{order}4sI", chunk)
            begin = file.tell()
            if name == b"data":
                if length == _UNKNOWN and long_size:
                    length = long_size
                return _judged(file, begin, length, size, bytes_per_second, order)
            body = file.read(min(length, 40))
            if name == b"fmt " and len(body) >= 12:
                bytes_per_second = struct.unpack_from(f"{order}I", body, 8)[0]
            elif name == b"ds64" and len(body) >= 16:
                long_size = struct.unpack_from("<Q", body, 8)[0]
            file.seek(begin + length + length % 2)
    return None


def _judged(file: BinaryIO, begin: int, length: int, size: int, bytes_per_second: int, order: str) -> Promise | None:
    if not bytes_per_second:
        return None
    there = size - begin
    if length == _UNKNOWN:
        return Promise(None, wrong=True)
    if length > there:
        return Promise(length / bytes_per_second)
    wrong = not _chunks_follow(file, begin + length + length % 2, size, order)
    return Promise(length / bytes_per_second, wrong)


def _chunks_follow(file: BinaryIO, position: int, size: int, order: str) -> bool:
    """Whether chunks, and nothing else, lie between `position` and the end of the file."""
    for _ in range(_MAX_CHUNKS):
        if position >= size - 1:
            return True
        file.seek(position)
        chunk = file.read(8)
        if len(chunk) < 8:
            return not any(chunk)
        name, length = struct.unpack(f"{order}4sI", chunk)
        if not all(32 <= letter < 127 for letter in name) or position + 8 + length > size + 1:
            return False
        position += 8 + length + length % 2
    return False


def lacks_ogg_end(path: Path) -> bool:
    """Whether the last page of an Ogg file is not marked as the last one (RFC 3533, 6)."""
    with path.open("rb") as file:
        if file.read(4) != b"OggS":
            return False
        file.seek(max(os.fstat(file.fileno()).st_size - _LAST_PAGES, 0))
        tail = file.read()
    page = tail.rfind(b"OggS")
    return page < 0 or len(tail) < page + 6 or not tail[page + 5] & 4
