"""Sinusoidal features of scalars, and the small network that turns them into embeddings."""

import math
from types import ModuleType

import torch
from torch import nn
from torch.nn import functional as F


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
        return self.linear_2(F.silu(self.linear_1(features)))
