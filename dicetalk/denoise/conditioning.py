"""Conditioning of the network on a clip: encoded portrait, clip token, mask features, padded tokens."""

from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from dicetalk.config import PoseGuiderConfig
from dicetalk.denoise.tokens import FrameTokens
from dicetalk.hooks import SILENT, Hooks
from dicetalk.residency import Residency

if TYPE_CHECKING:  # diffusers takes seconds to import, and nothing here needs more than the name
    from diffusers import AutoencoderKLTemporalDecoder


class PoseGuider(nn.Module):
    """Convolutions with SiLU between; three of them halve the size, so the result has an eighth of it (rounded up)."""

    def __init__(self, config: PoseGuiderConfig, operations: ModuleType = nn):
        super().__init__()
        widths = config.block_out_channels
        self.conv_in = operations.Conv2d(config.conditioning_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for narrow, wide in pairwise(widths):
            self.blocks.append(operations.Conv2d(narrow, narrow, 3, padding=1))
            self.blocks.append(operations.Conv2d(narrow, wide, 3, padding=1, stride=2))
        self.conv_out = operations.Conv2d(widths[-1], config.conditioning_embedding_channels, 3, padding=1)

    def forward(self, mask: torch.Tensor) -> torch.Tensor:
        """Features ``(n, channels, ceil(H / 8), ceil(W / 8))`` of `mask` ``(n, 3, H, W)`` in 0..1."""
        hidden = F.silu(self.conv_in(mask))
        for block in self.blocks:
            hidden = F.silu(block(hidden))
        return self.conv_out(hidden)


ENCODER_FLOATS_PER_PIXEL = 8
"""Upper bound of what lives at once while a picture is encoded, in multiples of the first block's channels: 5 in the
released encoder, the rest is workspace."""

HALF_OVERFLOWED = "The VAE's encoder overflowed in float16: the portrait is encoded in float32."


@torch.no_grad()
def encode_picture(
    vae: "AutoencoderKLTemporalDecoder",
    image: torch.Tensor,
    noise: torch.Tensor,
    noise_std: float,
    residency: Residency,
    *,
    half: bool = False,
    hooks: Hooks = SILENT,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Encode the portrait twice: as the network's extra input channels, and as the start of the clip.

    Args:
        vae: its encoder, which is not temporal, is run.
        image: ``(3, H, W)`` in -1..1.
        noise: standard normal ``(1, 3, H, W)``.
        noise_std: of the noise added to the first of the two.
        residency: brings the VAE onto its device.
        half: encode in float16, as released Sonic. Where that overflows, and otherwise, the encoder runs in float32.
        hooks: receives a notice of an overflow.

    Returns:
        Image latents ``(4, h, w)``, unscaled, of the noised portrait; start latents ``(4, h, w)``, scaled, of the
        clean one. Both float32 on the CPU.
    """
    encoder = nn.ModuleList([vae.encoder, vae.quant_conv])
    dtype = next(encoder.parameters()).dtype
    height, width = image.shape[-2:]
    needed = height * width * ENCODER_FLOATS_PER_PIXEL * vae.config.block_out_channels[0] * torch.float32.itemsize
    pictures = torch.stack([image, image + noise_std * noise[0]] if noise_std else [image])
    with residency(vae, memory_required=needed) as device:
        try:
            latents = _modes(vae, encoder, pictures.to(device), torch.float16 if half else torch.float32)
            if half and not latents.isfinite().all():
                hooks.notice(HALF_OVERFLOWED)
                latents = _modes(vae, encoder, pictures.to(device), torch.float32)
        finally:
            encoder.to(dtype)
    return latents[-1], latents[0] * vae.config.scaling_factor


def _modes(
    vae: "AutoencoderKLTemporalDecoder", encoder: nn.Module, pictures: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """Latents of the pictures, one at a time in `dtype`, float32 on the CPU."""
    encoder.to(dtype)
    return torch.cat([vae.encode(picture[None].to(dtype)).latent_dist.mode().float().cpu() for picture in pictures])


@torch.no_grad()
def embed_portrait(image_encoder: nn.Module, pixels: torch.Tensor, residency: Residency) -> torch.Tensor:
    """The clip token ``(1, 1, context_dim)`` of CLIP-normalised `pixels` ``(3, size, size)``, on the CPU."""
    dtype = next(image_encoder.parameters()).dtype
    with residency(image_encoder) as device:
        return image_encoder(pixels[None].to(device, dtype)).image_embeds[:, None].cpu()


@torch.no_grad()
def pose_features(pose_guider: PoseGuider, mask: torch.Tensor, residency: Residency) -> torch.Tensor:
    """Pose-guider features ``(n, channels, h, w)`` of face masks ``(n, 1, H, W)`` in 0..1, on the CPU."""
    dtype = next(pose_guider.parameters()).dtype
    with residency(pose_guider) as device:
        return pose_guider(mask.to(device, dtype).expand(-1, 3, -1, -1)).cpu()


def pad_tokens(tokens: FrameTokens, frames: int) -> FrameTokens:
    """Append `frames` frames without speech and emotion: the first unconditional row."""
    rest = tokens.unconditional[:1].expand(frames)
    return FrameTokens(tokens.rows, torch.cat([tokens.conditional, rest]), torch.cat([tokens.unconditional, rest]))


@dataclass(frozen=True, eq=False)
class EncodedPortrait:
    """A portrait as the sampler needs it, all on the CPU, with the shapes of :class:`Conditioning`."""

    clip_token: torch.Tensor
    image_latents: torch.Tensor
    start_latents: torch.Tensor
    mask: torch.Tensor
    pose: torch.Tensor | None


@dataclass(frozen=True)
class Conditioning:
    """Everything that a clip is made from, ready for the network. `frames` counts the padding.

    Args:
        clip_token: image embedding of the portrait, ``(1, 1, context_dim)``.
        image_latents: the portrait's latents as the network's extra input channels, ``(4, h, w)``, unscaled.
        start_latents: the portrait's scaled latents, which the noise is added to, ``(4, h, w)``.
        adapters: tokens of each frame by the adapter's name, in the order of the UNet's projections.
        mask: face mask at picture size, ``(1, 1, H, W)`` in 0..1.
        pose: pose-guider features of the mask, ``(1 or frames, channels, h, w)``; `None` for a model without.
        added_ids: frames per second, motion bucket and expression bucket of each frame, ``(frames, 3)``, of which a
            window has the mean; or ``(1, 3)``, which are those of every window.
    """

    clip_token: torch.Tensor
    image_latents: torch.Tensor
    start_latents: torch.Tensor
    adapters: dict[str, FrameTokens]
    mask: torch.Tensor
    pose: torch.Tensor | None
    added_ids: torch.Tensor

    @property
    def frames(self) -> int:
        """Length of the clip, padding included."""
        return len(next(iter(self.adapters.values())).conditional)
