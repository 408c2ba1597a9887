"""Models and clips of named sizes to measure with."""

from dataclasses import dataclass

from dicetalk.config import (
    FULL,
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
class Size:
    """A model and a clip to measure with.

    Args:
        config: of the networks.
        short_side: of the picture in pixels.
        seconds: of speech.
        whisper_heads: attention heads of the Whisper encoder.
    """

    config: ModelConfig
    short_side: int
    seconds: float
    whisper_heads: int


SIZES = {
    "small": Size(_reduced((32, 64, 64, 64), (2, 4, 4, 4), 1, 64), 128, 2.0, 4),
    "middle": Size(_reduced((128, 256, 512, 512), (2, 4, 8, 8), 2, 512), 256, 2.0, 4),
    "full": Size(FULL, 512, 4.0, 6),
}
