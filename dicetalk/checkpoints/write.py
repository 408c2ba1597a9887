"""Writes a safetensors file tensor by tensor, so that a model of any size needs the memory of its largest tensor."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from dicetalk.checkpoints.strict import finite
from dicetalk.files import explained, replacing
from dicetalk.hooks import SILENT, Hooks

_NAMES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32"}
_ALIGNMENT = 8


def write_safetensors(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    tensor: Callable[[str], torch.Tensor],
    dtype: torch.dtype,
    metadata: dict[str, str],
    hooks: Hooks,
) -> None:
    """Write a file of one dtype; `path` appears, or is replaced, only when it is complete.

    safetensors' own writer wants all tensors at once, and holds a copy of each in some versions.

    Args:
        path: file to write.
        shapes: of every tensor, in the order in which they are written.
        tensor: makes one of them, on the CPU in `dtype`; asked once for each name.
        dtype: float16, bfloat16 or float32.
        metadata: of the file.
        hooks: progress of `convert` in tensors.

    Raises:
        OutputError: the file cannot be written; nothing is left behind.
        Cancelled: the caller asked to stop; nothing is left behind.
    """
    header: dict[str, object] = {"__metadata__": metadata}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + torch.Size(shape).numel() * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with replacing(path) as partial, explained(path), partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for done, name in enumerate(shapes, start=1):
            hooks.check()
            values = tensor(name).contiguous().flatten().view(torch.uint8)
            file.write(values.numpy().data)
            hooks.report("convert", done, len(shapes))


def save_half(network: nn.Module, path: Path, prefix: str = "") -> Path:
    """Write a network's weights in float16 to `path`, whose folders are made; names begin with `prefix`.

    Raises:
        CheckpointError: a weight is not finite in float16.
        OutputError: the file cannot be written.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    weights = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}

    def half(name: str) -> torch.Tensor:
        return finite(path, name, weights[name].cpu(), torch.float16)

    write_safetensors(path, shapes, half, torch.float16, {}, SILENT)
    return path
