"""The model that comes with the package, and how a model is best used."""

from pathlib import Path

from dicetalk.checkpoints.find import model_folder, tiny_folder
from dicetalk.checkpoints.load import DiceModel
from dicetalk.checkpoints.variants import recommended_settings
from dicetalk.cli.models_option import MODELS
from dicetalk.hooks import Hooks
from dicetalk.settings import SamplerSettings

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
