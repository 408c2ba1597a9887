"""A trained emotion embedder in one safetensors file with its sizes."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from dicetalk.checkpoints.read import DamagedFileError, check_start, read_safetensors
from dicetalk.checkpoints.strict import fill
from dicetalk.checkpoints.write import write_safetensors
from dicetalk.emotion.embedder import EmbedderConfig, EmotionEmbedder
from dicetalk.errors import SettingError
from dicetalk.hooks import SILENT
from dicetalk.train.config import build

FORMAT = "dicetalk.embedder"
FORMAT_VERSION = "1"
MAX_CONFIG_CHARS = 1 << 12
_MOST = {"layers": 128}
_MOST_OTHERWISE = 1 << 16


def save_embedder(embedder: EmotionEmbedder, path: Path) -> None:
    """Write the embedder in float32: it is small, and its variances are not.

    Raises:
        CheckpointError: the file cannot be written.
    """
    weights = embedder.state_dict()
    metadata = {"format": FORMAT, "version": FORMAT_VERSION, "config": json.dumps(asdict(embedder.config))}
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    write_safetensors(path, shapes, lambda name: weights[name].cpu().float(), torch.float32, metadata, SILENT)


def load_embedder(path: Path | str) -> EmotionEmbedder:
    """Read what :func:`save_embedder` wrote; on the CPU, ready for inference.

    Raises:
        CheckpointError: the file is missing, damaged or no embedder.
    """
    path = Path(path)
    check_start(path)
    tensors, metadata = read_safetensors(path)
    if (metadata.get("format"), metadata.get("version")) != (FORMAT, FORMAT_VERSION):
        raise DamagedFileError(path, f"is no {FORMAT} file of version {FORMAT_VERSION}; `train embedder` writes them.")
    config = _config(path, metadata.get("config", ""))
    with torch.device("meta"):
        network = EmotionEmbedder(config, nn)
    return fill(path, network, tensors, torch.float32)


def _config(path: Path, text: str) -> EmbedderConfig:
    try:
        if len(text) > MAX_CONFIG_CHARS:
            raise ValueError(f"{len(text)} characters")
        config = build(EmbedderConfig, json.loads(text), "config")
        for name, size in asdict(config).items():
            if size > _MOST.get(name, _MOST_OTHERWISE):
                raise ValueError(f"{name} is {size}")
    except (ValueError, RecursionError, SettingError) as error:
        raise DamagedFileError(path, f"has a damaged config ({error}).") from error
    return config
