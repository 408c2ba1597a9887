"""Transformer blocks of the UNet: within a frame, across frames, and the pair blended."""

from types import ModuleType

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from dicetalk.attention import Attention, sdpa_attention
from dicetalk.denoise.attention import AttentionSizes, CrossAttention, SelfAttention
from dicetalk.denoise.context import AttentionContext
from dicetalk.denoise.embedding import TimestepEmbedding, sinusoidal
from dicetalk.denoise.resnet import AlphaBlender


class GEGLU(nn.Module):
    """Gated GELU (Shazeer 2020)."""

    def __init__(self, channels: int, hidden: int, operations: ModuleType = nn):
        super().__init__()
        self.proj = operations.Linear(channels, 2 * hidden)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        value, gate = self.proj(hidden).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU feed-forward with four times the width."""

    def __init__(self, channels: int, operations: ModuleType = nn):
        super().__init__()
        # The released state dict numbers the layers 0 and 2: a dropout without weights stood between.
        self.net = nn.Sequential(
            GEGLU(channels, 4 * channels, operations), nn.Identity(), operations.Linear(4 * channels, channels)
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.net(hidden)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward, each with a layer norm before it."""

    def __init__(self, sizes: AttentionSizes, operations: ModuleType = nn, attention: Attention = sdpa_attention):
        super().__init__()
        self.norm1 = operations.LayerNorm(sizes.channels)
        self.attn1 = SelfAttention(sizes.channels, sizes.heads, operations, attention)
        self.norm2 = operations.LayerNorm(sizes.channels)
        self.attn2 = CrossAttention(sizes, operations, attention)
        self.norm3 = operations.LayerNorm(sizes.channels)
        self.ff = FeedForward(sizes.channels, operations)


class SpatialBlock(TransformerBlock):
    """Attends over the pixels of a frame, and to the frame's own tokens."""

    def forward(self, hidden: torch.Tensor, size: tuple[int, int], context: AttentionContext) -> torch.Tensor:
        """``(batch * frames, height * width, channels)`` in and out; `size` is ``(height, width)``."""
        hidden = hidden + self.attn1(self.norm1(hidden))
        hidden = hidden + self.attn2.spatial(self.norm2(hidden), size, context)
        return hidden + self.ff(self.norm3(hidden))


class TemporalBlock(TransformerBlock):
    """Attends over the frames at each pixel, and to the mean of the window's tokens; a feed-forward comes first."""

    def __init__(self, sizes: AttentionSizes, operations: ModuleType = nn, attention: Attention = sdpa_attention):
        super().__init__(sizes, operations, attention)
        self.norm_in = operations.LayerNorm(sizes.channels)
        self.ff_in = FeedForward(sizes.channels, operations)

    def forward(self, hidden: torch.Tensor, frames: int, context: AttentionContext) -> torch.Tensor:
        """``(batch * frames, height * width, channels)`` in and out."""
        batch = len(hidden) // frames
        hidden = rearrange(hidden, "(b f) s c -> (b s) f c", f=frames)
        hidden = hidden + self.ff_in(self.norm_in(hidden))
        hidden = hidden + self.attn1(self.norm1(hidden))
        hidden = hidden + self.attn2.temporal(self.norm2(hidden), batch, context)
        hidden = hidden + self.ff(self.norm3(hidden))
        return rearrange(hidden, "(b s) f c -> (b f) s c", b=batch)


class SpatioTemporalTransformer(nn.Module):
    """A spatial and a temporal block whose results are blended by a learned factor."""

    def __init__(self, sizes: AttentionSizes, operations: ModuleType = nn, attention: Attention = sdpa_attention):
        super().__init__()
        channels = sizes.channels
        self.norm = operations.GroupNorm(32, channels, eps=1e-6)
        self.proj_in = operations.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([SpatialBlock(sizes, operations, attention)])
        self.temporal_transformer_blocks = nn.ModuleList([TemporalBlock(sizes, operations, attention)])
        self.time_pos_embed = TimestepEmbedding(channels, 4 * channels, channels, operations)
        self.time_mixer = AlphaBlender()
        self.proj_out = operations.Linear(channels, channels)

    def forward(self, hidden: torch.Tensor, frames: int, context: AttentionContext) -> torch.Tensor:
        """``(batch * frames, channels, height, width)`` in and out."""
        residual, size = hidden, hidden.shape[-2:]
        hidden = self.proj_in(rearrange(self.norm(hidden), "n c h w -> n (h w) c"))

        place = sinusoidal(torch.arange(frames, device=hidden.device), hidden.shape[-1]).to(hidden.dtype)
        place = self.time_pos_embed(place).repeat(len(hidden) // frames, 1)[:, None]

        for spatial, temporal in zip(self.transformer_blocks, self.temporal_transformer_blocks, strict=True):
            hidden = spatial(hidden, tuple(size), context)
            hidden = self.time_mixer(hidden, temporal(hidden + place, frames, context))
        hidden = rearrange(self.proj_out(hidden), "n (h w) c -> n c h w", h=size[0])
        return hidden + residual
