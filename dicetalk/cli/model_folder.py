"""The model folder of a command: where it is, what it was made for, and its Whisper without the rest."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dicetalk.audio.whisper import speech_features
from dicetalk.checkpoints import files
from dicetalk.checkpoints.find import find_files, model_folder, tiny_folder
from dicetalk.checkpoints.load import DiceModel
from dicetalk.checkpoints.packed import read_packed
from dicetalk.checkpoints.parts import expecting, other_parts
from dicetalk.checkpoints.strict import fill
from dicetalk.checkpoints.variants import recommended_settings
from dicetalk.cli.options import MODELS
from dicetalk.errors import CheckpointError
from dicetalk.hooks import Hooks
from dicetalk.residency import DeviceResidency
from dicetalk.settings import SamplerSettings

if TYPE_CHECKING:  # generating a clip needs nothing of the training
    from dicetalk.train.prepare.clip import Listen

DRAWN_FACES_ONLY = (
    "This clip was made by the small bundled model, which has only seen drawn faces of 128 pixels: a photograph comes "
    "out soft and as somebody else, which says nothing about the released model. Fetch that with "
    f"`dicetalk download {MODELS}`, which `dicetalk generate` then uses."
)
"""What a result of the bundled model means, for the end of a run."""


def found_folder(model: Path | None, hooks: Hooks) -> Path:
    """As :func:`dicetalk.checkpoints.find.model_folder`; without a name :data:`MODELS`.

    Where that is not there or empty, it is the bundled model, with a notice.

    Raises:
        CheckpointError: likewise.
    """
    if model is not None:
        return model_folder(model)
    if MODELS.exists() and (not MODELS.is_dir() or any(MODELS.iterdir())):
        return MODELS
    folder = tiny_folder()
    missing = f"The folder {MODELS} is empty" if MODELS.exists() else f"There is no folder {MODELS}"
    hooks.notice(
        f"{missing}: using the small bundled model, which knows drawn faces only. For real portraits "
        f"fetch the released weights: `dicetalk download {MODELS}`."
    )
    return folder


def recommended(model: DiceModel) -> tuple[SamplerSettings, int]:
    """The sampler's settings and the short side of the picture that a model was made for."""
    sampling = model.config.sampling
    return recommended_settings(sampling), sampling.short_side


def open_ears(models: Path, device: torch.device) -> "Listen":
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
