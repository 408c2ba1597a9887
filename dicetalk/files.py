"""Files and folders that are there whole or not at all."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dicetalk.errors import OutputError


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Write beside `target` and take its place at the end.

    Whatever ends the block early, Ctrl-C included, removes what was written and leaves an existing `target` as it was.

    Args:
        target: a file that may exist, or a folder that may exist if it is empty.

    Yields:
        A path that does not exist yet, in the folder of `target`: the block makes a file or a folder there. Its name
        ends in ``.part``, so that what a kill leaves is in nobody's list of models or emotions.

    Raises:
        OutputError: the folder of `target` is missing.
    """
    _check_parent(target)
    partial = beside(target)
    try:
        yield partial
        with explained(target):
            if partial.is_dir() and target.is_dir():
                target.rmdir()  # Windows does not rename onto a folder, not even an empty one
            os.replace(partial, target)
    except BaseException:
        discard(partial)
        raise


def discard(partial: Path) -> None:
    """Remove what is left of an unfinished file or folder.

    Whoever calls has an error to tell already; on a read-only disk this one would come too, and take its place.
    """
    with suppress(OSError):
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def beside(target: Path) -> Path:
    """A path that does not exist yet in the folder of `target`, with a short name."""
    return target.parent / f".dicetalk-{secrets.token_hex(4)}.part"


def check_file_target(target: Path) -> None:
    """Find out before the work whether a file can be written.

    Raises:
        OutputError: it cannot.
    """
    if target.is_dir():
        raise OutputError(f"{target} is a folder. Give the name of a file.")
    _check_place(target)


def check_folder_target(target: Path) -> None:
    """Find out before the work whether a folder can be made.

    Raises:
        OutputError: it cannot, or holds something already.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise OutputError(f"{target} exists and is not an empty folder. Choose a new name, or empty it first.")
    _check_place(target)


def _check_place(target: Path) -> None:
    _check_parent(target)
    trial = beside(target)
    try:
        with explained(target):
            trial.touch()
    finally:
        discard(trial)


def _check_parent(target: Path) -> None:
    if not target.parent.is_dir():
        raise OutputError(
            f"{target}: the folder {target.parent} does not exist. Make it first, or choose another path."
        )


@contextmanager
def explained(target: Path) -> Iterator[None]:
    """Turn the system's errors while `target` is written into a :class:`OutputError` that names it and the way on.

    Only calls that write belong inside: an error of whoever makes the frames is not this one's to explain.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            way_on = "The disk is full, or the file larger than allowed: free some space there, or choose another disk."
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            way_on = "No permission to write there: choose another folder."
        else:
            way_on = "Choose another path, or check the disk."
        raise OutputError(f"{target} could not be written ({error.strerror or error}). {way_on}") from error
