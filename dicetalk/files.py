"""Files and folders that are there whole or not at all."""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dicetalk.errors import OutputError
from dicetalk.paths import reason_of, shown_path
from dicetalk.unfinished import held, sweep, unfinished


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Write beside `target` and take its place at the end.

    Whatever ends the block early, Ctrl-C included, removes what was written and leaves an existing `target` as it was.

    Args:
        target: a file that may exist, or a folder that may exist if it is empty.

    Yields:
        A path that does not exist yet, in the folder of `target`: the block makes a file or a folder there. Its name
        ends in ``.part``, so that what a kill leaves is in nobody's list of models or emotions; the next program that
        writes into the folder removes it, see :mod:`dicetalk.unfinished`.

    Raises:
        OutputError: the folder of `target` is missing or cannot be written, or no file can have its name.
    """
    _check_name(target)
    _check_parent(target)
    with ExitStack() as stack:
        with explained(target):
            partial = stack.enter_context(unfinished(target.parent))
        yield partial
        with explained(target):
            if partial.is_dir() and target.is_dir():
                target.rmdir()  # Windows does not rename onto a folder, not even an empty one
            os.replace(partial, target)


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep other programs from writing into `folder`, whose files belong together, while the block runs.

    Args:
        folder: exists.

    Raises:
        OutputError: another program is writing there, or the folder cannot be written.
    """
    with ExitStack() as stack:
        with explained(folder):
            mine = stack.enter_context(held(folder))
        if not mine:
            raise OutputError(
                f"{folder} is being written by another program. Wait until that has ended, or choose another folder."
            )
        yield


def check_file_target(target: Path) -> None:
    """Find out before the work whether a file can be written.

    Raises:
        OutputError: it cannot.
    """
    _check_name(target)
    if target.is_dir():
        raise OutputError(f"{target} is a folder. Give the name of a file.")
    _check_place(target)


def check_folder_target(target: Path) -> None:
    """Find out before the work whether a folder can be made.

    Raises:
        OutputError: it cannot, or holds something already.
    """
    _check_name(target)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise OutputError(f"{target} exists and is not an empty folder. Choose a new name, or empty it first.")
    _check_place(target)


def make_folder(folder: Path) -> None:
    """Make a folder that many files shall go to, and find out before the work whether it can be written.

    Raises:
        OutputError: it cannot, or there is something else of that name.
    """
    _check_name(folder)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, and a folder shall be written. Choose another name.")
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    _try_to_write(folder, folder)


def check_no_input(target: Path, inputs: Mapping[str, Path | None]) -> None:
    """Find out before the work whether writing `target` would replace what the work reads.

    Links and names that differ in case on a disk where that is no difference are seen through.

    Args:
        target: the file or folder to write.
        inputs: what is read, by what messages call it; an entry may be `None`, or a path that does not exist.

    Raises:
        OutputError: `target` is one of `inputs`.
    """
    for name, path in inputs.items():
        if path is not None and same_place(target, path):
            raise OutputError(f"{target} is {name} at the same time, which would be overwritten. Choose another name.")


def same_place(one: Path, other: Path) -> bool:
    """Whether two paths lead to one existing file or folder."""
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # one is missing, or no name at all
        return False


def _check_name(target: Path) -> None:
    """Refuse what no file of the system can be called; unfinished files have other names, so it would be found late."""
    try:
        with explained(target), suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(target)
    except ValueError as error:
        raise OutputError(
            f"{shown_path(target)} cannot be the name of a file ({reason_of(error)}). Choose another."
        ) from error


def _check_place(target: Path) -> None:
    _check_parent(target)
    sweep(target.parent)
    _try_to_write(target, target.parent)


def _try_to_write(target: Path, folder: Path) -> None:
    with explained(target), unfinished(folder) as trial:
        trial.write_bytes(b"\0")  # a file without content fits on a full disk


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
        elif error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR):
            way_on = "Something else was put there meanwhile: choose another name."
        elif error.errno == errno.ENAMETOOLONG:
            raise OutputError(
                f"{shown_path(target)} could not be written ({error.strerror}). The name is too long: choose a shorter "
                "one."
            ) from error
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            way_on = "No permission to write there: choose another folder."
        else:
            way_on = "Choose another path, or check the disk."
        raise OutputError(f"{target} could not be written ({error.strerror or error}). {way_on}") from error
