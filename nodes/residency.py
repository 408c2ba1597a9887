"""The library's networks under ComfyUI's memory management."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import comfy.model_management as memory
import comfy.model_patcher
import comfy.ops
import torch
from torch import nn


class Operations:
    """Layers whose weights ComfyUI may leave in main memory and bring to the device when they are used.

    ComfyUI delays making the weights of a layer until a state dict is loaded. The library compares names and shapes
    before that; a layer with a loader of its own has its weights from the beginning.
    """

    Conv2d = comfy.ops.manual_cast.Conv2d
    Conv3d = comfy.ops.manual_cast.Conv3d
    GroupNorm = comfy.ops.manual_cast.GroupNorm
    LayerNorm = comfy.ops.manual_cast.LayerNorm

    class Linear(comfy.ops.manual_cast.Linear):
        """Linear layer that casts its weights when it is called."""

        _load_from_state_dict = nn.Module._load_from_state_dict

    class Embedding(comfy.ops.manual_cast.Embedding):
        """Embedding that casts its weights when it is called."""

        _load_from_state_dict = nn.Module._load_from_state_dict


LAYERS = tuple(layer for layer in vars(Operations).values() if isinstance(layer, type))


class Hosted(nn.Module):
    """Proxy handed to ComfyUI's model manager: it writes attributes, which not every network takes."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network


def hosted(network: nn.Module) -> Hosted:
    """A proxy under the class name of `network`, which is what ComfyUI's log calls a model by."""
    # A TorchScript module is of one class for all programs and knows the name that it was compiled from.
    name = getattr(network, "original_name", type(network).__name__)
    return type(name, (Hosted,), {})(network)


@dataclass(frozen=True, eq=False)
class ComfyResidency:
    """:class:`dicetalk.residency.Residency` by ComfyUI's model manager.

    Networks stay where they are when a block ends: the manager moves them away when something else needs the memory.

    Args:
        patchers: what the manager knows each network by.
    """

    patchers: dict[nn.Module, Any] = field(default_factory=dict)

    @contextmanager
    def __call__(self, *modules: nn.Module, memory_required: int = 0) -> Iterator[torch.device]:
        """Let ComfyUI's memory manager load `modules` for the length of the block."""
        device = memory.get_torch_device()
        memory.load_models_gpu(
            [self._patcher(module, device) for module in modules],
            memory_required=memory_required,
            force_full_load=not all(map(can_be_split, modules)),
        )
        with ExitStack() as stack:
            for module in modules:
                if not can_be_split(module):
                    stack.enter_context(_wholly_on(module, device))
            yield device

    def _patcher(self, module: nn.Module, device: torch.device) -> Any:
        known = self.patchers.get(module)
        if known is None or known.load_device != device:
            whole = comfy.model_patcher.ModelPatcher
            # The newer manager streams weights layer by layer, which takes layers that know how.
            streamed = getattr(comfy.model_patcher, "CoreModelPatcher", whole)
            patcher = streamed if can_be_split(module) else whole
            known = patcher(hosted(module), load_device=device, offload_device=memory.unet_offload_device())
            self.patchers[module] = known
        return known


def can_be_split(module: nn.Module) -> bool:
    """Whether `module` was made of :class:`Operations`, so that it runs with a part of its weights on the device."""
    return any(isinstance(layer, LAYERS) for layer in module.modules())


def _same(one: torch.device, other: torch.device) -> bool:
    """Whether two names are of one device: `mps` stands for `mps:0`, as parameters there say."""
    return one.type == other.type and (one.index or 0) == (other.index or 0)


@contextmanager
def _wholly_on(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Bring over what the manager left behind (it does with ``--novram``), and take it back afterwards."""
    if all(_same(parameter.device, device) for parameter in module.parameters()):
        yield
        return
    module.to(device)
    try:
        yield
    finally:
        module.to(memory.unet_offload_device())
