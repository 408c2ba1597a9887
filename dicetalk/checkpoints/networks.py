"""Builds every network without memory (on the meta device), to be compared with a file or filled from it.

diffusers and transformers are imported when a network of theirs is built: both take seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import nn

from dicetalk.audio.projection import AudioProjection, AudioToBucket
from dicetalk.checkpoints import files
from dicetalk.checkpoints.files import ModelFile
from dicetalk.config import BucketConfig, ImageEncoderConfig, ModelConfig, VAEConfig
from dicetalk.denoise.conditioning import PoseGuider
from dicetalk.denoise.unet import UNet
from dicetalk.emotion.bank import EmotionModel
from dicetalk.errors import CheckpointError
from dicetalk.layers import Attention, regroup
from dicetalk.video.rife import FlowNet


@dataclass(frozen=True)
class DiceNetwork:
    """A network that the authors of a variant trained.

    Args:
        field: its name in :class:`dicetalk.checkpoints.load.DiceModel`.
        file: the released file.
        build: makes it from a config, the layers' namespace and the attention function.
        may_lack: submodules that inference does not use and a file may leave out.
        full_precision: it is used in float32 whatever the others' dtype is.
    """

    field: str
    file: ModelFile
    build: Callable[[ModelConfig, ModuleType, Attention], nn.Module]
    may_lack: tuple[str, ...] = ()
    full_precision: bool = False

    @property
    def prefix(self) -> str:
        """Start of its names in a converted file: the released file's name."""
        return self.file.base.removesuffix(".pth") + "."


DICE_NETWORKS = (
    DiceNetwork("unet", files.UNET, lambda config, ops, attention: UNet(config.unet, ops, attention)),
    DiceNetwork(
        "audio_projection", files.AUDIO_PROJECTION, lambda config, ops, _attention: AudioProjection(config.audio, ops)
    ),
    DiceNetwork(
        "emotion_model",
        files.EMOTION_MODEL,
        lambda config, ops, attention: EmotionModel(config.emotion, ops, attention),
        may_lack=("classifier",),
    ),
    DiceNetwork("pose_guider", files.POSE_GUIDER, lambda config, ops, _attention: PoseGuider(config.pose_guider, ops)),
)

SONIC_NETWORKS = (
    DiceNetwork("unet", files.SONIC_UNET, lambda config, ops, attention: UNet(config.unet, ops, attention)),
    DiceNetwork(
        "audio_projection",
        files.SONIC_AUDIO_PROJECTION,
        lambda config, ops, _attention: AudioProjection(config.audio, ops),
        full_precision=True,
    ),
    DiceNetwork(
        "audio_to_bucket",
        files.SONIC_BUCKETS,
        lambda config, ops, _attention: AudioToBucket(_buckets(config), ops),
        full_precision=True,
    ),
)


def _buckets(config: ModelConfig) -> BucketConfig:
    if config.bucket is None:
        raise CheckpointError("config.bucket is missing: the sizes of the network that predicts motion.")
    return config.bucket


FLOWNET_MAY_LACK = ("block_tea",)
"""RIFE's teacher, which only its training calls."""

FLOWNET_PREFIX = "module."


def flownet() -> FlowNet:
    """RIFE."""
    with torch.device("meta"):
        return FlowNet()


def dice_network(network: DiceNetwork, config: ModelConfig, operations: ModuleType, attention: Attention) -> nn.Module:
    """Build one of a variant's own networks, on the meta device."""
    with torch.device("meta"):
        return network.build(config, operations, attention)


def vae(config: VAEConfig, device: str = "meta") -> nn.Module:
    """Diffusers' ``AutoencoderKLTemporalDecoder``; on another device than meta with random weights."""
    from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder

    with torch.device(device):
        network = AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D",) * len(config.block_out_channels),
            block_out_channels=config.block_out_channels,
            layers_per_block=config.layers_per_block,
            latent_channels=config.latent_channels,
            scaling_factor=config.scaling_factor,
        )
    return regroup(network, config.norm_groups)


def image_encoder(config: ImageEncoderConfig, device: str = "meta") -> nn.Module:
    """Transformers' ``CLIPVisionModelWithProjection``; `device` as for :func:`vae`."""
    from transformers.models.clip.configuration_clip import CLIPVisionConfig
    from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

    with torch.device(device):
        network = CLIPVisionModelWithProjection(CLIPVisionConfig(**vars(config)))
    # The constructor counts the positions; on the meta device nobody counts, and no file holds them.
    embeddings = network.vision_model.embeddings
    positions = torch.arange(embeddings.num_positions)[None]
    embeddings.register_buffer("position_ids", positions, persistent=False)
    return network


def whisper_encoder(sizes: dict[str, Any], device: str = "meta") -> nn.Module:
    """Transformers' ``WhisperEncoder``; `sizes` as in its ``WhisperConfig``, `device` as for :func:`vae`."""
    from transformers.models.whisper.configuration_whisper import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    with torch.device(device):
        return WhisperEncoder(WhisperConfig(**sizes))
