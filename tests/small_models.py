"""A complete small model folder with random weights, as ``dicetalk convert`` leaves one."""

from dataclasses import replace
from pathlib import Path

from released_files import SMALL, SMALL_SONIC, write_released

from dicetalk.checkpoints.convert import convert_model
from dicetalk.checkpoints.variants import SONIC
from dicetalk.config import ModelConfig, VAEConfig

# The decoder must enlarge by 8, as the picture's sizes assume.
SMALL_MODEL = replace(SMALL, vae=VAEConfig((32, 32, 32, 32), 1))
SMALL_SONIC_MODEL = replace(SMALL_SONIC, vae=SMALL_MODEL.vae)


def write_small_model(folder: Path, config: ModelConfig = SMALL_MODEL) -> Path:
    """Write the folder; the four DICE-Talk networks are in ``dicetalk.safetensors``, which carries the sizes."""
    write_released(folder, config)
    convert_model(folder, folder / "dicetalk.safetensors", config=config)
    for released in folder.glob("*.pth"):
        released.unlink()
    return folder


def write_small_sonic(folder: Path, config: ModelConfig = SMALL_SONIC_MODEL) -> Path:
    """Write a folder with Sonic; its three networks are in ``dicetalk-sonic.safetensors``."""
    write_released(folder, config, variant=SONIC)
    convert_model(folder, folder / "dicetalk-sonic.safetensors", config=config, variant=SONIC)
    for network in SONIC.own_files:
        (folder / network.name).unlink()
    return folder
