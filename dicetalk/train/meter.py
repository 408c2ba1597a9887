"""Means of what is logged."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from dicetalk.errors import SettingError

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass
class Meter:
    """Sums of what is logged, since the last row, of this process; part of a checkpoint, so that curves go on as well.

    Args:
        sums: by name, each a sum and how many values are in it, float32 ``(2,)``.
    """

    sums: dict[str, torch.Tensor] = field(default_factory=dict)

    def add(self, outputs: Mapping[str, torch.Tensor]) -> None:
        """Take the scalars of `outputs`."""
        for name, value in outputs.items():
            if value.ndim == 0:
                value = value.detach().float()
                one = torch.stack([value, torch.ones_like(value)])
                self.sums[name] = self.sums[name] + one if name in self.sums else one

    def totals(self, accelerator: "Accelerator") -> dict[str, torch.Tensor]:
        """The sums over all processes, in each of them."""
        return {name: accelerator.reduce(total, reduction="sum") for name, total in self.sums.items()}

    def load(self, totals: Mapping[str, torch.Tensor], accelerator: "Accelerator") -> None:
        """Inverse of :meth:`totals`: one process goes on with them, the others from zero."""
        part = 1.0 if accelerator.is_main_process else 0.0
        self.sums = {name: part * total.to(accelerator.device) for name, total in totals.items()}


def means(totals: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Means out of :meth:`Meter.totals`."""
    return {name: total / count for name, (total, count) in ((n, t.tolist()) for n, t in totals.items())}


def finite_means(totals: Mapping[str, torch.Tensor], step: int) -> dict[str, float]:
    """As :func:`means`; a loss that is not finite ends the run before it is saved.

    Raises:
        SettingError: one is not.
    """
    found = means(totals)
    broken = [name for name, value in found.items() if not math.isfinite(value)]
    if broken:
        raise SettingError(
            f"Step {step}: {broken[0]} is {found[broken[0]]}. Lower learning_rate or clip_norm, or raise warmup_steps; "
            "the run goes on from its last checkpoint."
        )
    return found
