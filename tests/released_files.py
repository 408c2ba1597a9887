"""Writes random weights in every released file's exact format, at any size.

Values are cheap (one block of normal numbers, read from an offset that the tensor's name decides) and keep activations
finite: norms near one, everything else scaled by the fan-in. Safetensors files are written tensor by tensor; torch.save
wants a whole table, so one file's weights are held at once (3.3 GB for ``unet.pth`` at full size).

    python tests/released_files.py FOLDER        writes the full size, 4.9 GB
"""

import json
import math
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dicetalk.checkpoints import networks, svd, variants
from dicetalk.checkpoints.variants import Variant
from dicetalk.checkpoints.write import write_safetensors
from dicetalk.config import (
    FULL,
    SONIC,
    AudioConfig,
    BucketConfig,
    EmotionConfig,
    ImageEncoderConfig,
    ModelConfig,
    PoseGuiderConfig,
    TokenMLPConfig,
    UNetConfig,
    VAEConfig,
)
from dicetalk.emotion.prior import PRESET_NAMES, PRIOR_DIM
from dicetalk.hooks import SILENT
from dicetalk.layers import sdpa_attention

SMALL = ModelConfig(
    unet=UNetConfig(
        block_out_channels=(32, 64),
        num_attention_heads=(2, 4),
        layers_per_block=1,
        cross_attention_dim=48,
        addition_time_embed_dim=16,
    ),
    pose_guider=PoseGuiderConfig(32, block_out_channels=(8, 16, 24, 32)),
    audio=AudioConfig(layers=3, channels=32, intermediate_dim=24, output_dim=48),
    emotion=EmotionConfig(
        query=TokenMLPConfig(PRIOR_DIM, 24, 48),
        bank=TokenMLPConfig(40, 24, 48),
        bank_size=6,
        attention_dim=48,
        num_heads=4,
        classifier_dims=(64, 16, 8, 22),
    ),
    vae=VAEConfig(block_out_channels=(32, 64), layers_per_block=1),
    image_encoder=ImageEncoderConfig(32, 64, 2, 4, 28, 7, 48),
)
"""Every network at a size for tests."""

SMALL_SONIC = replace(
    SMALL,
    unet=replace(SMALL.unet, num_adapters=1),
    bucket=BucketConfig(channels=SMALL.audio.channels, image_dim=SMALL.image_encoder.projection_dim),
    sampling=SONIC.sampling,
)
"""Sonic's, likewise."""

_BLOCK = np.random.Generator(np.random.PCG64(20260101)).standard_normal(1_000_003, dtype=np.float32)
"""A prime number of values: no row of a matrix repeats another one."""

Shapes = dict[str, tuple[int, ...]]
Weight = Callable[[str], torch.Tensor]


def random_weight(name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float16) -> torch.Tensor:
    """The weight called `name`; the same name and shape give the same values."""
    size = math.prod(shape)
    offset = zlib.crc32(name.encode()) % len(_BLOCK)
    values = torch.empty(size, dtype=dtype)
    block = torch.from_numpy(_BLOCK)
    done = 0
    while done < size:
        part = block[offset : offset + size - done]
        values[done : done + len(part)] = part * _scale(name, shape) + _shift(name, shape)
        done, offset = done + len(part), 0
    return values.reshape(shape)


def _is_norm(name: str) -> bool:
    owner = name.rpartition(".")[0].rpartition(".")[2]
    return "norm" in owner or owner.startswith("ln_")


def _scale(name: str, shape: tuple[int, ...]) -> float:
    if name.endswith("mix_factor"):
        return 1.0
    return 0.02 if len(shape) <= 1 else 1 / math.sqrt(math.prod(shape[1:]))


def _shift(name: str, shape: tuple[int, ...]) -> float:
    if _is_norm(name) and name.endswith("weight"):
        return 1.0
    return 0.25 if len(shape) == 1 and name.endswith("weight") else 0.0  # slopes of PReLU


def shapes_of(network: nn.Module) -> Shapes:
    """Name and shape of everything in the state dict of `network`."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def write_released(
    folder: Path,
    config: ModelConfig = SMALL,
    svd_format: str = "diffusers",
    variant: Variant = variants.FULL,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a complete model.

    Args:
        folder: made if it is not there.
        config: sizes.
        svd_format: ``diffusers`` for a folder, ``single-file`` for ``svd_xt.safetensors``.
        variant: whose networks.
        dtype: of the variant's own networks; those that are published are float32.
    """
    write_networks(folder, config, variant, dtype)
    write_flownet(folder / "RIFE" / "flownet.pkl")
    write_whisper(folder / "whisper-tiny", config.audio)
    if variant.priors:
        write_priors(folder / "emotion")
    if svd_format == "diffusers":
        write_svd_folder(folder / "stable-video-diffusion-img2vid-xt", config)
    else:
        write_svd_single_file(folder / "svd_xt.safetensors", config)


def write_networks(folder: Path, config: ModelConfig, variant: Variant, dtype: torch.dtype = torch.float16) -> None:
    """Write a variant's own files."""
    for network in variant.networks:
        path = folder / network.file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_torch(path, shapes_of(networks.dice_network(network, config, nn, sdpa_attention)), dtype=dtype)


def save_torch(path: Path, shapes: Shapes, prefix: str = "", dtype: torch.dtype = torch.float16) -> None:
    """Write a table of tensors with torch.save."""
    torch.save({prefix + name: random_weight(name, shape, dtype) for name, shape in shapes.items()}, path)


def save_safetensors(path: Path, shapes: Shapes, weight: Weight, dtype: torch.dtype = torch.float16) -> None:
    """Write tensors one by one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_safetensors(path, shapes, weight, dtype, {"format": "pt"}, SILENT)


def write_flownet(path: Path) -> None:
    """RIFE's weights, saved out of a data-parallel wrapper in float32."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_torch(path, shapes_of(networks.flownet()), networks.FLOWNET_PREFIX, torch.float32)


def whisper_config(audio: AudioConfig) -> dict[str, object]:
    """``config.json`` of whisper-tiny, at the channels and layers of `audio`."""
    heads = 6 if audio.channels % 6 == 0 else 4
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in {"layers": audio.layers - 1, "attention_heads": heads, "ffn_dim": 4 * audio.channels}.items()
    }
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "activation_function": "gelu",
        "d_model": audio.channels,
        "max_source_positions": 1500,
        "max_target_positions": 448,
        "num_hidden_layers": audio.layers - 1,
        "num_mel_bins": 80,
        "vocab_size": 51865,
        **sides,
    }


def write_whisper(folder: Path, audio: AudioConfig, weights_name: str = "model.safetensors") -> None:
    """A Hugging Face folder of Whisper, in float32; of the decoder only one tensor is there."""
    folder.mkdir(parents=True, exist_ok=True)
    config = whisper_config(audio)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    extractor = {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": 80,
        "sampling_rate": 16000,
        "hop_length": 160,
        "n_fft": 400,
        "chunk_length": 30,
        "n_samples": 480000,
        "nb_max_frames": 3000,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor, indent=2))
    names = ("d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim")
    encoder = networks.whisper_encoder({name: config[name] for name in names})
    shapes = {f"model.encoder.{name}": shape for name, shape in shapes_of(encoder).items()}
    shapes["model.decoder.embed_positions.weight"] = (448, audio.channels)
    path = folder / weights_name
    if path.suffix == ".safetensors":
        save_safetensors(path, shapes, lambda name: random_weight(name, shapes[name], torch.float32), torch.float32)
    else:
        save_torch(path, shapes, dtype=torch.float32)


def write_priors(folder: Path) -> None:
    """The eight priors: each a pickled dict with the one entry `mu`, ``(1, 256)`` float32, as numpy saves it."""
    folder.mkdir(parents=True, exist_ok=True)
    for emotion in PRESET_NAMES:
        mu = 0.85 * random_weight(emotion, (1, PRIOR_DIM), torch.float32).numpy() * math.sqrt(PRIOR_DIM)
        np.save(folder / f"{emotion}.npy", {"mu": mu}, allow_pickle=True)


def write_svd_folder(folder: Path, config: ModelConfig) -> None:
    """What is needed of SVD-XT's diffusers folder, and the small JSON files beside it."""
    vae, image_encoder = shapes_of(networks.vae(config.vae)), shapes_of(networks.image_encoder(config.image_encoder))
    for shapes, file in (
        (vae, "vae/diffusion_pytorch_model.fp16.safetensors"),
        (image_encoder, "image_encoder/model.fp16.safetensors"),
    ):
        save_safetensors(folder / file, shapes, lambda name, shapes=shapes: random_weight(name, shapes[name]))
    for name, content in {
        "vae": {"_class_name": "AutoencoderKLTemporalDecoder", **vars(config.vae)},
        "image_encoder": {"architectures": ["CLIPVisionModelWithProjection"], **vars(config.image_encoder)},
        "feature_extractor": {"feature_extractor_type": "CLIPImageProcessor"},
        "scheduler": {"_class_name": "EulerDiscreteScheduler", "sigma_max": 700.0, "sigma_min": 0.002},
    }.items():
        file = {"feature_extractor": "preprocessor_config.json", "scheduler": "scheduler_config.json"}
        (folder / name).mkdir(exist_ok=True)
        (folder / name / file.get(name, "config.json")).write_text(json.dumps(content, indent=2))


def write_svd_single_file(path: Path, config: ModelConfig, cut_down: bool = False) -> None:
    """The same values as :func:`write_svd_folder` under the original names, and a little of the rest of such a file.

    Args:
        path: of the file.
        config: sizes.
        cut_down: leave out the conditioner's copy of the VAE encoder, as some shared files do.
    """
    made = _single_file_vae(config.vae, cut_down) | _single_file_clip(config.image_encoder)
    made |= {name: (shape, partial(random_weight, name, shape)) for name, shape in SINGLE_FILE_REST.items()}
    shapes = {name: shape for name, (shape, _make) in made.items() if not (cut_down and name.startswith(svd.ENCODER))}
    save_safetensors(path, shapes, lambda name: made[name][1]())


SINGLE_FILE_REST = {
    "model.diffusion_model.input_blocks.0.0.weight": (320, 8, 3, 3),
    "model.diffusion_model.out.2.bias": (4,),
    "conditioner.embedders.0.open_clip.model.logit_scale": (1,),
    "conditioner.embedders.0.open_clip.model.ln_final.weight": (64,),
    "conditioner.embedders.3.encoder.decoder.conv_in.bias": (64,),
    "conditioner.embedders.3.encoder.post_quant_conv.bias": (4,),
}

Recipes = dict[str, tuple[tuple[int, ...], Callable[[], torch.Tensor]]]


def _single_file_vae(config: VAEConfig, cut_down: bool) -> Recipes:
    made: Recipes = {}
    for name, shape in shapes_of(networks.vae(config)).items():
        source = svd.vae_source(name, len(config.block_out_channels))
        # There the attention's linear layers are convolutions of one pixel.
        shape_there = (*shape, 1, 1) if ".attentions.0.to_" in name and len(shape) == 2 else shape
        recipe = (shape_there, partial(_reshaped, name, shape, shape_there))
        if name.startswith(("encoder.", "quant_conv.")) and not cut_down:
            made[svd.ENCODER + source] = recipe
        if not name.startswith("quant_conv."):
            made[svd.FIRST_STAGE + source] = recipe
    return made


def _single_file_clip(config: ImageEncoderConfig) -> Recipes:
    shapes = shapes_of(networks.image_encoder(config))
    made: Recipes = {}
    for name, shape in shapes.items():
        source = svd.CLIP + svd.image_encoder_source(name)
        if name == "visual_projection.weight":
            made[source] = (shape[::-1], lambda name=name, shape=shape: random_weight(name, shape).T)
        elif ".q_proj." in name:
            stacked = [name.replace(".q_proj.", f".{letter}_proj.") for letter in "qkv"]
            made[source] = ((3 * shape[0], *shape[1:]), partial(_stacked, stacked, shape))
        elif ".k_proj." not in name and ".v_proj." not in name:
            made[source] = (shape, partial(random_weight, name, shape))
    return made


def _reshaped(name: str, shape: tuple[int, ...], shape_there: tuple[int, ...]) -> torch.Tensor:
    return random_weight(name, shape).reshape(shape_there)


def _stacked(names: list[str], shape: tuple[int, ...]) -> torch.Tensor:
    return torch.cat([random_weight(name, shape) for name in names])


if __name__ == "__main__":
    write_released(Path(sys.argv[1]), FULL)
