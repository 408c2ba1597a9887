"""Down, middle and up blocks of the UNet."""

from types import ModuleType

import torch
from torch import nn
from torch.nn import functional as F

from dicetalk.denoise.context import AttentionContext
from dicetalk.denoise.resnet import SpatioTemporalResBlock
from dicetalk.denoise.transformer import SpatioTemporalTransformer


class Downsample(nn.Module):
    """Strided convolution to half size."""

    def __init__(self, channels: int, operations: ModuleType = nn):
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.conv(hidden)


class Upsample(nn.Module):
    """Nearest-neighbour to double size, then a convolution."""

    def __init__(self, channels: int, operations: ModuleType = nn):
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, 3, padding=1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.conv(F.interpolate(hidden, scale_factor=2.0, mode="nearest"))


class DownBlock(nn.Module):
    """Residual blocks, each followed by a transformer if there are `transformers`, and a downsampler but for the last
    block.

    `forward` returns the result and what the up path takes as skips.
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
