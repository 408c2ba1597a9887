"""Whisper out of a model folder, without the rest of the model."""

from functools import partial
from pathlib import Path

import torch

from dicetalk.audio.whisper import speech_features
from dicetalk.checkpoints import files
from dicetalk.checkpoints.find import find_files
from dicetalk.checkpoints.packed import read_packed
from dicetalk.checkpoints.parts import expecting, other_parts
from dicetalk.checkpoints.strict import fill
from dicetalk.errors import CheckpointError
from dicetalk.residency import DeviceResidency
from dicetalk.train.prepare.clip import Listen


def open_ears(models: Path, device: torch.device) -> Listen:
    """Whisper of the model folder, on `device` for good, so that all workers can share it.

    Raises:
        CheckpointError: the folder has no whole Whisper.
    """
    found = find_files(models)
    packed = found.paths.get(found.variant.packed)
    config = found.variant.config
    if packed is not None:
        with expecting(found.variant.packed):
            config = read_packed(packed).config
    part = next((part for part in other_parts(found, config) if part.file is files.WHISPER), None)
    if part is None:
        raise CheckpointError(
            f"{models} holds no {files.WHISPER.what}: {files.WHISPER.name} and {files.WHISPER_CONFIG.name} "
            f"from {files.WHISPER.origin}. `dicetalk download` fetches them."
        )
    with expecting(part.file):
        network = part.build()
        whisper = fill(part.path, network, part.read(list(network.state_dict())), torch.float32).to(device)
    return partial(speech_features, encoder=whisper, residency=DeviceResidency(device, offload=False))
