"""Which network gets its weights from which file; loading, the doctor and converting walk the same list."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from torch import nn

from dicetalk.attention import Attention, sdpa_attention
from dicetalk.checkpoints import files, networks
from dicetalk.checkpoints.files import ModelFile
from dicetalk.checkpoints.find import FoundFiles
from dicetalk.checkpoints.packed import read_packed
from dicetalk.checkpoints.read import DamagedFileError, Tensors, read_safetensors, read_tensors
from dicetalk.checkpoints.svd import read_image_encoder, read_vae
from dicetalk.checkpoints.whisper import read_whisper, whisper_network
from dicetalk.config import ModelConfig
from dicetalk.errors import CheckpointError


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
