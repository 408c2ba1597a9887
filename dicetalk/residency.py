"""Where a model lives while it is used.

One small protocol: ``with residency(model_a, model_b) as device:``. The library implements it with plain
``.to(device)``; a host with a memory manager of its own (ComfyUI) brings another implementation.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn


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
        try:
            for module in modules:
                module.to(self.device)
            yield self.device
        finally:
            if self.offload and self.device.type != "cpu":
                for module in modules:
                    module.to("cpu")


CPU = DeviceResidency(torch.device("cpu"))
