"""The small trained model that comes with the package."""

from os import PathLike
from pathlib import Path

from dicetalk.errors import CheckpointError

TINY = "tiny"
"""The name of the bundled model wherever a model folder is asked for; a folder of that name needs its full path."""

PACKED_NAME = "dicetalk.safetensors"
"""The four DICE-Talk networks of a small model."""


def tiny_folder() -> Path:
    """The model folder of the bundled model, for :func:`dicetalk.checkpoints.load.load_model`.

    Raises:
        CheckpointError: this copy of the package came without it.
    """
    folder = Path(__file__).parents[1] / "assets" / "tiny"
    if not (folder / PACKED_NAME).is_file():
        raise CheckpointError(
            "This version of the package comes without its small model. Fetch the released weights with `dicetalk "
            "download models`, or train the small one, `dicetalk train tiny --config examples/train-tiny.yaml`, and "
            "choose its folder as the model."
        )
    return folder


def model_folder(model: str | PathLike[str]) -> Path:
    """Path of a model that is named by its folder or file, or as :data:`TINY`.

    Raises:
        CheckpointError: it is :data:`TINY`, and this copy of the package came without the bundled model.
    """
    return tiny_folder() if str(model) == TINY else Path(model)
