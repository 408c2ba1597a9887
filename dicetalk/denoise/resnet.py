"""Residual blocks of the UNet: within a frame, across frames, and the pair blended."""

from types import ModuleType

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F


class AlphaBlender(nn.Module):
    """Learned blend: ``sigmoid(mix_factor) * spatial + (1 - sigmoid(mix_factor)) * temporal``."""

    def __init__(self) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.tensor([0.5]))

    def forward(self, spatial: torch.Tensor, temporal: torch.Tensor) -> torch.Tensor:
        # A host that manages memory may leave this small parameter on another device or in another dtype.
        alpha = torch.sigmoid(self.mix_factor.to(spatial.device)).to(spatial.dtype)
        return torch.lerp(temporal, spatial, alpha)


class ResBlock(nn.Module):
    """Norm, SiLU, convolution, twice, with the time embedding added between; over space (2-d) or time (3x1x1)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding_dim: int,
        eps: float,
        temporal: bool = False,
        operations: ModuleType = nn,
    ):
        super().__init__()
        conv = operations.Conv3d if temporal else operations.Conv2d
        kernel, padding = ((3, 1, 1), (1, 0, 0)) if temporal else (3, 1)
        self.norm1 = operations.GroupNorm(32, in_channels, eps=eps)
        self.conv1 = conv(in_channels, out_channels, kernel, padding=padding)
        self.time_emb_proj = operations.Linear(embedding_dim, out_channels)
        self.norm2 = operations.GroupNorm(32, out_channels, eps=eps)
        self.conv2 = conv(out_channels, out_channels, kernel, padding=padding)
        if in_channels != out_channels:
            self.conv_shortcut = conv(in_channels, out_channels, 1)
        else:
            self.conv_shortcut = nn.Identity()

    def forward(self, hidden: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """`hidden` ``(n, channels, ...)`` and `embedding` ``(batch, embedding_dim)`` with `batch` dividing `n`."""
        residual = self.conv_shortcut(hidden)
        hidden = self.conv1(F.silu(self.norm1(hidden)))
        shift = self.time_emb_proj(F.silu(embedding))
        shift = shift.repeat_interleave(len(hidden) // len(shift), dim=0)
        hidden = hidden + shift.reshape(*shift.shape, *[1] * (hidden.dim() - 2))
        return residual + self.conv2(F.silu(self.norm2(hidden)))


class SpatioTemporalResBlock(nn.Module):
    """A spatial and a temporal residual block whose results are blended by a learned factor."""

    def __init__(
        self, in_channels: int, out_channels: int, embedding_dim: int, eps: float, operations: ModuleType = nn
    ):
        super().__init__()
        self.spatial_res_block = ResBlock(in_channels, out_channels, embedding_dim, eps, False, operations)
        self.temporal_res_block = ResBlock(out_channels, out_channels, embedding_dim, eps, True, operations)
        self.time_mixer = AlphaBlender()

    def forward(self, hidden: torch.Tensor, embedding: torch.Tensor, frames: int) -> torch.Tensor:
        """``(batch * frames, channels, height, width)`` in and out; `embedding` ``(batch, embedding_dim)``."""
        hidden = self.spatial_res_block(hidden, embedding)
        clip = rearrange(hidden, "(b f) c h w -> b c f h w", f=frames)
        clip = self.time_mixer(clip, self.temporal_res_block(clip, embedding))
        return rearrange(clip, "b c f h w -> (b f) c h w")
