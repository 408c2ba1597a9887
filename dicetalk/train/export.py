"""Writes trained networks as the converted file that :func:`dicetalk.checkpoints.load.load_model` reads."""

from pathlib import Path

import torch
from torch import nn

from dicetalk.checkpoints.networks import DICE_NETWORKS
from dicetalk.checkpoints.packed import packed_metadata
from dicetalk.checkpoints.strict import finite
from dicetalk.checkpoints.write import write_safetensors
from dicetalk.hooks import SILENT, Hooks
from dicetalk.train.config import DiffusionTraining


def export_model(
    networks: nn.Module,
    config: DiffusionTraining,
    path: Path,
    dtype: torch.dtype = torch.float16,
    hooks: Hooks = SILENT,
) -> None:
    """Write the four networks and their sizes.

    Args:
        networks: has them as attributes, by the fields of :data:`dicetalk.checkpoints.networks.DICE_NETWORKS`.
        config: of the training; its ablations are written into the file's `source`, for people, and what it did with
            the bank under a key of its own, for :func:`dicetalk.checkpoints.load.load_model`.
        path: file to write.
        dtype: of the weights.
        hooks: progress of `convert` in tensors.

    Raises:
        CheckpointError: a weight is not finite in `dtype`.
        OutputError: the file cannot be written.
    """
    weights = {
        network.prefix + name: tensor
        for network in DICE_NETWORKS
        for name, tensor in getattr(networks, network.field).state_dict().items()
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    switches = ", ".join(f"{name} {value}" for name, value in vars(config.ablations).items())
    source = f"dicetalk train diffusion: start {config.start}, {switches}, {config.loop.steps} steps"
    write_safetensors(
        path,
        shapes,
        lambda name: finite(path, name, weights[name].cpu(), dtype),
        dtype,
        packed_metadata(config.model, source, config.ablations.bank),
        hooks,
    )
