"""State of a training run on disk: a checkpoint is there whole or not at all, whenever the program is killed."""

import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

import torch

from dicetalk.checkpoints.read import check_zip
from dicetalk.errors import CheckpointError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.paths import checked_path

_NAME = re.compile(r"step-(\d{9})")
_UNFINISHED = ".unfinished-"
_STATE = "state.pt"


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> None:
    """Write ``step-NNNNNNNNN`` into `folder`, then remove all checkpoints but the `keep` newest.

    The state is written into another folder, forced onto the disk, and gets its name last.

    Args:
        folder: of the run's checkpoints; made if missing.
        step: steps done.
        state: tensors, numbers, strings, lists and dicts of such.
        keep: at least one.

    Raises:
        CheckpointError: the disk is full or may not be written.
    """
    unfinished = folder / f"{_UNFINISHED}{secrets.token_hex(4)}"
    try:
        unfinished.mkdir(parents=True)
        with (unfinished / _STATE).open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        target = folder / f"step-{step:09d}"
        if target.exists():  # one that could not be read, see load_newest
            shutil.rmtree(target)
        os.replace(unfinished, target)
    except (OSError, RuntimeError) as error:  # torch's zip writer reports a full disk as RuntimeError
        shutil.rmtree(unfinished, ignore_errors=True)
        raise CheckpointError(f"{folder}: the checkpoint of step {step} cannot be written ({error}).") from error
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def list_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in `folder`, the newest last."""
    if not checked_path(folder, CheckpointError).is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name) and (path / _STATE).is_file())


def load_newest(folder: Path, hooks: Hooks = SILENT) -> dict[str, Any] | None:
    """State of the newest checkpoint that can be read, on the CPU, or none if there are no checkpoints.

    Args:
        folder: of the run's checkpoints.
        hooks: told of checkpoints that are damaged.

    Raises:
        CheckpointError: there are checkpoints, and none can be read.
    """
    found = list_checkpoints(folder)
    for path in reversed(found):
        try:
            check_zip(path / _STATE)
            # Mapped, so that the processes of a machine hold the optimizer's state once and not one copy each.
            state = torch.load(path / _STATE, map_location="cpu", weights_only=True, mmap=True)
            if not isinstance(state, dict):
                raise ValueError("it is no state of a training")
            return state
        except Exception as error:  # torch's reader walks through whatever a damaged file says
            reason = str(error).partition("\n")[0] or type(error).__name__
            hooks.notice(f"{path} cannot be read ({reason}); trying the one before.")
    if found:
        raise CheckpointError(f"{folder}: none of {len(found)} checkpoints can be read. Remove them to start anew.")
    return None


def sweep(folder: Path) -> None:
    """Remove what a killed run has left unfinished in `folder`; no other run may be writing there."""
    for path in folder.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(path, ignore_errors=True)
