"""The VAE and the CLIP image encoder out of SVD-XT: a diffusers folder, or the single-file checkpoint.

Of a single file only these tensors are touched, not the UNet's 3 GB. diffusers converts other single files, but has
neither a table for the temporal decoder nor one for open_clip's vision tower; both tables are here.

Single-file names (Stability-AI/generative-models): the pipeline encodes with ``conditioner.embedders.3.encoder`` and
decodes with ``first_stage_model``; CLIP is ``conditioner.embedders.0.open_clip.model.visual``.
"""

import re
from collections.abc import Callable
from pathlib import Path

import torch

from dicetalk.checkpoints.read import Tensors, read_tensors

ENCODER = "conditioner.embedders.3.encoder."
FIRST_STAGE = "first_stage_model."
CLIP = "conditioner.embedders.0.open_clip.model.visual."

_NOT_OURS = ("model.diffusion_model.", "model_ema.")

_OLD_BUFFER = "vision_model.embeddings.position_ids"
"""Older transformers saved these numbers; they are no weights."""

_RESNET = (
    (r"spatial_res_block\.", ""),
    (r"temporal_res_block\.norm1", "time_stack.in_layers.0"),
    (r"temporal_res_block\.conv1", "time_stack.in_layers.2"),
    (r"temporal_res_block\.norm2", "time_stack.out_layers.0"),
    (r"temporal_res_block\.conv2", "time_stack.out_layers.3"),
    (r"time_mixer\.mix_factor", "mix_factor"),
    (r"conv_shortcut", "nin_shortcut"),
)
_VAE_RULES = (
    (r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}"),
    (r"mid_block\.attentions\.0", "mid.attn_1"),
    (r"attn_1\.group_norm", "attn_1.norm"),
    (r"attn_1\.to_([qkv])\.", r"attn_1.\1."),
    (r"attn_1\.to_out\.0", "attn_1.proj_out"),
    (r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block."),
    (r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample"),
    (r"conv_norm_out", "norm_out"),
    (r"time_conv_out", "conv_out.time_mix_conv"),
    *_RESNET,
)
_CLIP_RULES = (
    (r"^visual_projection\.weight", "proj"),
    (r"^vision_model\.", ""),
    (r"embeddings\.class_embedding", "class_embedding"),
    (r"embeddings\.patch_embedding", "conv1"),
    (r"embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"pre_layrnorm", "ln_pre"),  # transformers' own spelling
    (r"post_layernorm", "ln_post"),
    (r"encoder\.layers\.", "transformer.resblocks."),
    (r"layer_norm([12])", r"ln_\1"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
    (r"self_attn\.out_proj", "attn.out_proj"),
    (r"self_attn\.[qkv]_proj\.", "attn.in_proj_"),
)


def read_vae(path: Path, names: list[str]) -> Tensors:
    """Tensors of the VAE under diffusers' names.

    Args:
        path: a single-file checkpoint, or ``vae/*.safetensors`` of a diffusers folder.
        names: diffusers' names of all tensors.

    Raises:
        DamagedFileError: the file is damaged.
    """
    stored = read_tensors(path, lambda name: not name.startswith(_NOT_OURS))
    if not any(name.startswith(FIRST_STAGE) for name in stored):
        return stored
    encoder = ENCODER if any(name.startswith(ENCODER) for name in stored) else FIRST_STAGE
    levels = 1 + max(int(match[1]) for name in names if (match := re.match(r"decoder\.up_blocks\.(\d+)", name)))
    sources = {
        name: (encoder if name.startswith(("encoder.", "quant_conv.")) else FIRST_STAGE) + vae_source(name, levels)
        for name in names
    }
    tensors = _renamed(stored, sources, (f"{encoder}encoder.", f"{FIRST_STAGE}decoder."))
    for name, tensor in tensors.items():
        # There the attention's layers are convolutions of one pixel, in diffusers linear.
        if ".attentions.0.to_" in name and tensor.ndim == 4:
            tensors[name] = tensor[:, :, 0, 0]
    if encoder == FIRST_STAGE and "encoder.conv_out.bias" in tensors:
        # The first stage's own encoder has this layer folded into its last convolution.
        moments = len(tensors["encoder.conv_out.bias"])
        tensors["quant_conv.weight"] = torch.eye(moments)[:, :, None, None]
        tensors["quant_conv.bias"] = torch.zeros(moments)
    return tensors


def read_image_encoder(path: Path, names: list[str]) -> Tensors:
    """Tensors of the CLIP image encoder under transformers' names.

    Args:
        path: a single-file checkpoint, or ``image_encoder/*.safetensors`` of a diffusers folder.
        names: transformers' names of all tensors.

    Raises:
        DamagedFileError: the file is damaged.
    """
    stored = read_tensors(path, lambda name: not name.startswith(_NOT_OURS) and name != _OLD_BUFFER)
    if not any(name.startswith(CLIP) for name in stored):
        return stored
    tensors = _renamed(stored, {name: CLIP + image_encoder_source(name) for name in names}, (CLIP,))
    for name, tensor in tensors.items():
        # There queries, keys and values are rows of one matrix, and the projection is multiplied from the other side.
        if projection := re.search(r"self_attn\.([qkv])_proj", name):
            tensors[name] = tensor.chunk(3)["qkv".index(projection[1])]
        elif name == "visual_projection.weight":
            tensors[name] = tensor.mT.contiguous()
    return tensors


def vae_source(name: str, levels: int) -> str:
    """Single-file name, without its prefix, of the VAE's tensor `name` in diffusers; `levels` of resolution."""
    name = re.sub(r"up_blocks\.(\d+)\.resnets\.", lambda m: f"up.{levels - 1 - int(m[1])}.block.", name)
    name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name)
    return _rewrite(name, _VAE_RULES)


def image_encoder_source(name: str) -> str:
    """Single-file name, without its prefix, of the image encoder's tensor `name` in transformers."""
    return _rewrite(name, _CLIP_RULES)


def _rewrite(name: str, rules: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _renamed(stored: Tensors, sources: dict[str, str], prefixes: tuple[str, ...]) -> Tensors:
    """Tensors by the keys of `sources`; what else lies under `prefixes` keeps its name, for the strict comparison."""
    tensors = {name: stored[source] for name, source in sources.items() if source in stored}
    used = set(sources.values())
    return tensors | {name: stored[name] for name in stored if name.startswith(prefixes) and name not in used}
