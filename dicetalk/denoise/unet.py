"""Stable Video Diffusion's UNet with audio and emotion adapters (Blattmann et al. 2023; Tan et al. 2025, section 3)."""

from dataclasses import dataclass
from types import ModuleType

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from dicetalk.config import UNetConfig
from dicetalk.denoise.attention import AttentionContext, AttentionSizes, CrossAttention, KeyValues
from dicetalk.denoise.blocks import (
    DownBlock,
    Downsample,
    MidBlock,
    SpatioTemporalResBlock,
    SpatioTemporalTransformer,
    TimestepEmbedding,
    UpBlock,
    Upsample,
    sinusoidal,
)
from dicetalk.layers import Attention, regroup, sdpa_attention

ADDED_IDS = 3  # frames per second, motion bucket, expression motion bucket


@dataclass
class DeepFeatures:
    """What the blocks below the highest resolution make of a window (DeepCache, Ma et al. 2024).

    Args:
        values: input of the last up block, ``(batch * frames, channels, h, w)``; `None` until a call of the network
            computes it.
    """

    values: torch.Tensor | None = None


class UNet(nn.Module):
    """Predicts v for a window of frames.

    State-dict names are the released ones. Conditions are projected once by :meth:`project_clip` and
    :meth:`project_adapter`, and given to every call as an :class:`AttentionContext`.

    Args:
        config: sizes; the last block of the down path and the first of the up path have no attention.
        operations: namespace of the layers (``Linear``, ``Conv2d``, ``Conv3d``, ``GroupNorm``, ``LayerNorm``).
        attention: ``attention(q, k, v, heads)`` on ``(batch, length, channels)``.
    """

    def __init__(self, config: UNetConfig, operations: ModuleType = nn, attention: Attention = sdpa_attention):
        super().__init__()
        self.config = config
        channels = config.block_out_channels
        first, last = channels[0], len(channels) - 1
        embedding_dim = 4 * first

        def resnet(in_channels: int, out_channels: int, eps: float) -> SpatioTemporalResBlock:
            return SpatioTemporalResBlock(in_channels, out_channels, embedding_dim, eps, operations)

        def transformer(level: int) -> SpatioTemporalTransformer:
            heads = config.num_attention_heads[level]
            sizes = AttentionSizes(channels[level], config.cross_attention_dim, heads, config.num_adapters)
            return SpatioTemporalTransformer(sizes, operations, attention)

        self.conv_in = operations.Conv2d(config.in_channels, first, 3, padding=1)
        self.time_embedding = TimestepEmbedding(first, embedding_dim, embedding_dim, operations)
        added_dim = ADDED_IDS * config.addition_time_embed_dim
        self.add_embedding = TimestepEmbedding(added_dim, embedding_dim, embedding_dim, operations)

        self.down_blocks = nn.ModuleList()
        skip_channels = [first]
        width = first
        for level, out in enumerate(channels):
            attended = level != last
            resnets, transformers = [], []
            for _ in range(config.layers_per_block):
                resnets.append(resnet(width, out, 1e-6 if attended else 1e-5))
                transformers += [transformer(level)] if attended else []
                width = out
                skip_channels.append(out)
            downsampler = Downsample(out, operations) if level != last else None
            skip_channels += [out] if downsampler else []
            self.down_blocks.append(DownBlock(resnets, transformers, downsampler))

        self.mid_block = MidBlock([resnet(width, width, 1e-5) for _ in range(2)], transformer(last))

        self.up_blocks = nn.ModuleList()
        for level in reversed(range(len(channels))):
            resnets, transformers = [], []
            for _ in range(config.layers_per_block + 1):
                resnets.append(resnet(width + skip_channels.pop(), channels[level], 1e-6))
                transformers += [transformer(level)] if level != last else []
                width = channels[level]
            upsampler = Upsample(width, operations) if level != 0 else None
            self.up_blocks.append(UpBlock(resnets, transformers, upsampler))

        self.conv_norm_out = operations.GroupNorm(32, first, eps=1e-5)
        self.conv_out = operations.Conv2d(first, config.out_channels, 3, padding=1)

        regroup(self, config.norm_groups)
        self._cross_attentions = [m for m in self.modules() if isinstance(m, CrossAttention)]
        for layer, module in enumerate(self._cross_attentions):
            module.layer = layer

    def project_clip(self, clip: torch.Tensor) -> list[torch.Tensor]:
        """What each cross-attention adds, ``(rows, 1, channels)``, for clip tokens ``(rows, 1, context_dim)``."""
        return [module.to_v(clip) for module in self._cross_attentions]

    def project_adapter(self, adapter: int, tokens: torch.Tensor) -> KeyValues:
        """Keys and values for each cross-attention of `tokens` ``(rows, tokens, context_dim)``; adapter 0 is audio."""
        return [module.project_adapter(adapter, tokens) for module in self._cross_attentions]

    @property
    def key_value_channels(self) -> int:
        """Channels of all cross-attentions together: one token of one adapter has twice as many projected numbers."""
        return sum(module.channels for module in self._cross_attentions)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        added_ids: torch.Tensor,
        context: AttentionContext,
        pose: torch.Tensor | None = None,
        deep: DeepFeatures | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict v.

        Args:
            sample: noisy latents and image latents, ``(batch, frames, in_channels, h, w)``; h and w are multiples of 8.
            timestep: ``0.25 * log(sigma)``, scalar or ``(batch,)``.
            added_ids: frames per second, motion bucket, expression bucket, ``(batch, 3)``.
            context: projected conditions.
            pose: pose-guider features added after the first convolution, ``(1 or frames, channels, h, w)``.
            deep: of another call: only the blocks of the highest resolution are run. Empty ones are filled.

        Returns:
            v ``(batch, frames, out_channels, h, w)``, and the middle block's features
            ``(batch * frames, channels, h', w')``, which the emotion classifier pools in training (eq. 15); with `deep`
            of another call these are the latter.
        """
        batch, frames = sample.shape[:2]
        dtype = sample.dtype

        timestep = timestep.expand(batch)
        embedding = self.time_embedding(sinusoidal(timestep, self.config.block_out_channels[0]).to(dtype))
        ids = sinusoidal(added_ids.flatten(), self.config.addition_time_embed_dim).reshape(batch, -1)
        embedding = embedding + self.add_embedding(ids.to(dtype))

        hidden = self.conv_in(rearrange(sample, "b f c h w -> (b f) c h w"))
        if pose is not None:
            hidden = hidden + pose.repeat(len(hidden) // len(pose), 1, 1, 1)

        skips = [hidden]
        if deep is not None and deep.values is not None:
            _, more = self.down_blocks[0](hidden, embedding, frames, context)
            skips += more[: self.config.layers_per_block]  # the last one is for the blocks that are left out
            middle = hidden = deep.values
        else:
            for block in self.down_blocks:
                hidden, more = block(hidden, embedding, frames, context)
                skips += more
            middle = hidden = self.mid_block(hidden, embedding, frames, context)
            for block in self.up_blocks[:-1]:
                hidden = block(hidden, skips, embedding, frames, context)
            if deep is not None:
                deep.values = hidden
        hidden = self.up_blocks[-1](hidden, skips, embedding, frames, context)

        hidden = self.conv_out(F.silu(self.conv_norm_out(hidden)))
        return rearrange(hidden, "(b f) c h w -> b f c h w", f=frames), middle
