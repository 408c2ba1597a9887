"""Frames and sound to a WebM file: VP9, with alpha or without, and Opus."""

from collections.abc import Iterable
from fractions import Fraction
from os import PathLike

import numpy as np
from torch import Tensor

from dicetalk.hooks import SILENT, Hooks
from dicetalk.video.mp4 import Form, write_film

WEBM = Form(
    "webm",
    "libvpx-vp9",
    "libopus",
    sample_rates=(8000, 12000, 16000, 24000, 48000),
    alpha=True,
    # No random numbers in the header: the same frames make the same file, as in MP4.
    container_options={"fflags": "+bitexact"},
    # b=0: quality alone decides. The encoder's own speed 1 takes ten times as long as 5, and saves a tenth of the size.
    picture_options={"b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1", "auto-alt-ref": "0"},
)
"""VP9 with alpha must not use hidden reference frames (``auto-alt-ref``): players lose the alpha of what follows."""


def write_webm(
    path: str | PathLike[str],
    chunks: Iterable[Tensor],
    *,
    fps: Fraction | float,
    sound: tuple[np.ndarray, int] | None = None,
    crf: int = 18,
    hooks: Hooks = SILENT,
    total: int,
) -> None:
    """Write VP9 (4:2:0, BT.709) with Opus sound.

    Args:
        path: an existing file is replaced.
        chunks: pieces of one clip, (n, 3, H, W) in 0..1, or (n, 4, H, W) with alpha that is not premultiplied.
        fps: frames per second.
        sound: as for :func:`dicetalk.video.mp4.write_mp4`, whose errors are raised here, too.
        crf: quality, 0 (best) to 51.
        hooks: reports the stage "write" in frames.
        total: frames in all `chunks`, for the progress.
    """
    write_film(WEBM, path, chunks, fps=fps, sound=sound, crf=crf, hooks=hooks, total=total)
