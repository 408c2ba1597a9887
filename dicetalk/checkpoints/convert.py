"""Packs a variant's own files into one safetensors file that carries its config."""

from functools import partial
from pathlib import Path

import torch

from dicetalk.checkpoints.find import find_files
from dicetalk.checkpoints.packed import packed_metadata
from dicetalk.checkpoints.parts import dice_parts, expecting
from dicetalk.checkpoints.strict import check_names_and_shapes, finite
from dicetalk.checkpoints.variants import Variant
from dicetalk.checkpoints.write import write_safetensors
from dicetalk.config import ModelConfig
from dicetalk.errors import CheckpointError
from dicetalk.files import check_file_target, check_no_input
from dicetalk.hooks import SILENT, Hooks


def convert_model(
    folder: Path | str,
    out: Path | str,
    *,
    dtype: torch.dtype = torch.float16,
    hooks: Hooks = SILENT,
    config: ModelConfig | None = None,
    variant: Variant | None = None,
) -> None:
    """Write one file with the weights of the variant's own networks and their config.

    Named ``dicetalk*.safetensors`` and put into the model folder it stands for the files that it was made of.
    Converting needs the memory of one tensor (the largest has 67 MB in half precision).

    Args:
        folder: the model folder; a converted file in it is converted again.
        out: file to write; must end in ``.safetensors``.
        dtype: of the weights.
        hooks: progress of `convert` in tensors.
        config: sizes of the networks; those of the variant if `None`.
        variant: whose networks are packed; what the folder holds if `None`.

    Raises:
        CheckpointError: a file is missing, damaged or holds values that are not finite in `dtype`, or `out` has another
            suffix.
        OutputError: `out` cannot be written, or is one of the model's files.
        Cancelled: the caller asked to stop; nothing is left behind.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise CheckpointError(f"{out}: a converted file must end in .safetensors.")
    found = find_files(folder, variant=variant)
    check_no_input(out, {f"{file.what} to be converted": path for file, path in found.paths.items()})
    variant = found.variant
    missing = [file.name for file in found.missing if file in variant.own_files]
    if missing:
        raise CheckpointError(
            f"{found.folder}: missing {', '.join(missing)}. See `dicetalk doctor {found.folder}{variant.option}`."
        )
    check_file_target(out)
    with expecting(variant.packed):
        parts, config, bank = dice_parts(found, config or variant.config)
    prefixes = {network.field: network.prefix for network in variant.networks}
    shapes, makers = {}, {}
    for part in parts:
        with expecting(part.file):
            network = part.build()
            stored = part.read(list(network.state_dict()))
            check_names_and_shapes(part.path, network, stored, part.may_lack)
        for name, tensor in stored.items():
            full_name = prefixes[part.field] + name
            shapes[full_name] = tuple(tensor.shape)
            makers[full_name] = partial(finite, part.path, name, tensor, dtype)
    sources = dict.fromkeys(part.path.name for part in parts)
    metadata = packed_metadata(config, ", ".join(sources), bank, variant)
    write_safetensors(out, shapes, lambda name: makers[name](), dtype, metadata, hooks)
