"""Pose guider: the face mask at picture size becomes features at latent size."""

from itertools import pairwise
from types import ModuleType

import torch
from torch import nn
from torch.nn import functional as F

from dicetalk.config import PoseGuiderConfig


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
