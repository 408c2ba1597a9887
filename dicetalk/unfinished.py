"""Names for files that are being written, and removal of those that killed programs have left.

Each unfinished file or folder ``.dicetalk-ID.part`` has a lock file ``.dicetalk-ID.lock`` beside it, which the program
that writes holds. The system gives the lock back however a program ends: with a process that is killed it becomes free,
and the next program that writes into the folder removes both. A process number and its start time would not do: another
machine, or another container, may write into the same folder.
"""

import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":  # there the system removes no file that a program holds open, which is a lock as well
    fcntl = None
else:
    import fcntl

_NAME = re.compile(r"(\.dicetalk-[0-9a-f]{8})\.(part|lock)")
HELD_NAME = ".dicetalk-writing.lock"
LOCKLESS_SECONDS = 3600
"""Age from which a part without a lock is left over. Only versions before this one made such parts."""


@contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """A path in `folder` for a file or folder that is not finished; what is there at the end of the block is removed.

    Raises:
        OSError: the folder cannot be written.
    """
    _sweep_once(folder.absolute())
    lock, file = _hold_new(folder)
    partial = lock.with_suffix(".part")
    try:
        yield partial
    finally:
        discard(partial)
        _let_go(lock, file)


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Hold `folder` for one program; yields false if another program that runs has it.

    The lock file is no :func:`unfinished` one: a name that everybody knows. One that a kill has left is free.

    Raises:
        OSError: the folder cannot be written.
    """
    lock = folder / HELD_NAME
    file = _hold(lock)
    if file is None:
        yield False
        return
    try:
        yield True
    finally:
        _let_go(lock, file)


def sweep(folder: Path) -> None:
    """Remove what ended programs have left unfinished in `folder`, which may be missing; errors are no matter here."""
    with suppress(OSError):
        found = {(m[1], m[2]) for m in map(_NAME.fullmatch, os.listdir(folder)) if m}
        for stem in {stem for stem, _ in found}:
            partial, lock = folder / f"{stem}.part", folder / f"{stem}.lock"
            if (stem, "lock") in found or os.path.lexists(lock):
                _remove_if_free(partial, lock)
            elif time.time() - partial.lstat().st_mtime > LOCKLESS_SECONDS:
                discard(partial)


def discard(partial: Path) -> None:
    """Remove what is left of an unfinished file or folder.

    Whoever calls has an error to report already; on a read-only disk this one would come too, and take its place.
    """
    with suppress(OSError):
        if partial.is_dir() and not partial.is_symlink():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


@lru_cache(maxsize=1024)
def _sweep_once(folder: Path) -> None:
    # A training writes thousands of files into one folder, and listing it each time would take longer than writing.
    sweep(folder)


def _hold_new(folder: Path) -> tuple[Path, BinaryIO]:
    """Make a lock file and hold it."""
    while True:
        path = folder / f".dicetalk-{secrets.token_hex(4)}.lock"
        file = path.open("xb")
        # Between the two lines a sweep may have taken the file for one that is free.
        if _locked(file) is not False and _is_at(file, path):
            return path, file
        file.close()


def _hold(path: Path) -> BinaryIO | None:
    """Take the lock file `path`, which may be there; `None` if a program has it."""
    while True:
        if fcntl is None:
            try:
                path.unlink(missing_ok=True)
            except PermissionError:
                return None
        file = path.open("ab")
        if _locked(file) is False:
            file.close()
            return None
        if _is_at(file, path):
            return file
        file.close()  # whoever had it has removed it between the two lines


def _let_go(lock: Path, file: BinaryIO) -> None:
    with suppress(OSError):
        if fcntl is None:
            file.close()
            lock.unlink()
        else:
            lock.unlink()  # before it is free: nobody else shall find it so
    file.close()


def _remove_if_free(partial: Path, lock: Path) -> None:
    with suppress(OSError):
        if fcntl is None:
            lock.unlink()  # raises if it is held
            discard(partial)
            return
        with lock.open("r+b") as file:
            if _locked(file) and _is_at(file, lock):
                discard(partial)
                lock.unlink()


def _locked(file: BinaryIO) -> bool | None:
    """Take the lock: true if it is ours now, false if another program has it, `None` if there are no locks here."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # file systems without locks: nothing can be recognised as left over there
        return None
    return True


def _is_at(file: BinaryIO, path: Path) -> bool:
    if fcntl is None:
        return True
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False
