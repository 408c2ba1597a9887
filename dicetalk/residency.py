"""Where networks run: the device and number format by name, and moving a network there while it is used.

One small protocol: ``with residency(model_a, model_b) as device:``. The library implements it with plain
``.to(device)``; a host with a memory manager of its own (ComfyUI) brings another implementation.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from dicetalk.errors import SettingError

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


class Residency(Protocol):
    """Brings modules onto a device for the length of a ``with`` block."""

    def __call__(self, *modules: nn.Module, memory_required: int = 0) -> AbstractContextManager[torch.device]:
        """Make `modules` usable and yield the device on which their inputs must lie.

        Args:
            modules: everything that the block calls.
            memory_required: bytes that the block needs beside the weights.
        """
        ...


@dataclass(frozen=True)
class DeviceResidency:
    """Plain ``.to(device)``.

    Args:
        device: where modules run.
        offload: move them back to the CPU when the block ends, so that only one stage's weights occupy the device.
    """

    device: torch.device
    offload: bool = True

    @contextmanager
    def __call__(self, *modules: nn.Module, memory_required: int = 0) -> Iterator[torch.device]:
        """Move `modules` to the device for the length of the block."""
        try:
            for module in modules:
                module.to(self.device)
            yield self.device
        finally:
            if self.offload and self.device.type != "cpu":
                for module in modules:
                    module.to("cpu")


CPU = DeviceResidency(torch.device("cpu"))


def choose_device(name: str) -> torch.device:
    """The torch device called `name`; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        SettingError: torch does not know the device or cannot use it here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingError(f"device {name}: torch cannot use it here ({reason}). Use cpu or auto.") from error
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype called `name`; ``auto`` is float32 on the CPU and float16 on an accelerator.

    Raises:
        SettingError: `name` is none of :data:`DTYPES`.
    """
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    if name not in DTYPES:
        raise SettingError(f"dtype {name!r} is unknown. Choose one of: auto, {', '.join(DTYPES)}.")
    return DTYPES[name]
