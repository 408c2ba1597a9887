"""Sizes of every network.

:data:`FULL` is released DICE-Talk, :data:`SONIC` released Sonic, :data:`TINY` the bundled model; the classes are the
same.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from dicetalk.errors import CheckpointError
from dicetalk.settings import SCHEDULES

SIGMA_MAX, SIGMA_MIN = 700.0, 0.002
"""The release's highest noise level, and its lowest above zero."""

PORTRAIT_DTYPES = ("float32", "float16")


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
    norm_groups: int = 32

    @classmethod
    def from_released(cls, config: dict[str, Any]) -> "UNetConfig":
        """From a diffusers ``config.json`` of this UNet, whose ``num_adapter_tokens`` lists the adapters."""
        tuples = ("block_out_channels", "num_attention_heads")
        plain = {f.name for f in fields(cls)} - {*tuples, "num_adapters", "norm_groups"}
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
class BucketConfig:
    """Whisper's last hidden state, `window` steps x `channels` a frame, and the image embedding to two buckets."""

    window: int = 50
    channels: int = 384
    image_dim: int = 1024
    intermediate_dim: int = 1024


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
    norm_groups: int = 32


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
class SamplingConfig:
    """Sampling that the networks were made for.

    Args:
        short_side: of the picture, in pixels.
        steps: see :class:`dicetalk.settings.SamplerSettings`.
        portrait_guidance: likewise.
        expression_guidance: likewise.
        sigma_min: lowest noise level above zero.
        sigma_max: highest noise level; the portrait's latents lie under the first noise.
        schedule: of windows, likewise.
        decode_chunk: frames that the VAE decodes together.
        portrait_dtype: in which the VAE encodes the portrait: ``float32``, or ``float16`` if the model is used in it.

    Raises:
        CheckpointError: the noise levels do not rise from above zero, or a name is unknown.
    """

    short_side: int = 512
    steps: int = 25
    portrait_guidance: float = 3.0
    expression_guidance: float = 6.0
    sigma_min: float = SIGMA_MIN
    sigma_max: float = SIGMA_MAX
    schedule: str = "reference"
    decode_chunk: int = 10
    portrait_dtype: str = "float32"

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < float("inf"):
            raise CheckpointError(
                f"config.sampling: sigma_min {self.sigma_min} and sigma_max {self.sigma_max} are no range above zero."
            )
        for name, known in (("schedule", SCHEDULES), ("portrait_dtype", PORTRAIT_DTYPES)):
            if (value := getattr(self, name)) not in known:
                raise CheckpointError(f"config.sampling: {name} {value!r} is unknown. Known: {', '.join(known)}.")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that must be known to build the networks before their weights are read.

    A table of a network that a variant lacks has no influence. `bucket` is `None` for a variant whose buckets are
    settings.
    """

    unet: UNetConfig = field(default_factory=UNetConfig)
    pose_guider: PoseGuiderConfig = field(default_factory=PoseGuiderConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    emotion: EmotionConfig = field(default_factory=EmotionConfig)
    vae: VAEConfig = field(default_factory=VAEConfig)
    image_encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    bucket: BucketConfig | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Inverse of :meth:`to_dict`; `sampling`, its noise levels and `norm_groups` may be left out.

        Raises:
            CheckpointError: an entry is unknown, missing or of the wrong type.
        """
        return _build(cls, values, "config")


_ADDED_LATER = {"sampling", "norm_groups", "bucket"} | {
    *("sigma_min", "sigma_max", "schedule", "decode_chunk", "portrait_dtype"),
}
"""Entries that older files lack; the release's values stand for them."""

_MAY_BE_NONE: dict[str, type] = {"bucket": BucketConfig}
"""Tables that may be ``null``, and what they are otherwise."""


def _build(cls: type, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise CheckpointError(f"{where}: expected a table of {cls.__name__}, got {values!r}.")
    default = cls(**{"input_dim": 1} if cls is TokenMLPConfig else {})
    known = {f.name: getattr(default, f.name) for f in fields(cls)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise CheckpointError(f"{where}: unknown entry {unknown[0]!r}. Known: {', '.join(known)}.")
    missing = sorted(set(known) - set(values) - _ADDED_LATER)
    if missing:
        raise CheckpointError(f"{where}: entry {missing[0]!r} is missing.")
    built = {}
    for name, like in known.items():
        if name not in values:
            continue
        value, path = values[name], f"{where}.{name}"
        if name in _MAY_BE_NONE:
            built[name] = None if value is None else _build(_MAY_BE_NONE[name], value, path)
        elif hasattr(like, "__dataclass_fields__"):
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

SONIC = ModelConfig(
    unet=UNetConfig(num_adapters=1),
    bucket=BucketConfig(),
    sampling=SamplingConfig(
        portrait_guidance=2.0, expression_guidance=7.5, schedule="ring", decode_chunk=8, portrait_dtype="float16"
    ),
)
"""Released Sonic: DICE-Talk's sizes with the audio adapter alone, and a network for the buckets."""

TINY = ModelConfig(
    unet=UNetConfig(
        block_out_channels=(64, 64, 64, 64),
        num_attention_heads=(2, 2, 2, 2),
        layers_per_block=1,
        cross_attention_dim=64,
        addition_time_embed_dim=32,
        norm_groups=8,
        in_channels=32,
        out_channels=16,
    ),
    pose_guider=PoseGuiderConfig(64, block_out_channels=(4, 8, 16, 16)),
    audio=AudioConfig(channels=64, intermediate_dim=128, output_dim=64, context_tokens=4),
    emotion=EmotionConfig(
        query=TokenMLPConfig(256, 128, 64, 4),
        bank=TokenMLPConfig(64, 128, 64, 4),
        bank_size=32,
        attention_dim=64,
        num_heads=4,
        classifier_dims=(64, 64, 32, 22),
    ),
    vae=VAEConfig((32, 32, 64, 96), layers_per_block=1, latent_channels=16, scaling_factor=1.0, norm_groups=1),
    image_encoder=ImageEncoderConfig(96, 256, 3, 4, 56, 8, 64, "gelu"),
    sampling=SamplingConfig(
        short_side=128, steps=10, portrait_guidance=1.0, expression_guidance=3.0, sigma_min=0.03, sigma_max=20.0
    ),
)
"""The small model that comes with the package, for drawn faces of 128 pixels."""
