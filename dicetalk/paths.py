"""Paths that users give: one boundary between what a system says of them and the library's own errors."""

import os
import stat
from os import PathLike
from pathlib import Path

from dicetalk.errors import DiceTalkError, SettingError

DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in "123456789¹²³")}
MAX_SHOWN = 120

MAX_HEADER_BYTES = 1 << 23
"""Of a safetensors file: a list of 50 000 tensors; the largest network here has 2000."""


def shown_path(path: str | PathLike[str]) -> str:
    """The path as a message shows it: without what is no text, and not longer than a line."""
    text = os.fspath(path).encode(errors="backslashreplace").decode()
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN // 2]}…{text[-MAX_SHOWN // 2 :]}"


def checked_path(path: str | PathLike[str], error: type[DiceTalkError] = SettingError) -> Path:
    """`path`, if the system could have a file or folder of that name; there may be none.

    Raises:
        DiceTalkError: an `error`: the path is too long, holds a zero byte, leads round in a circle, or is a file or
            folder that must not be seen.
    """
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):
            os.scandir(path).close()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as cause:
        raise error(f"{shown_path(path)} cannot be used as a path ({reason_of(cause)}).") from cause
    return Path(path)


def is_device(name: str) -> bool:
    """Whether Windows takes the name of a file for a device, with any ending."""
    return name.partition(".")[0].rstrip().upper() in DEVICES


def is_file(path: Path) -> bool:
    """Whether there is a file; false for what no file can be called, as a long name with a suffix put to it."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_limited(path: Path | str, limit: int, error: type[DiceTalkError], what: str, named: bool = True) -> bytes:
    """The content of a file of up to `limit` bytes; of a larger one nothing more is read.

    Args:
        path: the file.
        limit: in bytes.
        error: class of what is raised.
        what: the file is, for messages, as "the emotion track".
        named: begin messages with the path.

    Raises:
        DiceTalkError: an `error`: the file cannot be read or is larger.
    """
    name = f"{shown_path(path)}: " if named else ""
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as cause:
        raise error(f"{name}{what} cannot be read ({reason_of(cause)}).") from cause
    if len(content) > limit:
        size = f"{limit >> 20} MB" if limit >= 1 << 20 else f"{limit} bytes"
        raise error(f"{name}{what} is larger than {size}.")
    return content


def check_header(path: Path | str, error: type[DiceTalkError], limit: int = MAX_HEADER_BYTES) -> None:
    """Refuse a safetensors file whose list of tensors is longer than any, before it is read.

    The format itself allows 100 MB, of which the list in memory is many times as large. What else is wrong with the
    file is left to its reader.

    Raises:
        DiceTalkError: an `error`: the list is longer than `limit` bytes, or the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
    except (OSError, ValueError) as cause:
        raise error(f"{shown_path(path)} cannot be read ({reason_of(cause)}).") from cause
    if length > limit:
        raise error(
            f"{shown_path(path)} is no safetensors file that is read here: its list of tensors would have {length} "
            f"bytes; expected at most {limit}."
        )


def reason_of(cause: Exception) -> str:
    """The system's description of the error, in a few words."""
    return getattr(cause, "strerror", None) or str(cause)
