"""Opens anything that holds sound and hands it out in blocks, so that an hour never lies in memory undecoded."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from av.audio.stream import AudioStream
from av.container import InputContainer

from dicetalk.audio.header import Promise, mended, sound_promise
from dicetalk.audio.samples import FrameSamples, as_float
from dicetalk.audio.stream import StreamReader, plain_error, promise_notes
from dicetalk.errors import SpeechError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.media import guarded, listed, open_media, torso_message, translated, usable

BLOCK_SAMPLES = 1 << 16

SILENT_STREAM = 2.5e-4
"""Of several streams, one that never exceeds this (-72 dB of full scale) is passed over."""


def _no_notes() -> list[str]:
    return []


@dataclass(frozen=True)
class Source:
    """Sound about to be read.

    Args:
        name: what messages call it.
        sample_rate: samples a second.
        channels: number of channels.
        blocks: float32 ``(n, channels)`` each, full scale at 1, with all samples in order.
        layout: names of the channels as FFmpeg calls them (``FL``, ``FC``, ...); `None` if nobody knows.
        notes: what to tell the user about what has been read by now.
    """

    name: str
    sample_rate: float
    channels: int
    blocks: Iterator[np.ndarray]
    layout: tuple[str, ...] | None = None
    notes: Callable[[], list[str]] = _no_notes


def array_source(array: Any, sample_rate: float) -> Source:
    """Sound from an array or tensor: ``(n,)``, ``(n, channels)``, ``(channels, n)`` or ``(1, channels, n)``.

    Of two axes the shorter one is the channels. Integers (uint8, int16, int32) are scaled to full scale at 1.

    Raises:
        SpeechError: the shape or the type is none of these, or there is no sample.
    """
    array = array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
    name = f"The sound array of shape {array.shape}"
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0].T
    elif array.ndim == 1:
        array = array[:, None]
    elif array.ndim == 2 and array.shape[0] < array.shape[1]:
        array = array.T
    if array.ndim != 2:
        raise SpeechError(f"{name} is none of (n,), (n, channels), (channels, n), (1, channels, n).")
    if array.size == 0:
        raise SpeechError(f"{name} is empty.")
    as_float(array[:0])  # refuses a type before the first block is asked for
    samples = len(array)
    blocks = (as_float(array[i : i + BLOCK_SAMPLES]) for i in range(0, samples, BLOCK_SAMPLES))
    return Source(name, sample_rate, array.shape[1], blocks)


@contextmanager
def file_source(
    path: Path, *, stream: int | None = None, lead_in: bool = True, hooks: Hooks = SILENT
) -> Iterator[Source]:
    """Sound from a file that PyAV or soundfile opens, laid out by its time stamps.

    What is there of a file that was cut short is read; the source's notes say what is missing.

    Args:
        path: a sound or video file.
        stream: which of its sound streams, 1 is the first; `None` takes the one marked as default, or the first that
            is not silent.
        lead_in: begin where the video begins, if that is before the sound; otherwise with the first sample.
        hooks: asked to stop while streams are compared.

    Raises:
        SpeechError: the file is missing, unreadable or holds no sound, or has no such stream.
        Cancelled: the caller asked to stop.
    """
    if not path.is_file():
        raise SpeechError(f"{path}: there is no such file.")
    if stream is not None and stream < 1:
        raise SpeechError(f"The sound stream is {stream}; expected 1 for the first, or more.")

    def unreadable(error: Exception) -> SpeechError:
        reason = str(error) or type(error).__name__
        return SpeechError(torso_message(path) or f"{path} cannot be read as sound: {reason}.")

    with ExitStack() as stack:
        with translated(unreadable):
            promise = sound_promise(path)
            opened = stack.enter_context(path.open("rb"))
        try:
            with translated(unreadable):
                container = stack.enter_context(open_media(opened, *mended(promise)))
                streams = usable(container, "audio")
                total = len(container.streams.audio)
        except SpeechError as error:
            yield from _by_soundfile(path, error, promise)
            return
        if not streams:
            what = "no audio stream" if not total else "only sound of an unknown kind, which cannot be decoded"
            yield from _by_soundfile(path, SpeechError(f"{path} holds {what}."), promise)
            return
        chosen, notes = _choose(path, streams, container, stream, hooks)
        with translated(unreadable):
            reader = StreamReader(path, container, chosen, promise)
            begin = reader.begin(lead_in)
        if not begin:
            raise SpeechError(f"{path}: its audio stream is empty.")
        yield Source(
            str(path),
            reader.rate,
            len(reader.layout),
            reader.blocks(),
            reader.layout,
            lambda: notes + reader.notes(),
        )


def choose_stream(path: Path, hooks: Hooks = SILENT) -> tuple[int | None, list[str]]:
    """The number of the sound stream that :func:`file_source` reads, and what to tell of the others.

    Returns:
        `None` and nothing for a file that has no choice, or cannot be read.
    """
    try:
        with ExitStack() as stack:
            with translated(plain_error):
                container = stack.enter_context(open_media(stack.enter_context(path.open("rb"))))
                streams = usable(container, "audio")
                every = list(container.streams.audio)
            if not streams or len(every) < 2:
                return None, []
            chosen, notes = _choose(path, streams, container, None, hooks)
            return every.index(chosen) + 1, notes
    except SpeechError:
        return None, []


def _choose(
    path: Path, streams: list[AudioStream], container: InputContainer, number: int | None, hooks: Hooks
) -> tuple[AudioStream, list[str]]:
    """The stream to read, and what to tell of the others."""
    every = list(container.streams.audio)
    if number is not None:
        if number > len(every):
            raise SpeechError(f"{path} has no sound stream {number}; it has {len(every)}.")
        if every[number - 1] not in streams:
            raise SpeechError(f"{path}: sound stream {number} is of an unknown kind. Choose another.")
        return every[number - 1], []
    if len(every) == 1:
        return streams[0], []
    silent: list[AudioStream] = []
    chosen = streams[0]
    for stream in streams if len(streams) > 1 else ():
        if _is_heard(path, every.index(stream), hooks):
            chosen = stream
            break
        silent.append(stream)
    others = [
        f"{place} ({_described(s, silent if chosen not in silent else (), streams)})"
        for place, s in enumerate(every, start=1)
        if s is not chosen
    ]
    place = every.index(chosen) + 1
    return chosen, [
        f"{path} has {len(every)} sound streams: {place} is used ({_described(chosen, (), streams)}), not "
        f"{listed(others)}. Choose another one as the audio stream."
    ]


def _described(stream: AudioStream, silent: Any, known: list[AudioStream]) -> str:
    words = [
        str(stream.metadata[key])[:40] for key in ("language", "title") if stream.metadata.get(key, "und") != "und"
    ]
    if stream not in known:
        return "unknown kind"
    if stream in silent:
        words.append("silent")
    if not words:
        words.append("default" if stream is known[0] else stream.codec_context.name)
    return ", ".join(words)


def _is_heard(path: Path, number: int, hooks: Hooks) -> bool:
    """Whether there is anything but silence in the sound stream `number`, from 0; damage ends the search."""
    samples_of = FrameSamples()
    with ExitStack() as stack:
        try:
            with translated(plain_error):
                container = stack.enter_context(open_media(stack.enter_context(path.open("rb"))))
                frames = container.decode(container.streams.audio[number])
            for frame in guarded(frames, plain_error):
                hooks.check()
                with translated(plain_error):
                    peak = np.abs(samples_of(frame)).max(initial=0.0)
                if peak > SILENT_STREAM:
                    return True
        except SpeechError:
            pass
    return False


def _by_soundfile(path: Path, error: SpeechError, promise: Promise | None) -> Iterator[Source]:
    """What soundfile makes of a file that PyAV does not read; `error` if it reads it neither."""
    try:
        # TypeError: headerless formats, by their file name.
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError, ValueError, RuntimeError):
        raise error from error.__cause__
    with file:
        notes = [] if promise is None else promise_notes(path, promise, file.frames / file.samplerate)
        yield Source(str(path), file.samplerate, file.channels, _soundfile_blocks(file, path), notes=lambda: notes)


def _soundfile_blocks(file: soundfile.SoundFile, path: Path) -> Iterator[np.ndarray]:
    read = 0

    def damaged(error: Exception) -> SpeechError:
        return _damaged(path, read / file.samplerate, str(error))

    while True:
        with translated(damaged):
            block = file.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)
        if not len(block):
            return
        read += len(block)
        yield block


def _damaged(path: Path, seconds: float, reason: str) -> SpeechError:
    return SpeechError(f"{path} is damaged after {seconds:.2f} s ({reason}). Repair it, or use the part before it.")
