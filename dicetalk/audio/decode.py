"""Opens anything that holds sound and hands it out in blocks, so that an hour never lies in memory undecoded."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import torch

from dicetalk.errors import SpeechError
from dicetalk.media import open_media

BLOCK_SAMPLES = 1 << 16


@dataclass(frozen=True)
class Source:
    """Sound about to be read.

    Args:
        name: what messages call it.
        sample_rate: samples a second.
        channels: number of channels.
        blocks: float32 ``(n, channels)`` each, full scale at 1, with all samples in order.
    """

    name: str
    sample_rate: float
    channels: int
    blocks: Iterator[np.ndarray]


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
    _as_float(array[:0])  # refuses a type before the first block is asked for
    samples = len(array)
    blocks = (_as_float(array[i : i + BLOCK_SAMPLES]) for i in range(0, samples, BLOCK_SAMPLES))
    return Source(name, sample_rate, array.shape[1], blocks)


@contextmanager
def file_source(path: Path) -> Iterator[Source]:
    """Sound from a file that soundfile or PyAV opens; the first audio stream of a video.

    Raises:
        SpeechError: the file is missing, unreadable, damaged, or holds no sound.
    """
    if not path.is_file():
        raise SpeechError(f"{path}: there is no such file.")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError):  # the latter: headerless formats, by their file name
        file = None
    if file is not None:
        with file:
            yield Source(str(path), file.samplerate, file.channels, _soundfile_blocks(file, path))
        return
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(path.open("rb"))
            container = stack.enter_context(open_media(opened))
            if not container.streams.audio:
                raise SpeechError(f"{path} holds no audio stream.")
            frames = container.decode(audio=0)
            first = next(frames, None)
        except (OSError, av.error.FFmpegError) as error:
            raise SpeechError(f"{path} cannot be read as sound: {error}.") from error
        if first is None:
            raise SpeechError(f"{path}: its audio stream is empty.")
        # The frame knows better than the header, which may give half the rate (HE-AAC).
        rate, channels = first.sample_rate, len(first.layout.channels)
        yield Source(str(path), rate, channels, _av_blocks(itertools.chain([first], frames), rate, channels, path))


def _soundfile_blocks(file: soundfile.SoundFile, path: Path) -> Iterator[np.ndarray]:
    read = 0
    try:
        while len(block := file.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)):
            read += len(block)
            yield block
    except soundfile.LibsndfileError as error:
        raise _damaged(path, read / file.samplerate, str(error)) from error
    # Headers of MP3 files without an index give the length by guess, up to about half a percent wrong.
    if read < 0.99 * file.frames - 0.1 * file.samplerate:
        raise _damaged(path, read / file.samplerate, f"the header says {file.frames / file.samplerate:.2f} s")


def _av_blocks(frames: Iterator[av.AudioFrame], rate: int, channels: int, path: Path) -> Iterator[np.ndarray]:
    read = 0
    try:
        for frame in frames:
            if (frame.sample_rate, len(frame.layout.channels)) != (rate, channels):
                raise _damaged(path, read / rate, "the sample rate or the channels change there")
            block = frame.to_ndarray()
            block = _as_float(block.T if frame.format.is_planar else block.reshape(-1, channels))
            read += len(block)
            yield block
    except av.error.FFmpegError as error:
        raise _damaged(path, read / rate, str(error)) from error


def _as_float(samples: np.ndarray) -> np.ndarray:
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype in (np.int16, np.int32):
        return (samples / (1 << (8 * samples.dtype.itemsize - 1))).astype(np.float32)
    raise SpeechError(f"Sound of type {samples.dtype} is not supported; give floats in -1..1, int16, int32 or uint8.")


def _damaged(path: Path, seconds: float, reason: str) -> SpeechError:
    return SpeechError(f"{path} is damaged after {seconds:.2f} s ({reason}). Repair it, or use the part before it.")
