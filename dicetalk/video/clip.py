"""Lengths of clips, and streams of frames that are cut, held or gathered."""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

import torch
from torch import Tensor

from dicetalk.errors import SettingError, VideoError

NO_FRAMES = "There are no frames: the clip is empty."


def exact_fps(fps: Fraction | float) -> Fraction:
    """The frame rate as a fraction that video files can hold; 29.97 keeps its name, 30000 / 1001 its value.

    Raises:
        SettingError: `fps` is not a finite number from 1/1000 to 1000.
    """
    if not (math.isfinite(fps) and Fraction(1, 1000) <= fps <= 1000):
        raise SettingError(f"fps must be between 0.001 and 1000, got {fps}.")
    return Fraction(fps).limit_denominator(1001)


def frames_to_cover(samples: int, sample_rate: int, fps: Fraction | float) -> int:
    """The smallest number of frames that lasts at least as long as the sound."""
    return math.ceil(samples * exact_fps(fps) / sample_rate)


def hold_last_frame(chunks: Iterable[Tensor], total: int) -> Iterator[Tensor]:
    """Cut the clip after `total` frames, or hold its last frame until there are as many.

    Args:
        chunks: pieces of one clip, (n, 3, H, W); not asked for more than is needed.
        total: frames wanted.

    Yields:
        Pieces of the clip; a held frame comes alone, as often as needed.

    Raises:
        VideoError: `chunks` gives no frame to hold.
    """
    done, last = 0, None
    for chunk in chunks:
        chunk = chunk[: total - done]
        done += len(chunk)
        last = chunk[-1:]
        yield chunk
        if done == total:
            return
    if last is None:
        raise VideoError(NO_FRAMES)
    for _ in range(total - done):
        yield last


def collect(chunks: Iterable[Tensor], total: int) -> Tensor:
    """Gather a clip in one tensor, without ever holding it twice.

    Args:
        chunks: pieces of one clip, (n, 3, H, W).
        total: frames in all `chunks` together.

    Returns:
        (total, 3, H, W).

    Raises:
        VideoError: `chunks` gives another number of frames.
    """
    clip, done = torch.empty(0), 0
    for chunk in chunks:
        if done == 0:
            clip = chunk.new_empty(total, *chunk.shape[1:])
        clip[done : done + len(chunk)] = chunk[: max(total - done, 0)]
        done += len(chunk)
    if done != total or done == 0:
        raise VideoError(f"The clip has {done} frames, expected {total}.")
    return clip
