"""A complete small model folder with random weights, as ``dicetalk convert`` leaves one."""

from dataclasses import replace
from pathlib import Path

from released_files import SMALL, write_released

from dicetalk.checkpoints.convert import convert_model
from dicetalk.config import ModelConfig, VAEConfig

# The decoder must enlarge by 8, as the picture's sizes assume.
SMALL_MODEL = replace(SMALL, vae=VAEConfig((32, 32, 32, 32), 1))


def write_small_model(folder: Path, config: ModelConfig = SMALL_MODEL) -> Path:
    """Write the folder; the four DICE-Talk networks are in ``dicetalk.safetensors``, which carries the sizes."""
    write_released(folder, config)
    convert_model(folder, folder / "dicetalk.safetensors", config=config)
    for released in folder.glob("*.pth"):
        released.unlink()
    return folder
