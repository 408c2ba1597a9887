"""Pictures and sound of a video at the rates of the network, a bit at a time."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, overload

import av
import numpy as np
import soxr
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from dicetalk.audio.decode import file_source
from dicetalk.audio.downmix import Downmix
from dicetalk.audio.header import mended, sound_promise
from dicetalk.audio.speech import MAX_CHANNELS, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME
from dicetalk.errors import SpeechError, VideoError
from dicetalk.hooks import Hooks
from dicetalk.media import (
    MAX_SIDE,
    Kind,
    Unwrapped,
    guarded,
    in_seconds,
    listed,
    open_media,
    promised_end,
    torso_message,
    translated,
    usable,
)
from dicetalk.settings import FPS

TOLERANCE_SECONDS = 0.002
"""Containers round times, to milliseconds at worst."""

TRUE_LENGTHS = ("matroska", "mp4", "avi")
"""Formats whose header tells their length; that of others is a guess from their size."""

CUT_SECONDS = 0.25
"""Lengths in headers are rounded, up to a block of a sound's codec."""

CUT_SECONDS_OF_MANY = 1.0
"""A file's length is that of its longest stream, which may be one that is not read here, as of subtitles."""

MAX_SECONDS = 3600.0

MANY_DAMAGED = 5
"""So many damaged packets, if they are more than a quarter, leave no pictures to trust."""

Notice = Callable[[str], None]

_S = TypeVar("_S", bound=Stream)


class NoStreamError(VideoError):
    """A file has no stream of the kind that is wanted; nothing is wrong with it."""


@dataclass(frozen=True)
class Span:
    """When a stream starts and ends, in seconds of its file's clock.

    Args:
        start: of its first packet.
        end: of its last one.
        others: how many more streams of the kind the file has.
    """

    start: float
    end: float
    others: int = 0


def measure(path: Path, kind: Kind, stream: int | None = None) -> Span:
    """When a stream of `kind` (``video`` or ``audio``) starts and ends; nothing is decoded.

    What is there of a file that was cut short counts.

    Args:
        path: the file.
        kind: of the stream.
        stream: its number among those of its kind, 1 is the first; the default one if `None`.

    Raises:
        NoStreamError: the file has no such stream.
        VideoError: the file cannot be read, or has nothing in that stream, or more than an hour.
    """
    start, end = float("inf"), float("-inf")
    with _opened(path) as container:
        found = _stream(path, container, kind, stream)
        times = Unwrapped()
        for packet in _until_torn(container.demux(found)):
            if packet.pts is not None:
                shift = times.shift
                if packet.dts is not None:
                    times(in_seconds(packet.dts, packet.time_base))
                    shift = times.shift
                begin = in_seconds(packet.pts, packet.time_base) + shift
                start = min(start, begin)
                end = max(end, begin + in_seconds(packet.duration or 0, packet.time_base))
        if found.start_time is not None:  # behind the first packets of a codec that needs a run-up, as AAC
            start = in_seconds(found.start_time, found.time_base)
        others = len(getattr(container.streams, kind)) - 1
    if kind == "audio":
        start = max(start, 0.0)  # what lies before is a codec's run-up, which players leave out
    if start > end:
        raise VideoError(f"{path}: its {kind} stream is empty.")
    if end - start > MAX_SECONDS:
        raise VideoError(f"{path} is longer than {MAX_SECONDS:g} s. Cut it into shorter videos.")
    return Span(start, end, others)


@overload
def _stream(path: Path, container: InputContainer, kind: Literal["video"]) -> VideoStream: ...
@overload
def _stream(path: Path, container: InputContainer, kind: Kind, number: int | None) -> Stream: ...
def _stream(path: Path, container: InputContainer, kind: Kind, number: int | None = None) -> Stream:
    streams: Sequence[Stream] = usable(container, "video") if kind == "video" else usable(container, "audio")
    every = getattr(container.streams, kind)
    if number is not None and number > len(every):
        raise SpeechError(f"{path} has no sound stream {number}; it has {len(every)}.")
    if number is not None and every[number - 1] in streams:
        return every[number - 1]
    if not streams:
        raise NoStreamError(f"{path} holds no {kind} stream.")
    return streams[0]


def _until_torn(packets: Iterator["av.Packet[_S]"]) -> Iterator["av.Packet[_S]"]:
    """Packets up to where the file is cut off, if it is."""
    try:
        yield from guarded(packets, lambda error: VideoError(str(error)))
    except VideoError:
        return


def missing_seconds(path: Path, end: float) -> float:
    """How much of a file is not there, although its header promises it: 0, or more than a quarter of a second.

    Args:
        path: a file that can be read.
        end: when the last of its streams ends, see :func:`measure`.

    Raises:
        VideoError: the file cannot be read.
    """
    with _opened(path) as container:
        if not container.duration or not any(name in container.format.name for name in TRUE_LENGTHS):
            return 0.0
        promised = promised_end(container)
        if "avi" in container.format.name:  # FFmpeg takes the duration from the size of what is there
            read = [*container.streams.video, *container.streams.audio]
            promised = max([promised, *(float(s.frames * s.time_base) for s in read if s.time_base)])
        kinds = [stream.type for stream in container.streams]
        slack = CUT_SECONDS if sorted(kinds) in (["audio"], ["video"], ["audio", "video"]) else CUT_SECONDS_OF_MANY
    return promised - end if promised - end > slack else 0.0


def frames_between(path: Path, start: float, frames: int, notice: Notice | None = None) -> Iterator[np.ndarray]:
    """Pictures at 12.5 fps: for each moment ``start + i / 12.5`` the one that is on the screen then.

    So pictures are repeated or left out whatever the file's frame rate is, and if it changes. Before the file's first
    picture that one is shown.

    Args:
        path: the video.
        start: of the first picture, in seconds of the file's clock.
        frames: how many pictures; fewer come out if the video ends before the moment of the last.
        notice: hears of damaged and late pictures, which are left out; without it a damaged one is an error.

    Yields:
        uint8 RGB ``(H, W, 3)``, all of one size, upright as players show them.

    Raises:
        VideoError: the file is damaged, or its pictures change their size or are larger than 4096 pixels.
    """
    done, shown = 0, None
    for seconds, picture in _pictures(path, notice):
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


def speech_parts(
    path: Path, start: float, lengths: list[int], *, stream: int | None = None, notice: Notice | None = None
) -> Iterator[np.ndarray]:
    """Speech in parts that follow one another, decoded once, with one part in memory.

    Gaps in it are silence, and channels are mixed, as :func:`dicetalk.audio.speech.load_speech` does.

    Args:
        path: a file with sound.
        start: seconds to skip; before the sound's begin (negative) there is silence.
        lengths: of the parts, in frames at 12.5 fps; the last parts are shorter, or empty, if the sound ends.
        stream: number of the sound stream, as for ``load_speech``.
        notice: hears, after the last part, of gaps, damage and unused streams.

    Yields:
        Mono at 16 kHz, float32 ``(n,)``.

    Raises:
        SpeechError: the file is damaged or holds no sound, or its rate is not between 8 and 192 kHz.
    """
    blocks = _resampled(path, stream, notice)
    held = np.zeros(max(0, round(-start * SAMPLE_RATE)), np.float32)
    to_skip = max(0, round(start * SAMPLE_RATE))
    try:
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
    finally:
        blocks.close()  # now, for its notices


def _resampled(path: Path, number: int | None, notice: Notice | None) -> Generator[np.ndarray, None, None]:
    hooks = Hooks(notice=notice or (lambda _: None))
    with file_source(path, stream=number, lead_in=False, hooks=hooks) as source:
        if not MIN_SAMPLE_RATE <= source.sample_rate <= MAX_SAMPLE_RATE:
            raise SpeechError(
                f"{path} has {source.sample_rate:g} samples a second; expected {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}."
            )
        if source.channels > MAX_CHANNELS:
            raise SpeechError(f"{path} has {source.channels} channels; expected at most {MAX_CHANNELS}.")
        resampler = soxr.ResampleStream(source.sample_rate, SAMPLE_RATE, 1, dtype="float32")
        downmix = Downmix(source.channels, int(source.sample_rate), source.layout)
        gain = np.float32(1.0 if source.channels == 1 else _gain(path, number))
        try:
            for block in source.blocks:
                if not np.isfinite(block).all():
                    raise SpeechError(f"{path} holds samples that are not finite (NaN or infinity). Repair it.")
                yield resampler.resample_chunk(gain * downmix.mono(block)[:, 0])
            rest = downmix.mono(np.zeros((0, source.channels), np.float32), last=True)
            yield resampler.resample_chunk(gain * rest[:, 0], last=True)
        finally:
            for note in source.notes():
                hooks.notice(note)


def _gain(path: Path, number: int | None) -> float:
    """Factor for channels that are never in use, which is known only once all of them were heard."""
    with file_source(path, stream=number, lead_in=False) as source:
        downmix = Downmix(source.channels, int(source.sample_rate), source.layout)
        for block in source.blocks:
            downmix.mono(block)
        downmix.mono(np.zeros((0, source.channels), np.float32), last=True)
        return downmix.mono_gain


def _pictures(path: Path, notice: Notice | None) -> Iterator[tuple[float, av.VideoFrame]]:
    """Decoded pictures and when they come, in order; those that come late, or are damaged, are left out."""
    last = float("-inf")
    late: list[str] = []
    damaged: list[str] = []
    whole = 0
    times = Unwrapped()
    with _opened(path) as container:
        stream = _stream(path, container, "video")
        if max(stream.width, stream.height) > MAX_SIDE:
            raise VideoError(f"{path} has {stream.width} x {stream.height} pixels, more than {MAX_SIDE} a side.")
        try:
            for packet in _until_torn(container.demux(stream)):
                try:
                    with translated(lambda error: _damaged(path, error)):
                        decoded = packet.decode()
                except VideoError:
                    damaged.append(f"{max(last, 0.0):.2f} s")
                    if notice is None or (len(damaged) >= MANY_DAMAGED and len(damaged) > whole / 3):
                        raise
                    continue
                whole += len(decoded)
                for frame in decoded:
                    seconds = None if frame.time is None else times(frame.time)
                    if seconds is not None and seconds > last:
                        last = seconds
                        yield last, frame
                    else:
                        late.append(f"{max(last, 0.0):.2f} s")
        finally:
            if notice is not None and late:
                notice(f"{path}: {len(late)} pictures without a time of their own are left out ({listed(late)}).")
            if notice is not None and damaged:
                notice(f"{path}: {len(damaged)} packets of pictures are damaged and left out ({listed(damaged)}).")
            if notice is not None and times.restarts:
                moments = listed([f"{moment:.2f} s" for moment in times.restarts])
                notice(f"{path}: the times of its pictures start again at {moments}; they go on there.")


def _damaged(path: Path, error: Exception) -> VideoError:
    return VideoError(torso_message(path) or f"{path} is damaged or no video ({str(error) or type(error).__name__}).")


def _rgb(path: Path, frame: av.VideoFrame) -> np.ndarray:
    if max(frame.width, frame.height) > MAX_SIDE:
        raise VideoError(f"{path} has {frame.width} x {frame.height} pixels, more than {MAX_SIDE} a side.")
    with translated(lambda error: _damaged(path, error)):
        pixels = frame.to_ndarray(format="rgb24")
        # Phones store what they see sideways, and beside it by how many degrees, counterclockwise, it is to be turned.
        turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    if not path.is_file():
        raise VideoError(f"{path}: there is no such file.")
    with ExitStack() as stack:
        with translated(lambda error: _damaged(path, error)):
            promise = sound_promise(path)
            file = stack.enter_context(path.open("rb"))
            container = stack.enter_context(open_media(file, *mended(promise)))
        yield container
