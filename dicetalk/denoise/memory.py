"""How much memory denoising needs beside the weights, for hosts that make room before they start."""

from collections.abc import Iterable

import torch

from dicetalk.denoise.unet import UNet
from dicetalk.settings import SamplerSettings

ACTIVATIONS_PER_PIXEL = 30
"""Upper bound of what lives at once in a pass, in multiples of the first block's channels and for one latent pixel: 25
in networks of the released shape, the rest is workspace."""

BRANCHES = 3


def sampling_bytes(
    unet: UNet,
    settings: SamplerSettings,
    window: int,
    latent_size: tuple[int, int],
    token_rows: Iterable[tuple[int, int]],
    dtype: torch.dtype,
) -> int:
    """Upper bound of one window's activations and of the projected tokens, in bytes.

    Args:
        unet: on any device.
        settings: guidance in a batch or not, budget for projected tokens.
        window: frames in the longest window.
        latent_size: height and width.
        token_rows: for each adapter how many distinct rows there are, and how many tokens a row has.
        dtype: in which the network computes.
    """
    height, width = latent_size
    branches = BRANCHES if settings.batched_guidance else 1
    pixels = branches * window * height * width
    activations = pixels * ACTIVATIONS_PER_PIXEL * unet.config.block_out_channels[0]
    per_token = 2 * unet.key_value_channels * dtype.itemsize
    projected = sum(min(rows * tokens * per_token, settings.key_value_budget) for rows, tokens in token_rows)
    return activations * dtype.itemsize + projected
