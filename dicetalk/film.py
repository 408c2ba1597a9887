"""Pictures and sound of a video at the rates of the network, a bit at a time."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soxr
from av.container import InputContainer

from dicetalk.audio.decode import file_source
from dicetalk.audio.speech import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME
from dicetalk.errors import SpeechError, VideoError
from dicetalk.media import open_media
from dicetalk.settings import FPS

TOLERANCE_SECONDS = 0.002
"""Containers round times, to milliseconds at worst."""

TRUE_LENGTHS = ("matroska", "mp4", "avi")
"""Formats whose header tells their length; that of others is a guess from their size."""

CUT_SECONDS = 1.0
"""Lengths in headers are rounded, and streams of one file differ a little."""

MAX_SIDE = 4096
MAX_SECONDS = 3600.0


class NoStreamError(VideoError):
    """A file has no stream of the kind that is wanted; nothing is wrong with it."""


@dataclass(frozen=True)
class Span:
    """When a stream starts and ends, in seconds of its file's clock."""

    start: float
    end: float


def measure(path: Path, kind: str) -> Span:
    """When the first stream of `kind` (``video`` or ``audio``) starts and ends; nothing is decoded.

    Raises:
        NoStreamError: the file has no such stream.
        VideoError: the file cannot be read, or has nothing in that stream, or more than an hour.
    """
    start, end = float("inf"), float("-inf")
    with _opened(path) as container:
        streams = getattr(container.streams, kind)
        if not streams:
            raise NoStreamError(f"{path} holds no {kind} stream.")
        stream = streams[0]
        for packet in container.demux(stream):
            if packet.pts is not None:
                begin = float(packet.pts * packet.time_base)
                start = min(start, begin)
                end = max(end, begin + float((packet.duration or 0) * packet.time_base))
        if stream.start_time is not None:  # behind the first packets of a codec that needs a run-up, as AAC
            start = float(stream.start_time * stream.time_base)
    if start > end:
        raise VideoError(f"{path}: its {kind} stream is empty.")
    if end - start > MAX_SECONDS:
        raise VideoError(f"{path} is longer than {MAX_SECONDS:g} s. Cut it into shorter videos.")
    return Span(start, end)


def missing_seconds(path: Path, end: float) -> float:
    """How much of a file is not there, although its header promises it: 0, or more than a second.

    Args:
        path: a file that can be read.
        end: when the last of its streams ends, see :func:`measure`.

    Raises:
        VideoError: the file cannot be read.
    """
    with _opened(path) as container:
        if container.duration is None or not any(name in container.format.name for name in TRUE_LENGTHS):
            return 0.0
        missing = container.duration / av.time_base - end
    return missing if missing > CUT_SECONDS else 0.0


def frames_between(path: Path, start: float, frames: int) -> Iterator[np.ndarray]:
    """Pictures at 12.5 fps: for each moment ``start + i / 12.5`` the one that is on the screen then.

    So pictures are repeated or left out whatever the file's frame rate is, and if it changes. Before the file's first
    picture that one is shown.

    Args:
        path: the video.
        start: of the first picture, in seconds of the file's clock.
        frames: how many pictures; fewer come out if the video ends before the moment of the last.

    Yields:
        uint8 RGB ``(H, W, 3)``, all of one size, upright as players show them.

    Raises:
        VideoError: the file is damaged, or its pictures change their size or are larger than 4096 pixels.
    """
    done, shown = 0, None
    for seconds, picture in _pictures(path):
        # What was shown until now is due for every moment before this picture.
        while shown is not None and done < frames and start + done / FPS < seconds - TOLERANCE_SECONDS:
            yield _rgb(path, shown)
            done += 1
        if done == frames:
            return
        if shown is not None and (shown.width, shown.height) != (picture.width, picture.height):
            raise VideoError(f"{path}: the size of its pictures changes at {seconds:.2f} s. Cut it there.")
        shown = picture
    while shown is not None and done < frames and start + done / FPS < seconds + 1 / FPS:
        yield _rgb(path, shown)
        done += 1


def speech_parts(path: Path, start: float, lengths: list[int]) -> Iterator[np.ndarray]:
    """Speech in parts that follow one another, decoded once, with one part in memory.

    Args:
        path: a file with sound.
        start: seconds to skip; before the sound's begin (negative) there is silence.
        lengths: of the parts, in frames at 12.5 fps; the last parts are shorter, or empty, if the sound ends.

    Yields:
        Mono at 16 kHz, float32 ``(n,)``.

    Raises:
        SpeechError: the file is damaged or holds no sound, or its rate is not between 8 and 192 kHz.
    """
    blocks = _resampled(path)
    held = np.zeros(max(0, round(-start * SAMPLE_RATE)), np.float32)
    to_skip = max(0, round(start * SAMPLE_RATE))
    for frames in lengths:
        wanted, parts, length = frames * SAMPLES_PER_FRAME, [held], len(held)
        while length < wanted and (block := next(blocks, None)) is not None:
            skipped = min(to_skip, len(block))
            to_skip -= skipped
            parts.append(block[skipped:])
            length += len(block) - skipped
        joined = np.concatenate(parts)
        held = joined[wanted:]
        yield joined[:wanted]


def _resampled(path: Path) -> Iterator[np.ndarray]:
    with file_source(path) as source:
        if not MIN_SAMPLE_RATE <= source.sample_rate <= MAX_SAMPLE_RATE:
            raise SpeechError(
                f"{path} has {source.sample_rate:g} samples a second; expected {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}."
            )
        stream = soxr.ResampleStream(source.sample_rate, SAMPLE_RATE, 1, dtype="float32")
        for block in source.blocks:
            mono = np.ascontiguousarray(block.mean(axis=1))
            if not np.isfinite(mono).all():
                raise SpeechError(f"{path} holds samples that are not finite (NaN or infinity). Repair it.")
            yield stream.resample_chunk(mono)
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _pictures(path: Path) -> Iterator[tuple[float, av.VideoFrame]]:
    """Decoded pictures and when they come, in order; one that comes late is dropped."""
    last = float("-inf")
    with _opened(path) as container:
        if not container.streams.video:
            raise VideoError(f"{path} holds no video stream.")
        stream = container.streams.video[0]
        if max(stream.width, stream.height) > MAX_SIDE:
            raise VideoError(f"{path} has {stream.width} x {stream.height} pixels, more than {MAX_SIDE} a side.")
        for frame in container.decode(stream):
            if frame.time is not None and frame.time > last:
                last = frame.time
                yield last, frame


def _rgb(path: Path, frame: av.VideoFrame) -> np.ndarray:
    if max(frame.width, frame.height) > MAX_SIDE:
        raise VideoError(f"{path} has {frame.width} x {frame.height} pixels, more than {MAX_SIDE} a side.")
    pixels = frame.to_ndarray(format="rgb24")
    # Phones store what they see sideways, and beside it by how many degrees, counterclockwise, it is to be turned.
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    if not path.is_file():
        raise VideoError(f"{path}: there is no such file.")
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            container = stack.enter_context(open_media(file))
            yield container
        except (OSError, av.error.FFmpegError) as error:
            raise VideoError(f"{path} is damaged or no video ({error}).") from error
