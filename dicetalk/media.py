"""Media files through PyAV: opening, choosing streams, and one boundary for whatever FFmpeg and its wrapper raise."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar, cast, overload

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from dicetalk.errors import Cancelled, DiceTalkError

MAX_SIDE = 4096
"""Pixels; larger pictures are refused before they are decoded."""

MAX_BOXES = 1000
"""Parts of a file that are looked through for its index."""

RESTART_SECONDS = 1.0
"""Time stamps that go back by more start again: two recordings in one file. Less is an overlap."""

_DEFAULT, _COVER = 1, 0x400
"""FFmpeg's flags of a stream: the one to play, and a cover picture (AV_DISPOSITION_*)."""

Kind = Literal["video", "audio"]
"""Kinds of streams that are read."""

_T = TypeVar("_T")

Mends = tuple[tuple[int, bytes], ...]
"""Places in a file, and what is to be read there."""
_S = TypeVar("_S", bound=Stream)


def open_media(file: BinaryIO, ignore_length: bool = False, mends: Mends = ()) -> InputContainer:
    """Open a sound or video file.

    No protocol is allowed, so that a playlist in disguise reaches no other file and no host. Damaged texts in the
    metadata are replaced instead of being an error.

    Args:
        file: opened for reading, in binary.
        ignore_length: of a WAV whose header tells a wrong one: read to the end of the file.
        mends: what is to be read at some places instead of what stands there.

    Raises:
        av.error.FFmpegError: it is damaged or no media file. Damaged files raise others as well: use
            :func:`translated`.
    """
    # Not as `options`, which go to every stream too: before PyAV 18 that crashes on FLV, whose streams show up late.
    options = {"protocol_whitelist": "none"}
    if ignore_length:
        options["ignore_length"] = "1"
    source = cast(BinaryIO, _Source(file, mends))
    try:
        return av.open(source, "r", metadata_errors="replace", container_options=options)
    except TypeError:  # PyAV 19 replaces them always, and has no argument for it
        return av.open(source, "r", container_options=options)


class _Source:
    """A file as FFmpeg reads it: with other bytes in places, and without Python's errors where damage leads nowhere."""

    def __init__(self, file: BinaryIO, mends: Mends):
        self.file, self.mends, self.name = file, mends, file.name
        self.tell = file.tell

    def read(self, count: int) -> bytes:
        place = self.file.tell()
        data = self.file.read(count)
        for begin, content in self.mends:
            start, end = max(begin, place), min(begin + len(content), place + len(data))
            if start < end:
                data = data[: start - place] + content[start - begin : end - begin] + data[end - place :]
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self.file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):  # before the file's beginning, or further than files reach
            return -errno.EINVAL


@contextmanager
def translated(make_error: Callable[[Exception], DiceTalkError]) -> Iterator[None]:
    """Turn whatever a reader raises over a damaged file into the library's own error.

    Damaged containers make FFmpeg's wrapper stumble over its own structures (IndexError, AttributeError, ValueError,
    ...), and which ones differs between releases; hence every Exception. Only calls of the reader belong inside.

    Args:
        make_error: the error to raise, from what was raised.
    """
    try:
        yield
    except (DiceTalkError, Cancelled):
        raise
    except Exception as error:
        if isinstance(error, MemoryError) and not isinstance(error, av.error.FFmpegError):
            raise  # the machine's; FFmpeg's own says that a header asks for too much
        raise make_error(error) from error


def guarded(items: Iterator[_T], make_error: Callable[[Exception], DiceTalkError]) -> Iterator[_T]:
    """`items`, with errors while they are made turned into the library's own; those of the consumer pass."""
    while True:
        with translated(make_error):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


@overload
def usable(container: InputContainer, kind: Literal["video"]) -> list[VideoStream]: ...
@overload
def usable(container: InputContainer, kind: Literal["audio"]) -> list[AudioStream]: ...
def usable(container: InputContainer, kind: Kind) -> list[VideoStream] | list[AudioStream]:
    """Streams of `kind` that can be decoded, the default first, then in order.

    Cover pictures are no video.
    """
    return _usable(container.streams.video, kind) if kind == "video" else _usable(container.streams.audio, kind)


def _usable(streams: Sequence[_S], kind: Kind) -> list[_S]:
    known = [stream for stream in streams if stream.codec_context is not None and not _flags(stream) & _COVER]
    if kind == "video":
        for stream in known:
            # Before it is decoded, or a header of a few bytes makes FFmpeg allocate gigabytes.
            stream.codec_context.options = {"max_pixels": str(MAX_SIDE * MAX_SIDE)}
    return sorted(known, key=lambda stream: not _flags(stream) & _DEFAULT)


def _flags(stream: Stream) -> int:
    disposition = getattr(stream, "disposition", 0)  # PyAV before 15 does not tell
    return int(getattr(disposition, "value", disposition))


def torso_message(path: Path) -> str | None:
    """Notice about an MP4 or QuickTime file without its index; `None` for any other file.

    Recorders write the index (moov) last. Without it nobody knows where in the file which sound or picture lies.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            place = 0
            found: list[bytes] = []
            while place + 8 <= size and len(found) < MAX_BOXES:
                file.seek(place)
                head = file.read(16)
                length, name = int.from_bytes(head[:4], "big"), head[4:8]
                found.append(name)
                length = int.from_bytes(head[8:], "big") if length == 1 else length or size
                place += max(length, 8)
    except (OSError, ValueError):
        return None
    if not found or found[0] not in (b"ftyp", b"mdat", b"wide", b"free", b"skip") or b"moov" in found:
        return None
    if b"mdat" not in found and b"ftyp" not in found:
        return None
    return (
        f"{path} is an MP4 or QuickTime file without its index (moov), which recorders write last: the recording was "
        "never finished, or the file is cut off. Copy or download it again; if there is no whole one, a repair program "
        "as untrunc can rebuild the index from another recording of the same device."
    )


def in_seconds(ticks: int, unit: Fraction | None) -> float:
    """A time in seconds, from `ticks` of `unit`; FFmpeg's own unit, the microsecond, where a stream has none."""
    return float(ticks * (Fraction(1, av.time_base) if unit is None else unit))


def promised_end(container: InputContainer) -> float:
    """When a file ends by its header, which gives a length, in seconds of its clock."""
    # A Matroska file's length counts from its clock's zero, also where its first packet comes later.
    start = 0 if "matroska" in container.format.name else container.start_time or 0
    return (start + (container.duration or 0)) / av.time_base


class Unwrapped:
    """Times of a stream that start again somewhere, made to go on.

    Attributes:
        restarts: where that was, in seconds of the unwrapped time.
    """

    def __init__(self) -> None:
        self.shift = 0.0
        self.end: float | None = None
        self.restarts: list[float] = []

    def __call__(self, time: float, duration: float = 0.0) -> float:
        """The unwrapped `time` of what lasts for `duration`; both in seconds."""
        time += self.shift
        if self.end is not None and time < self.end - RESTART_SECONDS:
            self.restarts.append(self.end)
            self.shift += self.end - time
            time = self.end
        self.end = max(time + duration, self.end if self.end is not None else time)
        return time


def listed(moments: Sequence[str], most: int = 4) -> str:
    """The first `most` of `moments` for a message, and how many more there are."""
    rest = len(moments) - most
    return ", ".join(moments[:most]) + (f" and {rest} more" if rest > 0 else "")
