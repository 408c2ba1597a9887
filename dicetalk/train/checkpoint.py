"""State of a training run on disk: checkpoints that are whole or absent, and a check of the config on resume."""

import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from dicetalk.checkpoints.read import check_zip
from dicetalk.errors import CheckpointError, SettingError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.paths import checked_path
from dicetalk.train.curves import Meter

TECHNICAL = frozenset(
    {
        "out",
        "latents",
        "gradient_checkpointing",
        "log_every",
        "validate_every",
        "validation_batches",
        "checkpoint_every",
        "keep_checkpoints",
        "workers",
        "device",
    }
)
"""Entries of configs that change no weight."""

STEERING = frozenset({"steps", "learning_rate", "warmup_steps", "decay", "clip_norm"})
"""Entries of a loop that whoever watches a run may have to change on its way: they act from the next step on."""

Entries = dict[str, Any]
"""Plain values by their dotted names, as ``loop.seed``; paths are relative to the run's `out`: both may move."""


class Change(NamedTuple):
    """An entry that is not what it was."""

    name: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.name} was {self.before}, and now is {self.now}"


def entries(config: Any, out: Path, prefix: str = "") -> Entries:
    """Every entry of a config, a dataclass that may hold others, but the :data:`TECHNICAL` ones.

    Args:
        config: see above.
        out: of the run.
        prefix: of the names.
    """
    found: Entries = {}
    for name in (field.name for field in fields(config)):
        value = getattr(config, name)
        if name in TECHNICAL:
            continue
        if is_dataclass(value):
            found |= entries(value, out, f"{prefix}{name}.")
        else:
            found[prefix + name] = _relative(value, out) if isinstance(value, Path) else value
    return found


def defaults(config: Any, prefix: str = "") -> Entries:
    """Result of :func:`entries` for a config without its optional entries."""
    found: Entries = {}
    for field in (field for field in fields(config) if field.name not in TECHNICAL):
        value = getattr(config, field.name)
        if is_dataclass(value):
            found |= defaults(value, f"{prefix}{field.name}.")
        elif field.default is not MISSING:
            found[prefix + field.name] = field.default
        elif field.default_factory is not MISSING:
            found[prefix + field.name] = field.default_factory()
    return found


def changes(before: Mapping[str, Any], now: Mapping[str, Any], usual: Mapping[str, Any] | None = None) -> list[Change]:
    """The entries that differ.

    Args:
        before: of the run as it was begun.
        now: of the run as it goes on.
        usual: what an entry counts as that was not there before: the package may have got it since.
    """
    before = {name: (usual or {})[name] for name in now if name in (usual or {})} | dict(before)
    names = [*before, *(name for name in now if name not in before)]
    return [
        Change(name, before.get(name, "not there"), now.get(name, "not there"))
        for name in names
        if before.get(name) != now.get(name)
    ]


def _relative(path: Path, out: Path) -> str:
    try:
        return Path(os.path.relpath(path, out)).as_posix()
    except ValueError:  # on another drive
        return path.absolute().as_posix()


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
        hooks: notices of damaged checkpoints.

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


def sweep_checkpoints(folder: Path) -> None:
    """Remove what a killed run has left unfinished in `folder`; no other run may be writing there."""
    for path in folder.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(path, ignore_errors=True)


if TYPE_CHECKING:
    from accelerate import Accelerator
    from diffusers.training_utils import EMAModel


def state_of(
    task: Any, optimizer: Any, ema: "EMAModel", totals: dict[str, torch.Tensor], step: int, begun: Entries
) -> dict[str, Any]:
    """Contents of a checkpoint; `totals` are the meter's, `begun` is the run's first config."""
    return {
        "step": step,
        "config": begun,
        "module": task.module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "ema": ema.state_dict(),
        "meter": totals,
        "task": task.state_dict(),
    }


def resume(
    task: Any,
    optimizer: Any,
    ema: "EMAModel",
    meter: Meter,
    now: Entries,
    usual: Entries,
    folder: Path,
    accelerator: "Accelerator",
    hooks: Hooks,
) -> int:
    """Load the newest checkpoint, if there is one.

    Args:
        task: what is trained.
        optimizer: Accelerate's wrapper of AdamW.
        ema: moving averages.
        meter: sums since the last row of the curves.
        now: what the config says now, see :func:`dicetalk.train.checkpoint.entries`.
        usual: what entries count as that the checkpoint does not have.
        folder: of the checkpoints.
        accelerator: of all processes.
        hooks: notices of damaged checkpoints, and of what is steered differently from here on.

    Returns:
        The steps done.

    Raises:
        CheckpointError: the checkpoint cannot be read or is of another training, or the processes found different ones.
        SettingError: it has more steps than are asked for.
    """
    state = load_newest(folder, hooks)
    start = 0 if state is None else state.get("step")
    if type(start) is not int or start < 0:
        raise CheckpointError(
            f"{folder}: the checkpoint is of another program: its step is {str(start)[:40]}. Choose another `out`."
        )
    _agree(start, folder, accelerator)
    if state is None:
        return 0
    try:
        differences = changes(state["config"], now, usual)
        decisive = [change for change in differences if change.name.removeprefix("loop.") not in STEERING]
        if decisive:
            raise ValueError("; ".join(map(str, decisive[:3])))
        averages = state["ema"]["shadow_params"]
        if [p.shape for p in averages] != [p.shape for p in ema.shadow_params]:
            raise ValueError("other parameters were trained")
        task.module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        ema.load_state_dict(state["ema"])
        ema.to(accelerator.device)
        task.load_state_dict(state["task"])
        meter.load(state["meter"], accelerator)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{folder}: the checkpoint is of another training ({reason}). Put it back, choose another `out`, or remove "
            "the folder to start anew."
        ) from error
    for change in differences:
        if change.name != "loop.steps":
            hooks.notice(f"From step {start + 1} on, {change}.")
    if start > now["loop.steps"]:
        raise SettingError(
            f"loop.steps is {now['loop.steps']}, and the checkpoint in {folder} has {start} already. Raise it, or "
            "choose another `out`."
        )
    return start


def _agree(start: int, folder: Path, accelerator: "Accelerator") -> None:
    """Machines that do not share the folder would each go on from a step of its own, and wait for each other in vain.

    Raises:
        CheckpointError: the processes' `start` differ.
    """
    starts = accelerator.gather(torch.tensor([start], device=accelerator.device)).tolist()
    if len(set(starts)) > 1:
        raise CheckpointError(
            f"{folder}: the processes would go on from different steps ({', '.join(map(str, starts))}). All machines "
            "need one `out` that they share; copy the checkpoints to where each looks for them, or mount one folder."
        )
