"""Sonic's motion network beside another model, whose two buckets it then predicts from the speech."""

from dataclasses import replace
from os import PathLike
from pathlib import Path

import torch

from dicetalk.audio.projection import AudioToBucket
from dicetalk.checkpoints.files import SONIC_BUCKETS
from dicetalk.checkpoints.find import find_files
from dicetalk.checkpoints.load import DiceModel
from dicetalk.checkpoints.parts import expecting
from dicetalk.checkpoints.read import read_tensors
from dicetalk.checkpoints.strict import fill_from_file
from dicetalk.checkpoints.variants import SONIC
from dicetalk.config import BucketConfig, ModelConfig
from dicetalk.errors import CheckpointError
from dicetalk.paths import checked_path


def find_motion_network(place: str | PathLike[str]) -> Path:
    """The file at `place`, or Sonic's ``audio2bucket.pth`` in the model folder `place`.

    Raises:
        CheckpointError: there is none.
    """
    path = checked_path(Path(place), CheckpointError)
    if path.is_file() and path.suffix in (".pth", ".safetensors") and path.name != "unet.pth":
        return path
    found = find_files(place, variant=SONIC).paths.get(SONIC_BUCKETS)
    if found is None:
        raise CheckpointError(
            f"{place}: {SONIC_BUCKETS.name}, which predicts motion from the speech, is not there. It comes from "
            f"{SONIC_BUCKETS.origin}."
        )
    return found


def load_motion_network(path: Path, config: ModelConfig) -> AudioToBucket:
    """Load a motion network in float32 for a model of the sizes `config`: it sees the model's Whisper and CLIP.

    Raises:
        CheckpointError: the file is damaged, hostile, or made for other sizes.
    """
    with expecting(SONIC_BUCKETS):
        tensors = read_tensors(path)
        width = tensors["proj1.bias"].numel() if "proj1.bias" in tensors else BucketConfig.intermediate_dim
        sizes = BucketConfig(
            channels=config.audio.channels,
            image_dim=config.image_encoder.projection_dim,
            intermediate_dim=min(width, 1 << 16),
        )
        with torch.device("meta"):
            network = AudioToBucket(sizes)
        return fill_from_file(path, network, lambda _names: tensors, torch.float32)


def with_predicted_motion(model: DiceModel, path: Path) -> DiceModel:
    """`model` whose buckets the motion network in the file `path` predicts.

    Raises:
        CheckpointError: the file does not fit the model, or as :func:`load_motion_network`.
    """
    return replace(model, audio_to_bucket=load_motion_network(path, model.config))
