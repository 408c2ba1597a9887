"""Frames to a folder of PNG pictures."""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from PIL import Image
from torch import Tensor

from dicetalk.errors import VideoError
from dicetalk.files import check_folder_target, explained, replacing
from dicetalk.hooks import SILENT, Hooks
from dicetalk.video.clip import NO_FRAMES
from dicetalk.video.colour import rgb_to_bytes


def write_png_folder(
    folder: str | PathLike[str], chunks: Iterable[Tensor], *, hooks: Hooks = SILENT, total: int
) -> None:
    """Write ``frame_00001.png``, ``frame_00002.png``, ...

    The folder takes its place when it is complete; whatever ends the work early leaves nothing.

    Args:
        folder: new, or existing and empty.
        chunks: pieces of one clip, (n, 3, H, W) in 0..1, or (n, 4, H, W) with alpha, not premultiplied.
        hooks: reports the stage "write" in frames.
        total: frames in all `chunks`, for the progress.

    Raises:
        VideoError: there are no frames.
        OutputError: `folder` holds something already, or it cannot be written.
    """
    folder = Path(folder)
    check_folder_target(folder)
    done = 0
    with replacing(folder) as partial:
        with explained(folder):
            partial.mkdir()
        for chunk in chunks:
            hooks.check()
            for picture in chunk:
                done += 1
                image = Image.fromarray(rgb_to_bytes(picture))
                with explained(folder):
                    image.save(partial / f"frame_{done:05}.png")
            hooks.report("write", done, total)
        if not done:
            raise VideoError(NO_FRAMES)
