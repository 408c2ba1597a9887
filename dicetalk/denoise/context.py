"""What the UNet's cross-attention reads: projected conditions, and which frame uses which of them.

Conditions repeat: every frame has the same clip token, padding frames share the unconditional tokens, a constant
emotion has one row. So tokens are stored as distinct *rows* and frames refer to them by index. Rows are projected to
keys and values once (:meth:`dicetalk.denoise.unet.UNet.project_adapter`), not in every step; eq. 14 of the paper
reads them from here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

KeyValues = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""For each cross-attention layer: keys and values, each ``(rows, tokens, channels)``."""

MaskPyramid = dict[tuple[int, int], torch.Tensor]
"""Face mask at every attention resolution: ``(height, width)`` -> ``(1, height * width, 1)``."""


@dataclass(frozen=True)
class AdapterContext:
    """One adapter (audio or emotion) for one UNet call.

    Args:
        key_values: projected rows for each layer.
        index: row of each frame, ``(batch, frames)``.
        scale: factor on the adapter's output; 0 skips it.
        mask: multiplies the output of spatial attention; none where the adapter acts on the whole picture.
    """

    key_values: KeyValues
    index: torch.Tensor
    scale: float = 1.0
    mask: MaskPyramid | None = None


@dataclass(frozen=True)
class AttentionContext:
    """Everything that cross-attention reads in one UNet call.

    Args:
        clip_values: the clip token's value projection for each layer, ``(rows, 1, channels)``.
        clip_index: row of each frame, ``(batch, frames)``.
        adapters: audio and emotion, in this order.
    """

    clip_values: Sequence[torch.Tensor]
    clip_index: torch.Tensor
    adapters: tuple[AdapterContext, ...] = ()


def resize_mask(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize a mask ``(1, 1, H, W)`` to ``(1, h * w, 1)`` as released: bicubic without antialiasing."""
    return F.interpolate(mask.float(), size=size, mode="bicubic").flatten(2).transpose(1, 2)


def mask_pyramid(mask: torch.Tensor, latent_size: tuple[int, int], levels: int) -> MaskPyramid:
    """The face mask ``(1, 1, H, W)`` at each of the UNet's `levels` resolutions, each half of the one before."""
    height, width = latent_size
    pyramid = {}
    for _ in range(levels):
        pyramid[height, width] = resize_mask(mask, (height, width))
        height, width = (height + 1) // 2, (width + 1) // 2
    return pyramid
