"""The work of a run as counts, which no other program on the machine changes."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from dicetalk.hooks import Hooks


class PassCounter:
    """Counts frames that go through a UNet, once for each guidance branch.

    Use as a context manager. A call whose deep features are those of an earlier one is shallow.

    Args:
        unet: a :class:`dicetalk.denoise.unet.UNet`, or a copy that shares its hooks.
    """

    def __init__(self, unet: nn.Module):
        self.unet = unet
        self.whole = self.shallow = 0

    def __enter__(self) -> "PassCounter":
        self.handle = self.unet.register_forward_pre_hook(self._count, with_kwargs=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self.handle.remove()

    def _count(self, unet: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        batch, frames = given[0].shape[:2]
        deep = given[5] if len(given) > 5 else named.get("deep")
        if deep is None or deep.values is None:
            self.whole += batch * frames
        else:
            self.shallow += batch * frames


def _cpu_attention(query: Any, key: Any, value: Any, *others: Any, out_shape: Any = None, **named: Any) -> int:
    """FLOP of the CPU's attention kernel, which torch's own table leaves out; the arguments are shapes."""
    return sdpa_flop_count(query, key, value)


ATTENTION_ON_CPU = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention}


class FlopCounter:
    """Counts floating-point operations of matrix products, convolutions and attention by stage.

    Use as a context manager; give ``counter.hooks`` to the library. Work between two reports belongs to the stage that
    makes the second one. Counting slows a run down: do not time it.
    """

    def __init__(self) -> None:
        self.counter = FlopCounterMode(display=False, custom_mapping=ATTENTION_ON_CPU)
        self.seen = 0
        self.stages: dict[str, int] = defaultdict(int)
        self.hooks = Hooks(progress=self._report)

    def __enter__(self) -> "FlopCounter":
        self.counter.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.counter.__exit__(*exception)

    def _report(self, stage: str, done: int, total: int, preview: torch.Tensor | None = None) -> None:
        now = self.counter.get_total_flops()
        self.stages[stage] += now - self.seen
        self.seen = now

    @property
    def flop(self) -> Mapping[str, int]:
        """FLOP of each stage."""
        return dict(self.stages)
