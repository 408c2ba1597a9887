"""Opens media files with PyAV."""

from typing import BinaryIO

import av
from av.container import InputContainer


def open_media(file: BinaryIO) -> InputContainer:
    """Open a sound or video file.

    No protocol is allowed, so that a playlist in disguise reaches no other file and no host. Damaged texts in the
    metadata are replaced instead of being an error.

    Args:
        file: opened for reading, in binary.

    Raises:
        av.error.FFmpegError: it is damaged or no media file.
    """
    # Not as `options`, which go to every stream too: before PyAV 18 that crashes on FLV, whose streams show up late.
    options = {"protocol_whitelist": "none"}
    try:
        return av.open(file, metadata_errors="replace", container_options=options)
    except TypeError:  # PyAV 19 replaces them always, and has no argument for it
        return av.open(file, container_options=options)
