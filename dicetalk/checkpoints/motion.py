"""Sonic's motion network beside another model, whose two buckets it then predicts from the speech."""

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import torch

from dicetalk.audio.projection import AudioToBucket
from dicetalk.checkpoints.files import SONIC_BUCKETS, SONIC_UNET
from dicetalk.checkpoints.find import find_files
from dicetalk.checkpoints.load import DiceModel
from dicetalk.checkpoints.packed import packed_variant
from dicetalk.checkpoints.parts import expecting
from dicetalk.checkpoints.read import Tensors, read_tensors
from dicetalk.checkpoints.strict import fill_from_file
from dicetalk.checkpoints.variants import SONIC
from dicetalk.config import BucketConfig, ModelConfig
from dicetalk.errors import CheckpointError
from dicetalk.paths import checked_path


def find_motion_network(place: str | PathLike[str], shared: Sequence[str | PathLike[str]] = ()) -> Path:
    """The file at `place`, or Sonic's ``audio2bucket.pth`` in the model folder `place`, else in one of `shared`.

    Raises:
        CheckpointError: there is none.
    """
    path = checked_path(Path(place), CheckpointError)
    if path.is_file() and path.suffix in (".pth", ".safetensors") and not _is_model(path):
        return path
    folders = [place, *shared]
    for folder in folders:
        found = find_files(folder, variant=SONIC).paths.get(SONIC_BUCKETS)
        if found is not None:
            return found
    raise CheckpointError(
        f"{', '.join(dict.fromkeys(map(str, folders)))}: {SONIC_BUCKETS.name}, which predicts motion from the speech, "
        f"is not there. It comes from {SONIC_BUCKETS.origin}."
    )


def _is_model(path: Path) -> bool:
    """Whether a file stands for a model, beside which its others are, and is no network of motion itself."""
    return path.name == SONIC_UNET.base or (path.suffix == ".safetensors" and packed_variant(path) is not None)


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
        _check_inputs(path, tensors, network)
        return fill_from_file(path, network, lambda _names: tensors, torch.float32)


def _check_inputs(path: Path, tensors: Tensors, network: AudioToBucket) -> None:
    """Refuse a file for other speech features and image embeddings, which is whole and needs no mending."""
    taken, given = tensors.get("proj1.weight"), network.proj1.weight.shape[1]
    if taken is not None and taken.ndim == 2 and taken.shape[1] != given:
        raise CheckpointError(
            f"{path} does not go with this model: proj1.weight takes {taken.shape[1]} numbers a frame, and the model's "
            f"Whisper and image encoder give {given}. Sonic's file goes with the released DICE-Talk."
        )


def with_predicted_motion(model: DiceModel, path: Path) -> DiceModel:
    """`model` whose buckets the motion network in the file `path` predicts.

    Raises:
        CheckpointError: the file does not fit the model, or as :func:`load_motion_network`.
    """
    return replace(model, audio_to_bucket=load_motion_network(path, model.config))
