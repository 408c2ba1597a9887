"""The networks that a diffusion training starts from: the four that are trained, and SVD's frozen two."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dicetalk.audio.projection import AudioProjection
from dicetalk.checkpoints import files
from dicetalk.checkpoints.find import FoundFiles, find_files
from dicetalk.checkpoints.networks import DICE_NETWORKS
from dicetalk.checkpoints.parts import dice_parts, expecting, other_parts
from dicetalk.checkpoints.read import read_tensors
from dicetalk.checkpoints.strict import check_names_and_shapes, fill, finite
from dicetalk.checkpoints.variants import FULL
from dicetalk.config import ModelConfig
from dicetalk.denoise.attention import CrossAttention
from dicetalk.denoise.conditioning import PoseGuider
from dicetalk.denoise.unet import UNet
from dicetalk.emotion.bank import EmotionClassifier, EmotionModel
from dicetalk.errors import CheckpointError, SettingError
from dicetalk.layers import sdpa_attention
from dicetalk.train.initial import seeded

if TYPE_CHECKING:  # both take seconds to import
    from diffusers import AutoencoderKLTemporalDecoder
    from transformers import CLIPVisionModelWithProjection

_UNET_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors")
_ADAPTERS = ".attn2.processor."

NOISY_PART = 0.5
"""How much of the noisy latents an untrained network takes for v; 1 / sigma would be right."""


@dataclass(frozen=True)
class Trainable:
    """The four networks of :data:`dicetalk.checkpoints.networks.DICE_NETWORKS`, in float32, on the CPU."""

    unet: UNet
    audio_projection: AudioProjection
    emotion_model: EmotionModel
    pose_guider: PoseGuider


def random_networks(config: ModelConfig, seed: int) -> Trainable:
    """Untrained networks; equal seeds give equal weights, and the global generator is as before."""

    def build() -> Trainable:
        networks: dict[str, Any] = {net.field: net.build(config, nn, sdpa_attention) for net in DICE_NETWORKS}
        return Trainable(**networks)

    return seeded(build, seed)


def with_random_emotion(networks: Trainable, config: ModelConfig, seed: int) -> Trainable:
    """The same networks with an emotion model that knows nothing; seeds as for :func:`random_networks`."""
    (network,) = (net for net in DICE_NETWORKS if net.field == "emotion_model")
    untrained: Any = seeded(lambda: network.build(config, nn, sdpa_attention), seed)
    return replace(networks, emotion_model=untrained)


@torch.no_grad()
def begin_with_portrait(networks: Trainable, scaling_factor: float) -> None:
    """Let untrained networks predict, nearly, that nothing moves: that every frame is the portrait p.

    Then ``v = (c_in x - sqrt(sigma^2 + 1) p) / sigma``, at the levels that matter about ``c_in x / 2 - p``. Of the
    UNet, whose residual blocks :func:`dicetalk.train.initial.quieten_residuals` has silenced, the way from the first
    convolution over the last skip to the last convolution is left. It carries that difference and its negative, which
    two SiLUs let through unchanged: silu(a) - silu(-a) = a. A network at random needs a thousand steps for the same.

    Args:
        networks: to change.
        scaling_factor: of the VAE's latents; the portrait's come without it.

    Raises:
        SettingError: the UNet is too narrow to carry both.
    """
    unet = networks.unet
    channels, width = unet.config.out_channels, unet.config.block_out_channels[0]
    if unet.config.in_channels != 2 * channels or width < 2 * channels:
        raise SettingError(
            f"A UNet of {width} channels that takes {unet.config.in_channels} and gives {channels} cannot start from "
            f"the portrait: it has to take {2 * channels}, and have {2 * channels} channels or more."
        )
    signs, latent = torch.tensor([1.0, -1.0] * channels), torch.arange(channels).repeat_interleave(2)
    carried = torch.arange(2 * channels)
    _clear(unet.conv_in, carried)
    unet.conv_in.weight[carried, latent, 1, 1] = NOISY_PART * signs
    unet.conv_in.weight[carried, channels + latent, 1, 1] = -signs * scaling_factor
    last: Any = unet.up_blocks[-1]
    shortcut = last.resnets[-1].spatial_res_block.conv_shortcut
    _clear(shortcut, carried)
    shortcut.weight[carried, shortcut.in_channels - width + carried, 0, 0] = 1
    _clear(unet.conv_out, torch.arange(channels))
    # The last norm divides by the deviation of the difference; x and p have unit variance.
    unet.conv_out.weight[latent, carried, 1, 1] = signs * math.sqrt(NOISY_PART**2 + 1)
    _clear(networks.pose_guider.conv_out, torch.arange(width))


def _clear(conv: Any, rows: torch.Tensor) -> None:
    """Make these output channels of a convolution of any kind zero."""
    conv.weight[rows] = 0
    conv.bias[rows] = 0


def svd_networks(config: ModelConfig, models: Path, seed: int) -> Trainable:
    """SVD's UNet with adapters that do nothing at first, so that training starts with what SVD can do.

    The adapters' values and the pose guider's last layer are zero; their gradients are not. Keys, which do not matter
    while the values are zero, and the networks beside the UNet are random.

    Raises:
        CheckpointError: SVD's UNet is missing, damaged or of another size.
    """
    networks = random_networks(config, seed)
    path = _svd_unet(models)
    stored = read_tensors(path)
    own = networks.unet.state_dict()
    adapters = {name: tensor for name, tensor in own.items() if _ADAPTERS in name}
    with expecting(files.UNET):
        check_names_and_shapes(path, networks.unet, stored | adapters)
        weights = {name: finite(path, name, tensor, torch.float32) for name, tensor in stored.items()}
    networks.unet.load_state_dict(weights | adapters)
    for module in networks.unet.modules():
        if isinstance(module, CrossAttention):
            for weight in module.processor.to_v_ip.parameters():
                nn.init.zeros_(weight)
    with torch.no_grad():
        _clear(networks.pose_guider.conv_out, torch.arange(config.unet.block_out_channels[0]))
    return networks


def dice_networks(config: ModelConfig, models: Path, seed: int) -> tuple[Trainable, ModelConfig]:
    """The released or converted networks; where a file leaves out the classifier, it starts at random.

    Returns:
        The networks and `config`, or the converted file's own.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    found = find_files(models, variant=FULL)
    with expecting(files.PACKED):
        parts, config, _ = dice_parts(found, config)
    _check_found(found, [part.field for part in parts], [network.field for network in DICE_NETWORKS])
    loaded: dict[str, Any] = {}
    for part in parts:
        with expecting(part.file):
            network = part.build()
            tensors = part.read(list(network.state_dict()))
            loaded[part.field] = fill(part.path, network, tensors, torch.float32, part.may_lack)
    networks = Trainable(**loaded)
    if networks.emotion_model.classifier is None:
        untrained = seeded(lambda: EmotionClassifier(config.emotion.classifier_dims), seed)
        networks.emotion_model.classifier = untrained
    for network in vars(networks).values():
        network.requires_grad_(True)
        # Weights may still be views of a read-only file.
        for parameter in network.parameters():
            parameter.data = parameter.data.clone()
    return networks, config


def frozen_networks(
    config: ModelConfig, models: Path
) -> tuple["AutoencoderKLTemporalDecoder", "CLIPVisionModelWithProjection"]:
    """SVD's VAE and image encoder, in float32.

    Raises:
        CheckpointError: one is missing or damaged.
    """
    found = find_files(models, variant=FULL)
    wanted = ("vae", "image_encoder")
    parts = {part.field: part for part in other_parts(found, config) if part.field in wanted}
    _check_found(found, list(parts), list(wanted))
    loaded: list[Any] = []
    for field in wanted:
        part = parts[field]
        with expecting(part.file):
            network = part.build()
            loaded.append(fill(part.path, network, part.read(list(network.state_dict())), torch.float32))
    return loaded[0], loaded[1]


def _check_found(found: FoundFiles, have: list[str], wanted: list[str]) -> None:
    missing = [field.replace("_", " ") for field in wanted if field not in have]
    if missing:
        raise CheckpointError(f"{found.folder}: no weights of the {', '.join(missing)}. See `dicetalk doctor`.")


def _svd_unet(models: Path) -> Path:
    folders = (f"{files.SVD_FOLDER}-1-1", files.SVD_FOLDER, "svd_xt", "")
    places = [models / folder / "unet" / name for folder in folders for name in _UNET_FILES]
    path = next(filter(Path.is_file, places), None)
    if path is None:
        raise CheckpointError(
            f"{models}: no SVD UNet. Put the `unet` folder of a diffusers SVD-XT (safetensors; not the single file) "
            f"into {models / files.SVD_FOLDER}, or choose another `start`."
        )
    return path
