"""The converted file: a variant's own networks and their config in one safetensors file."""

import json
import math
from pathlib import Path
from typing import NamedTuple

from torch import nn

from dicetalk.checkpoints.networks import dice_network, image_encoder, vae
from dicetalk.checkpoints.read import DamagedFileError, Tensors, check_start, read_safetensors
from dicetalk.checkpoints.variants import FULL, RELEASED, Variant
from dicetalk.config import ModelConfig
from dicetalk.errors import CheckpointError
from dicetalk.layers import sdpa_attention

FORMAT = "dicetalk.model"
FORMAT_VERSION = "1"

BANKS = ("retrieve", "learnable", "none")
"""What training did with the emotion bank, see :class:`dicetalk.train.config.Ablations`. With ``none`` the UNet has
only ever seen the priors' own tokens; the other two attend to the whole bank when they generate."""

_VARIANTS = {variant.name: variant for variant in RELEASED}

MAX_CONFIG_CHARS = 1 << 16
MAX_LEVELS = 8
_MAX_SIZES = {
    "unet.layers_per_block": 16,
    "unet.num_adapters": 16,
    "vae.layers_per_block": 16,
    "image_encoder.num_hidden_layers": 128,
    "image_encoder.image_size": 1024,
}
"""Building millions of layers or counting billions of positions would cost more than reading the file."""


class Packed(NamedTuple):
    """A converted file.

    It holds the tensors of each network, by the name of its field, the config of all, one of :data:`BANKS`, and the
    variant whose networks they are.
    """

    tensors: dict[str, Tensors]
    config: ModelConfig
    bank: str
    variant: Variant


def packed_metadata(
    config: ModelConfig, source: str, bank: str = "retrieve", variant: Variant = FULL
) -> dict[str, str]:
    """Metadata of a converted file; `source` is for people, `bank` is one of :data:`BANKS`."""
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "config": json.dumps(config.to_dict(), sort_keys=True),
        "source": source,
        "bank": bank,
        "variant": variant.name,
    }


def packed_variant(path: Path) -> Variant | None:
    """The variant that a converted file is of, or `None` for a file that does not say; its tensors are not read."""
    try:
        _, metadata = read_safetensors(path, lambda _name: False)
    except CheckpointError:
        return None
    return _VARIANTS.get(metadata.get("variant", FULL.name)) if metadata.get("format") == FORMAT else None


def read_packed(path: Path) -> Packed:
    """Read a converted file.

    One that does not name its bank retrieves, as the release, and one that does not name its variant is of DICE-Talk.

    Raises:
        DamagedFileError: the file is damaged or not one that :func:`dicetalk.checkpoints.convert.convert_model` wrote.
    """
    check_start(path)
    tensors, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise DamagedFileError(path, "was not written by `dicetalk convert`.")
    if metadata.get("version") != FORMAT_VERSION:
        reason = f"has format version {metadata.get('version', 'none')[:20]!r}; this program reads {FORMAT_VERSION!r}."
        raise DamagedFileError(path, reason)
    bank = metadata.get("bank", "retrieve")
    if bank not in BANKS:
        raise DamagedFileError(path, f"has the bank {bank[:20]!r}; this program knows {', '.join(BANKS)}.")
    variant = _VARIANTS.get(metadata.get("variant", FULL.name))
    if variant is None:
        known = ", ".join(_VARIANTS)
        raise DamagedFileError(path, f"is of the variant {metadata['variant'][:20]!r}; this program knows {known}.")
    config = _config(path, metadata.get("config", ""), variant)
    parts: dict[str, Tensors] = {network.field: {} for network in variant.networks}
    for name, tensor in tensors.items():
        network = next((n for n in variant.networks if name.startswith(n.prefix)), None)
        if network is None:
            raise DamagedFileError(path, f"holds {name[:60]!r}, which belongs to none of its networks.")
        if not tensor.is_floating_point():
            raise DamagedFileError(path, f"holds {tensor.dtype} in {name!r}; weights are floating-point numbers.")
        parts[network.field][name.removeprefix(network.prefix)] = tensor
    return Packed(parts, config, bank, variant)


def _config(path: Path, text: str, variant: Variant) -> ModelConfig:
    if len(text) > MAX_CONFIG_CHARS:
        raise DamagedFileError(path, f"has a config of {len(text)} characters; {MAX_CONFIG_CHARS} are allowed.")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(path, f"has a config that is not valid JSON ({error}).") from error
    try:
        config = ModelConfig.from_dict(values)
    except CheckpointError as error:
        raise DamagedFileError(path, f"has a damaged config: {error}") from error
    _check_bounds(path, config)
    try:
        for network in variant.networks:
            dice_network(network, config, nn, sdpa_attention)
        vae(config.vae)
        image_encoder(config.image_encoder)
    except Exception as error:  # constructors check their sizes by accident, each in its own way
        raise DamagedFileError(path, f"has a config of which no network can be built ({error}).") from error
    return config


def _check_bounds(path: Path, config: ModelConfig) -> None:
    for name, most in _MAX_SIZES.items():
        part, field = name.split(".")
        value = getattr(getattr(config, part), field)
        if value > most:
            raise DamagedFileError(path, f"has a config with {name} = {value}; at most {most} are allowed.")
    for sizes in (config.unet, config.pose_guider, config.vae):
        if len(sizes.block_out_channels) > MAX_LEVELS:
            levels = len(sizes.block_out_channels)
            raise DamagedFileError(path, f"has a config with {levels} levels; at most {MAX_LEVELS} are allowed.")
    if not math.isfinite(config.vae.scaling_factor) or config.vae.scaling_factor <= 0:
        reason = f"has a config with vae.scaling_factor = {config.vae.scaling_factor}; expected a positive number."
        raise DamagedFileError(path, reason)
