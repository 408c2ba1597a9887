"""From a run to its checkpoint and back."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dicetalk.errors import CheckpointError, SettingError
from dicetalk.hooks import Hooks
from dicetalk.train.begun import STEERING, Entries, changes
from dicetalk.train.checkpoint import load_newest
from dicetalk.train.meter import Meter

if TYPE_CHECKING:
    from accelerate import Accelerator
    from diffusers.training_utils import EMAModel


def state_of(
    task: Any, optimizer: Any, ema: "EMAModel", totals: dict[str, torch.Tensor], step: int, begun: Entries
) -> dict[str, Any]:
    """What a checkpoint holds; `totals` are the meter's, `begun` is what the run was begun with."""
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
        now: what the config says now, see :func:`dicetalk.train.begun.entries`.
        usual: what entries count as that the checkpoint does not have.
        folder: of the checkpoints.
        accelerator: of all processes.
        hooks: told of damaged checkpoints, and of what is steered differently from here on.

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
