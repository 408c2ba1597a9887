"""Weights of the small model's networks, written in half precision."""

from pathlib import Path

import torch
from torch import nn

from dicetalk.checkpoints.strict import finite
from dicetalk.checkpoints.write import write_safetensors
from dicetalk.files import explained
from dicetalk.hooks import SILENT


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
