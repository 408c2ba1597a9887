"""Models and clips of named sizes to measure with."""

from dataclasses import dataclass

from dicetalk.checkpoints.variants import RELEASED, Variant
from dicetalk.config import (
    AudioConfig,
    EmotionConfig,
    ImageEncoderConfig,
    ModelConfig,
    PoseGuiderConfig,
    TokenMLPConfig,
    UNetConfig,
    VAEConfig,
)


def _reduced(widths: tuple[int, ...], heads: tuple[int, ...], layers: int, context_dim: int) -> ModelConfig:
    return ModelConfig(
        unet=UNetConfig(
            block_out_channels=widths,
            num_attention_heads=heads,
            layers_per_block=layers,
            cross_attention_dim=context_dim,
            addition_time_embed_dim=64,
        ),
        pose_guider=PoseGuiderConfig(widths[0], block_out_channels=(8, 16, 32, 64)),
        audio=AudioConfig(channels=64, intermediate_dim=context_dim, output_dim=context_dim),
        emotion=EmotionConfig(
            query=TokenMLPConfig(256, context_dim, context_dim),
            bank=TokenMLPConfig(context_dim, context_dim, context_dim),
            bank_size=32,
            attention_dim=context_dim,
            classifier_dims=(widths[-1], 64, 32, 22),
        ),
        vae=VAEConfig(block_out_channels=(32, 32, 64, 64), layers_per_block=1),
        image_encoder=ImageEncoderConfig(64, 128, 2, 4, 56, 14, context_dim),
    )


@dataclass(frozen=True)
class ClipSize:
    """A clip to measure with.

    Args:
        short_side: of the picture in pixels.
        seconds: of speech.
    """

    short_side: int
    seconds: float


@dataclass(frozen=True)
class Size(ClipSize):
    """A clip, and the model to make it with.

    Args:
        variant: kind of the model, and its sizes.
        whisper_heads: attention heads of the Whisper encoder.
    """

    variant: Variant
    whisper_heads: int

    @property
    def config(self) -> ModelConfig:
        """Sizes of the networks."""
        return self.variant.config


SMALL = Variant("small", "DICE-Talk with narrow networks", _reduced((32, 64, 64, 64), (2, 4, 4, 4), 1, 64))
MIDDLE = Variant("middle", "DICE-Talk with wider networks", _reduced((128, 256, 512, 512), (2, 4, 8, 8), 2, 512))

SIZES = {SMALL.name: Size(128, 2.0, SMALL, 4), MIDDLE.name: Size(256, 2.0, MIDDLE, 4)} | {
    variant.name: Size(variant.config.sampling.short_side, 4.0, variant, 6) for variant in RELEASED
}
"""Two reduced models, and every variant that is released."""
