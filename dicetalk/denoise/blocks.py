"""Blocks of the UNet: residual and transformer blocks over space and time, and the groups that they form."""

import math
from functools import cache
from types import ModuleType
from typing import Any

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from dicetalk.denoise.attention import AttentionContext, AttentionSizes, CrossAttention, SelfAttention
from dicetalk.layers import Attention, sdpa_attention


def sinusoidal(values: torch.Tensor, channels: int) -> torch.Tensor:
    """Cosines, then sines, of `values` ``(n,)`` at geometrically falling frequencies, as float32 ``(n, channels)``."""
    half = channels // 2
    exponents = torch.arange(half, dtype=torch.float32, device=values.device) / half
    angles = values.float()[:, None] * torch.exp(-math.log(10000) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimestepEmbedding(nn.Module):
    """Two linear layers with SiLU between."""

    def __init__(self, in_channels: int, hidden: int, out_channels: int, operations: ModuleType = nn):
        super().__init__()
        self.linear_1 = operations.Linear(in_channels, hidden)
        self.linear_2 = operations.Linear(hidden, out_channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Embedding ``(batch, out_channels)`` of sinusoidal `features` ``(batch, in_channels)``."""
        return self.linear_2(F.silu(self.linear_1(features)))


class AlphaBlender(nn.Module):
    """Learned blend: ``sigmoid(mix_factor) * spatial + (1 - sigmoid(mix_factor)) * temporal``."""

    def __init__(self) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.tensor([0.5]))

    def forward(self, spatial: torch.Tensor, temporal: torch.Tensor) -> torch.Tensor:
        """Mix two tensors of the same shape by one learned weight."""
        # A host that manages memory may leave this small parameter on another device or in another dtype.
        alpha = torch.sigmoid(self.mix_factor.to(spatial.device)).to(spatial.dtype)
        return torch.lerp(temporal, spatial, alpha)


@cache
def temporal_convolution(layer: type[nn.Conv3d]) -> type[nn.Conv3d]:
    """`layer` for kernels over time alone, computed in two dimensions, frames and pixels.

    The sums are the same; on a CPU the kernels for two dimensions take between a third and three quarters of the time.
    """

    class TemporalConvolution(layer):  # type: ignore[valid-type, misc]
        """Convolution with a kernel of ``(frames, 1, 1)``."""

        def _conv_forward(
            self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *_: Any, **__: Any
        ) -> torch.Tensor:
            # All ways through Conv3d lead here, also those of a host that casts or fetches the weights first.
            flat = F.conv2d(input.flatten(3), weight.squeeze(-1), bias, padding=self.padding[:2])
            return flat.unflatten(3, input.shape[3:])

    return TemporalConvolution


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
        conv = temporal_convolution(operations.Conv3d) if temporal else operations.Conv2d
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


ROWS = 1024
"""Rows that a thread of a CPU takes through a feed-forward at a time, so that what lies between its two layers, eight
times as wide as they are, stays in the cache."""


class GEGLU(nn.Module):
    """Gated GELU (Shazeer 2020)."""

    def __init__(self, channels: int, hidden: int, operations: ModuleType = nn):
        super().__init__()
        self.proj = operations.Linear(channels, 2 * hidden)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """``(..., channels)`` to ``(..., hidden)``."""
        value, gate = self.proj(hidden).chunk(2, dim=-1)
        if gate.device.type == "cpu":  # where the exact GELU takes three times as long of a tensor with gaps
            gate = gate.contiguous()
        return F.gelu(gate) * value


class FeedForward(nn.Module):
    """GEGLU feed-forward with four times the width."""

    def __init__(self, channels: int, operations: ModuleType = nn):
        super().__init__()
        # The released state dict numbers the layers 0 and 2: a dropout without weights stood between.
        self.net = nn.Sequential(
            GEGLU(channels, 4 * channels, operations), nn.Identity(), operations.Linear(4 * channels, channels)
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """``(..., channels)`` in and out."""
        if hidden.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.net(hidden)
        rows = hidden.reshape(-1, hidden.shape[-1])
        parts = rows.split(ROWS * torch.get_num_threads())
        return torch.cat([self.net(part) for part in parts]).reshape(hidden.shape)


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


class Downsample(nn.Module):
    """Strided convolution to half size."""

    def __init__(self, channels: int, operations: ModuleType = nn):
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """``(n, channels, h, w)`` to ``(n, channels, h / 2, w / 2)``."""
        return self.conv(hidden)


class Upsample(nn.Module):
    """Nearest-neighbour to double size, then a convolution."""

    def __init__(self, channels: int, operations: ModuleType = nn):
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, 3, padding=1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """``(n, channels, h, w)`` to ``(n, channels, 2 h, 2 w)``."""
        return self.conv(F.interpolate(hidden, scale_factor=2.0, mode="nearest"))


class DownBlock(nn.Module):
    """Residual blocks, each followed by a transformer if there are `transformers`, and a downsampler.

    The last block has no downsampler.
    """

    def __init__(
        self,
        resnets: list[SpatioTemporalResBlock],
        transformers: list[SpatioTemporalTransformer],
        downsampler: Downsample | None,
    ):
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.attentions = nn.ModuleList(transformers)
        self.downsamplers = nn.ModuleList([downsampler] if downsampler else [])

    def forward(
        self, hidden: torch.Tensor, embedding: torch.Tensor, frames: int, context: AttentionContext
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Features ``(batch * frames, channels, h, w)`` for the next block, and the skips of the up path."""
        skips = []
        for i, resnet in enumerate(self.resnets):
            hidden = resnet(hidden, embedding, frames)
            if self.attentions:
                hidden = self.attentions[i](hidden, frames, context)
            skips.append(hidden)
        for downsampler in self.downsamplers:
            hidden = downsampler(hidden)
            skips.append(hidden)
        return hidden, skips


class MidBlock(nn.Module):
    """Residual block, transformer, residual block."""

    def __init__(self, resnets: list[SpatioTemporalResBlock], transformer: SpatioTemporalTransformer):
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.attentions = nn.ModuleList([transformer])

    def forward(
        self, hidden: torch.Tensor, embedding: torch.Tensor, frames: int, context: AttentionContext
    ) -> torch.Tensor:
        """Features ``(batch * frames, channels, h, w)`` in and out."""
        hidden = self.resnets[0](hidden, embedding, frames)
        hidden = self.attentions[0](hidden, frames, context)
        return self.resnets[1](hidden, embedding, frames)


class UpBlock(nn.Module):
    """Residual blocks that take one skip each, with transformers if given, and an upsampler but for the last block."""

    def __init__(
        self,
        resnets: list[SpatioTemporalResBlock],
        transformers: list[SpatioTemporalTransformer],
        upsampler: Upsample | None,
    ):
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.attentions = nn.ModuleList(transformers)
        self.upsamplers = nn.ModuleList([upsampler] if upsampler else [])

    def forward(
        self,
        hidden: torch.Tensor,
        skips: list[torch.Tensor],
        embedding: torch.Tensor,
        frames: int,
        context: AttentionContext,
    ) -> torch.Tensor:
        """Takes its skips off the end of `skips`."""
        for i, resnet in enumerate(self.resnets):
            hidden = resnet(torch.cat([hidden, skips.pop()], dim=1), embedding, frames)
            if self.attentions:
                hidden = self.attentions[i](hidden, frames, context)
        for upsampler in self.upsamplers:
            hidden = upsampler(hidden)
        return hidden
