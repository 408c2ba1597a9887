"""Lengths that headers of uncompressed sound promise, and what they should say."""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dicetalk.media import Mends

_UNKNOWN = 0xFFFFFFFF
_ENDLESS = 1 << 61
_MAX_CHUNKS = 1000
_PADDED = 8
"""Bytes that may lack behind the last chunk."""

_W64_TAIL = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
"""Bytes of a sample, by the number of its encoding."""

_WAV_LINEAR = (1, 3, 6, 7)
"""Format tags of samples that each have their own bytes: integers, floats, A-law, mu-law."""

_AIFF_BYTES = {b"ulaw": 1, b"alaw": 1, b"ULAW": 1, b"ALAW": 1, b"fl32": 4, b"FL32": 4, b"fl64": 8, b"FL64": 8}
_AIFF_LINEAR = (b"NONE", b"sowt", b"twos", b"raw ", b"in24", b"in32")


@dataclass(frozen=True)
class Promise:
    """What a header says.

    Args:
        seconds: length; `None` where it says that it does not know, or gives bytes of which nobody knows how long they
            are.
        share: of coded sound, its length by the header to that of what is there.
        wrong: it is the header of a WAV, and the file has more sound than it says: read to the file's end.
        mends: what stands in the header where another length is to be read than is there, for
            :func:`dicetalk.media.open_media`.
    """

    seconds: float | None
    share: float | None = None
    wrong: bool = False
    mends: Mends = ()


def sound_promise(path: Path) -> Promise | None:
    """Length that the header of a WAV (RIFF, RIFX, RF64, BW64), W64, AIFF, CAF or AU file gives.

    Programs that stop early leave 0, those that write to a pipe 0 or the highest number; copies that stop early leave
    more than there is.

    Returns:
        `None` for other files, coded sound and torn headers.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(40)
        try:
            if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
                return _wav(file, size, head)
            if head[:4] == b"riff" and head[24:28] == b"wave":
                return _w64(file, size)
            if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
                return _aiff(file, size)
            if head[:4] == b"caff":
                return _caf(file, size)
            if head[:4] == b".snd":
                return _au(head, size)
        except (struct.error, ZeroDivisionError, OverflowError):  # torn
            pass
    return None


def mended(promise: Promise | None) -> tuple[bool, Mends]:
    """What :func:`dicetalk.media.open_media` is to do about a header."""
    return (False, ()) if promise is None else (promise.wrong, promise.mends)


def _wav(file: BinaryIO, size: int, head: bytes) -> Promise | None:
    order = ">" if head[:4] == b"RIFX" else "<"
    bytes_per_second = long_size = 0
    linear = False
    long_place = None
    place = 12
    for _ in range(_MAX_CHUNKS):
        file.seek(place)
        name, length = struct.unpack(f"{order}4sI", file.read(8))
        begin = place + 8
        if name == b"data":
            long = length == _UNKNOWN and long_place is not None and long_size > 0
            length = long_size if long else length
            if not bytes_per_second:
                return None
            if length == _UNKNOWN:
                return Promise(None, wrong=True)
            if long and long_place is not None and length > size - begin:
                mends = ((long_place, struct.pack("<Q", size - begin)),)
                return Promise(_seconds(length, bytes_per_second), mends=mends)
            there = size - begin
            wrong = length <= there and not _chunks_follow(file, begin + length + length % 2, size, _riff(order))
            if linear:
                return Promise(length / bytes_per_second, wrong=wrong)
            share = length / there if wrong or length > there else 1.0
            return Promise(None, share, wrong=wrong)
        body = file.read(min(length, 40))
        if name == b"fmt ":
            tag, rate, frame_bytes = struct.unpack_from(f"{order}H2xI4xH", body)
            linear = tag in _WAV_LINEAR or (
                tag == 0xFFFE and struct.unpack_from(f"{order}H", body, 24)[0] in _WAV_LINEAR
            )
            bytes_per_second = rate * frame_bytes  # as decoders count; what the header says of it is often wrong
        elif name == b"ds64":
            long_size, long_place = struct.unpack_from("<Q", body, 8)[0], begin + 8
        place = begin + length + length % 2
    return None


def _w64(file: BinaryIO, size: int) -> Promise | None:
    bytes_per_second, place = 0, 40
    for _ in range(_MAX_CHUNKS):
        file.seek(place)
        name, length = struct.unpack("<4s12xQ", file.read(24))
        if name == b"data" and bytes_per_second:
            said = max(length - 24, 0)
            if said <= size - place - 24 and _chunks_follow(file, place + length + -length % 8, size, _guid):
                return Promise(said / bytes_per_second)
            mends = ((place + 16, struct.pack("<Q", size - place)),)
            return Promise(_seconds(said, bytes_per_second), mends=mends)
        if name == b"fmt ":
            bytes_per_second = struct.unpack_from("<I", file.read(16), 8)[0]
        place += max(length + -length % 8, 24)
    return None


def _aiff(file: BinaryIO, size: int) -> Promise | None:
    frame_bytes, rate, frames, frames_place, place = 0, 0.0, 0, 0, 12
    for _ in range(_MAX_CHUNKS):
        file.seek(place)
        name, length = struct.unpack(">4sI", file.read(8))
        begin = place + 8
        if name == b"COMM":
            body = file.read(min(length, 26))
            channels, frames, bits = struct.unpack_from(">HIH", body)
            exponent, mantissa = struct.unpack_from(">HQ", body, 8)
            rate = mantissa * 2.0 ** (exponent - 16383 - 63)
            coding = body[18:22] or b"NONE"
            sample = -(-bits // 8) if coding in _AIFF_LINEAR else _AIFF_BYTES.get(coding, 0)
            frame_bytes, frames_place = channels * sample, begin + 2
        elif name == b"SSND" and not frame_bytes:
            return _coded_aiff(size - begin, length, frames, place)
        elif name == b"SSND":
            there = (size - begin - 8) // frame_bytes
            follows = _chunks_follow(file, begin + length + length % 2, size, _riff(">"))
            if 8 <= length <= size - begin and follows:
                there = (length - 8) // frame_bytes
            if frames == there and follows:
                return Promise(frames / rate)
            frames = _ENDLESS if frames == _UNKNOWN else frames
            # The frames of COMM and the bytes of SSND contradict each other, or the file.
            said = frames if frames != there else max(length - 8, 0) // frame_bytes
            # Beyond the file's end, or FFmpeg takes what is left of a torn frame for a chunk.
            length_there = struct.pack(">I", min(size - begin + 16, _UNKNOWN))
            mends = ((place + 4, length_there), (frames_place, struct.pack(">I", min(there, _UNKNOWN))))
            return Promise(_seconds(said, rate), mends=mends)
        place = begin + length + length % 2
    return None


def _coded_aiff(there: int, length: int, frames: int, place: int) -> Promise:
    if 8 < length <= there and frames:
        return Promise(None, share=1.0)
    share = max(length - 8, 0) / max(there - 8, 1) if frames else 0.0
    return Promise(None, share, mends=((place + 4, struct.pack(">I", min(there, _UNKNOWN))),))


def _caf(file: BinaryIO, size: int) -> Promise | None:
    bytes_per_second, packet_bytes, place = 0.0, 1, 8
    for _ in range(_MAX_CHUNKS):
        file.seek(place)
        name, length = struct.unpack(">4sq", file.read(12))
        begin = place + 12
        if name == b"desc":
            rate, packet_bytes, packet_frames = struct.unpack_from(">d8xII", file.read(24))
            bytes_per_second = packet_bytes * rate / packet_frames
        elif name == b"data":
            # -1 says that it reaches to the end of the file, which is no fault.
            if not bytes_per_second > 0 or length == -1:
                return None
            said = max(length - 4, 0)
            if length <= size - begin and length >= 4 and _chunks_follow(file, begin + length, size, _caf_chunk):
                return Promise(said / bytes_per_second)
            there = (size - begin - 4) // packet_bytes * packet_bytes  # FFmpeg drops more of a torn packet
            mends = ((place + 4, struct.pack(">q", there + 4)),)
            return Promise(_seconds(said, bytes_per_second), mends=mends)
        if length < 0:
            return None
        place = begin + length
    return None


def _au(head: bytes, size: int) -> Promise | None:
    begin, length, coding, rate, channels = struct.unpack_from(">5I", head, 4)
    bytes_per_second = _AU_BYTES.get(coding, 0) * rate * channels
    if not bytes_per_second or begin > size:
        return None
    there = size - begin
    if length in (there, _UNKNOWN):  # which says that it reaches to the end of the file
        return Promise(there / bytes_per_second)
    return Promise(length / bytes_per_second, mends=((8, struct.pack(">I", min(there, _UNKNOWN))),))


Chunk = Callable[[BinaryIO], "tuple[int, bool] | None"]
"""Reads the head of a chunk: bytes to the next one, and whether it can be one; `None` where it is cut off."""


def _chunks_follow(file: BinaryIO, position: int, size: int, chunk: Chunk) -> bool:
    """Whether chunks, and nothing else, lie between `position` and the end of the file."""
    for _ in range(_MAX_CHUNKS):
        if position >= size - 1:
            return True
        file.seek(position)
        head = chunk(file)
        if head is None:
            return False
        length, known = head
        if not length:  # a rest that is too short for a chunk
            return known
        if not known or position + length > size + _PADDED:
            return False
        position += length
    return False


def _riff(order: str) -> Chunk:
    def chunk(file: BinaryIO) -> tuple[int, bool] | None:
        head = file.read(8)
        if len(head) < 8:
            return 0, not any(head)
        name, length = struct.unpack(f"{order}4sI", head)
        return 8 + length + length % 2, _is_name(name)

    return chunk


def _caf_chunk(file: BinaryIO) -> tuple[int, bool] | None:
    head = file.read(12)
    if len(head) < 12:
        return None
    name, length = struct.unpack(">4sq", head)
    return 12 + length, _is_name(name) and length >= 0


def _guid(file: BinaryIO) -> tuple[int, bool] | None:
    head = file.read(24)
    if len(head) < 24:
        return 0, not any(head)
    length = struct.unpack_from("<Q", head, 16)[0]
    return length + -length % 8, head[4:16] == _W64_TAIL and length >= 24


def _is_name(name: bytes) -> bool:
    return all(32 <= letter < 127 for letter in name)


def _seconds(length: int, bytes_per_second: float) -> float | None:
    """Length of what a header says to have so many bytes; `None` where it says as many as can be."""
    return None if length >= _ENDLESS else length / bytes_per_second
