"""Sizes of every network. :data:`FULL` is the release; small configs run through the same classes."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from dicetalk.errors import CheckpointError


@dataclass(frozen=True)
class UNetConfig:
    """Spatio-temporal UNet of Stable Video Diffusion with two attention adapters (audio, emotion)."""

    in_channels: int = 8
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    num_attention_heads: tuple[int, ...] = (5, 10, 20, 20)
    layers_per_block: int = 2
    cross_attention_dim: int = 1024
    addition_time_embed_dim: int = 256
    num_adapters: int = 2

    @classmethod
    def from_released(cls, config: dict[str, Any]) -> "UNetConfig":
        """From a diffusers ``config.json`` of this UNet, whose ``num_adapter_tokens`` lists the adapters."""
        tuples = ("block_out_channels", "num_attention_heads")
        plain = {f.name for f in fields(cls)} - {*tuples, "num_adapters"}
        values = {name: config[name] for name in plain} | {name: tuple(config[name]) for name in tuples}
        return cls(**values, num_adapters=len(config["num_adapter_tokens"]))


@dataclass(frozen=True)
class PoseGuiderConfig:
    """Face mask (at picture size) to features that are added after the UNet's first convolution."""

    conditioning_embedding_channels: int = 320
    conditioning_channels: int = 3
    block_out_channels: tuple[int, ...] = (16, 32, 96, 256)


@dataclass(frozen=True)
class TokenMLPConfig:
    """Three linear layers that turn one vector into a few context tokens."""

    input_dim: int
    intermediate_dim: int = 1024
    output_dim: int = 1024
    context_tokens: int = 32


@dataclass(frozen=True)
class AudioConfig:
    """Whisper hidden states: `window` steps x `layers` x `channels` per frame, projected to audio tokens."""

    window: int = 10
    layers: int = 5
    channels: int = 384
    intermediate_dim: int = 1024
    output_dim: int = 1024
    context_tokens: int = 32


@dataclass(frozen=True)
class EmotionConfig:
    """Emotion prior and bank to emotion tokens, and the classifier that training uses."""

    query: TokenMLPConfig = field(default_factory=lambda: TokenMLPConfig(256))
    bank: TokenMLPConfig = field(default_factory=lambda: TokenMLPConfig(1024))
    bank_size: int = 64
    attention_dim: int = 1024
    num_heads: int = 8
    classifier_dims: tuple[int, ...] = (1280, 512, 256, 22)


@dataclass(frozen=True)
class VAEConfig:
    """Stable Video Diffusion's VAE with a temporal decoder (diffusers: AutoencoderKLTemporalDecoder)."""

    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_channels: int = 4
    scaling_factor: float = 0.18215


@dataclass(frozen=True)
class ImageEncoderConfig:
    """CLIP ViT-H/14 vision tower with projection (transformers: CLIPVisionModelWithProjection)."""

    hidden_size: int = 1280
    intermediate_size: int = 5120
    num_hidden_layers: int = 32
    num_attention_heads: int = 16
    image_size: int = 224
    patch_size: int = 14
    projection_dim: int = 1024
    hidden_act: str = "gelu"


@dataclass(frozen=True)
class ModelConfig:
    """Everything that must be known to build the networks before their weights are read."""

    unet: UNetConfig = field(default_factory=UNetConfig)
    pose_guider: PoseGuiderConfig = field(default_factory=PoseGuiderConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    emotion: EmotionConfig = field(default_factory=EmotionConfig)
    vae: VAEConfig = field(default_factory=VAEConfig)
    image_encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Inverse of :meth:`to_dict`.

        Raises:
            CheckpointError: an entry is unknown, missing or of the wrong type.
        """
        return _build(cls, values, "config")


def _build(cls: type, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise CheckpointError(f"{where}: expected a table of {cls.__name__}, got {values!r}.")
    default = cls(**{"input_dim": 1} if cls is TokenMLPConfig else {})
    known = {f.name: getattr(default, f.name) for f in fields(cls)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise CheckpointError(f"{where}: unknown entry {unknown[0]!r}. Known: {', '.join(known)}.")
    missing = sorted(set(known) - set(values))
    if missing:
        raise CheckpointError(f"{where}: entry {missing[0]!r} is missing.")
    built = {}
    for name, like in known.items():
        value, path = values[name], f"{where}.{name}"
        if hasattr(like, "__dataclass_fields__"):
            built[name] = _build(type(like), value, path)
        elif isinstance(like, tuple):
            if not isinstance(value, (list, tuple)) or not value or not all(_is_size(v) for v in value):
                raise CheckpointError(f"{path}: expected positive integers, got {value!r}.")
            built[name] = tuple(value)
        elif isinstance(like, int):
            if not _is_size(value):
                raise CheckpointError(f"{path}: expected a positive integer, got {value!r}.")
            built[name] = value
        elif not isinstance(value, type(like)):
            raise CheckpointError(f"{path}: expected {type(like).__name__}, got {value!r}.")
        else:
            built[name] = value
    return cls(**built)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 20


FULL = ModelConfig()
