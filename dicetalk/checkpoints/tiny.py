"""The small trained model that comes with the package."""

from pathlib import Path

from dicetalk.errors import CheckpointError


def tiny_folder() -> Path:
    """The model folder of the bundled model, for :func:`dicetalk.checkpoints.load.load_model`.

    Raises:
        CheckpointError: this copy of the package came without it.
    """
    folder = Path(__file__).parents[1] / "assets" / "tiny"
    if not folder.is_dir():
        raise CheckpointError(f"The bundled model is missing: {folder} does not exist. Install the package again.")
    return folder
