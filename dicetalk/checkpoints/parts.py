"""List of the networks and their weight files; loading, the doctor and converting walk the same list.

Of a Whisper folder in Hugging Face's layout the encoder is read, not the decoder.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from torch import nn

from dicetalk.checkpoints import files, networks
from dicetalk.checkpoints.files import ModelFile
from dicetalk.checkpoints.find import FoundFiles
from dicetalk.checkpoints.packed import read_packed
from dicetalk.checkpoints.read import DamagedFileError, Tensors, check_start, read_safetensors, read_tensors
from dicetalk.checkpoints.svd import read_image_encoder, read_vae
from dicetalk.config import AudioConfig, ModelConfig
from dicetalk.errors import CheckpointError
from dicetalk.layers import Attention, sdpa_attention

_WHISPER_PREFIXES = ("model.encoder.", "encoder.")
_WHISPER_SIZES = ("d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim")
_WHISPER_FEATURES = {"num_mel_bins": 80, "max_source_positions": 1500}
"""Fixed by the features: 80 mel bands, 3000 frames of which the encoder keeps every second."""

MAX_CONFIG_BYTES = 1 << 16
MAX_SIZE = 1 << 14


@dataclass(frozen=True)
class Part:
    """One network and where its weights are.

    Args:
        field: its name in :class:`dicetalk.checkpoints.load.DiceModel`.
        file: what the file should be.
        path: the file.
        build: makes the network on the meta device.
        read: returns the weights, given the names that the network has.
        may_lack: submodules that the file may leave out.
        full_precision: the network is used in float32 whatever the others' dtype is.
    """

    field: str
    file: ModelFile
    path: Path
    build: Callable[[], nn.Module]
    read: Callable[[list[str]], Tensors]
    may_lack: tuple[str, ...] = ()
    full_precision: bool = False


class DiceParts(NamedTuple):
    """A variant's own networks, their sizes, and how training used the emotion bank.

    The last is one of :data:`dicetalk.checkpoints.packed.BANKS`.
    """

    parts: list[Part]
    config: ModelConfig
    bank: str


def dice_parts(
    found: FoundFiles, config: ModelConfig, operations: ModuleType = nn, attention: Attention = sdpa_attention
) -> DiceParts:
    """The variant's own networks, out of one converted file or the released ones that were found.

    A converted file brings its own sizes in place of `config`.

    Raises:
        DamagedFileError: the converted file is damaged, or of another variant.
    """
    variant = found.variant
    packed = found.paths.get(variant.packed)
    bank = "retrieve"
    if packed is not None:
        _, config, bank, stored = read_packed(packed)
        if stored is not variant:
            raise DamagedFileError(packed, f"holds {stored.what}, not {variant.what}.")
    parts = []
    for network in variant.networks:
        file = variant.packed if packed else network.file
        path = found.paths.get(file)
        if path is not None:
            read = partial(_packed, path, network.prefix) if packed else partial(_flat, path)
            build = partial(networks.dice_network, network, config, operations, attention)
            parts.append(Part(network.field, file, path, build, read, network.may_lack, network.full_precision))
    return DiceParts(parts, config, bank)


def other_parts(found: FoundFiles, config: ModelConfig) -> list[Part]:
    """The networks that come from elsewhere, as far as their files were found."""
    paths = found.paths
    parts = []
    if path := paths.get(files.VAE):
        build = partial(networks.vae, config.vae)
        parts.append(Part("vae", files.VAE, path, build, partial(read_vae, path)))
    if path := paths.get(files.IMAGE_ENCODER):
        build = partial(networks.image_encoder, config.image_encoder)
        parts.append(Part("image_encoder", files.IMAGE_ENCODER, path, build, partial(read_image_encoder, path)))
    if (path := paths.get(files.WHISPER)) and (sizes := paths.get(files.WHISPER_CONFIG)):
        build = partial(whisper_network, sizes, config.audio)
        parts.append(Part("whisper", files.WHISPER, path, build, partial(_whisper, path), full_precision=True))
    if path := paths.get(files.FLOWNET):
        read, lacks = partial(_flownet, path), networks.FLOWNET_MAY_LACK
        parts.append(Part("flownet", files.FLOWNET, path, networks.flownet, read, lacks, full_precision=True))
    return parts


@contextmanager
def expecting(file: ModelFile) -> Iterator[None]:
    """Add what was expected, and where to get it, to what is wrong with a file."""
    try:
        yield
    except DamagedFileError as error:
        raise CheckpointError(
            f"{error} Expected: {file.what}, from {file.origin}. `dicetalk doctor` checks every file."
        ) from error


def _packed(path: Path, prefix: str, _names: list[str]) -> Tensors:
    tensors, _ = read_safetensors(path, lambda name: name.startswith(prefix))
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _flat(path: Path, _names: list[str]) -> Tensors:
    return read_tensors(path)


def _whisper(path: Path, _names: list[str]) -> Tensors:
    return read_whisper(path)


def _flownet(path: Path, _names: list[str]) -> Tensors:
    """RIFE was saved out of a data-parallel wrapper, among other things that the release skips."""
    prefix = networks.FLOWNET_PREFIX
    tensors = read_tensors(path, lambda name: prefix in name)
    return {name.replace(prefix, ""): tensor for name, tensor in tensors.items()}


def read_whisper_sizes(path: Path, audio: AudioConfig) -> dict[str, int]:
    """Read the encoder's sizes from ``config.json``.

    Raises:
        DamagedFileError: the file is no such config, or its sizes are not those that `audio` expects.
    """
    check_start(path)
    try:
        with path.open("rb") as file:
            config = json.loads(file.read(MAX_CONFIG_BYTES))
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(path, f"is not valid JSON ({error}).") from error
    if not isinstance(config, dict):
        raise DamagedFileError(path, "is not a Whisper config.")
    sizes: dict[str, int] = {}
    for name in (*_WHISPER_SIZES, *_WHISPER_FEATURES):
        value = config.get(name)
        if type(value) is not int or not 0 < value <= MAX_SIZE:
            raise DamagedFileError(path, f"is not a Whisper config: its {name} is {value!r}.")
        sizes[name] = value
    expected = {"d_model": audio.channels, "encoder_layers": audio.layers - 1, **_WHISPER_FEATURES}
    for name, value in expected.items():
        if sizes[name] != value:
            raise DamagedFileError(path, f"says {name} = {sizes[name]}; the audio projection needs {value}.")
    if sizes["d_model"] % sizes["encoder_attention_heads"]:
        raise DamagedFileError(path, f"says {sizes['encoder_attention_heads']} heads, which do not divide d_model.")
    return sizes


def read_whisper(path: Path) -> Tensors:
    """Read the encoder's tensors from ``model.safetensors`` or ``pytorch_model.bin``.

    Raises:
        DamagedFileError: the file is damaged or holds no Whisper.
    """
    tensors = read_tensors(path, lambda name: name.startswith(_WHISPER_PREFIXES))
    prefix = next((p for p in _WHISPER_PREFIXES if any(name.startswith(p) for name in tensors)), "")
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def whisper_network(config_path: Path, audio: AudioConfig) -> nn.Module:
    """The encoder on the meta device, sized by its ``config.json``."""
    return networks.whisper_encoder(read_whisper_sizes(config_path, audio))
