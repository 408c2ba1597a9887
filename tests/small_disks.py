"""Disks that are small, full or read-only: file systems in memory, where the system lets tests mount them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[bool]:
    """A small file system in memory at `folder`, where the system lets us; yields whether it does."""
    folder.mkdir(exist_ok=True)
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True)
    except FileNotFoundError:  # no such command
        yield False
        return
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", folder], check=True)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A disk of `size` at `folder`; the test is skipped where none can be mounted."""
    with mounted(folder, f"size={size}") as real:
        if not real:
            pytest.skip("no file system can be mounted here")
        yield


@contextmanager
def read_only_disk(folder: Path) -> Iterator[None]:
    """Nothing can be written into `folder`, by root neither."""
    with mounted(folder, "size=256k") as real:
        if real:
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        elif os.geteuid() == 0:
            pytest.skip("root may write everywhere, and may mount nothing")
        else:
            folder.chmod(0o555)
        try:
            yield
        finally:
            if not real:
                folder.chmod(0o755)


def fill_up(folder: Path) -> None:
    """Leave no room for a byte."""
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)


def unfinished_in(folder: Path) -> list[str]:
    """Names of unfinished files and of locks, of any depth."""
    return [path.name for path in folder.rglob(".*") if path.name.startswith((".dicetalk-", ".unfinished-"))]
