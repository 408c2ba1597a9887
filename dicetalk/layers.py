"""Layers that several networks share: attention as an argument, a vector cut into tokens, groups of small networks."""

from types import ModuleType
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import nn

from dicetalk.config import TokenMLPConfig

LARGEST_BATCH = 1 << 15
"""Rows of one call. CUDA's kernels cannot be started with 65 536 or more, which is a large picture's number of places
under guidance, each of which attends over time."""


class Attention(Protocol):
    """Multi-head attention over projected queries, keys and values; a host may bring its own kernel."""

    def __call__(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
        """Attend without mask or dropout, scaled by ``(dim / heads) ** -0.5``.

        Args:
            q: queries, ``(batch, queries, dim)``; `dim` is the sum over heads.
            k: keys, ``(batch, keys, dim)``.
            v: values, ``(batch, keys, dim)``.
            heads: how many equal parts `dim` is split into.

        Returns:
            ``(batch, queries, dim)``, heads side by side.
        """
        ...


def sdpa_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """:class:`Attention` by torch's scaled dot-product attention."""
    if len(q) > LARGEST_BATCH:
        parts = zip(q.split(LARGEST_BATCH), k.split(LARGEST_BATCH), v.split(LARGEST_BATCH), strict=True)
        return torch.cat([sdpa_attention(*part, heads) for part in parts])
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        # On a CPU the backward pass takes five times as long in bfloat16 as in float32.
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(q.float(), k.float(), v.float()).transpose(1, 2).flatten(2)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class TokenMLP(nn.Module):
    """Three linear layers with ReLU between, cut into tokens, each token normalised."""

    def __init__(self, config: TokenMLPConfig, operations: ModuleType = nn):
        super().__init__()
        self.context_tokens = config.context_tokens
        self.proj1 = operations.Linear(config.input_dim, config.intermediate_dim)
        self.proj2 = operations.Linear(config.intermediate_dim, config.intermediate_dim)
        self.proj3 = operations.Linear(config.intermediate_dim, config.context_tokens * config.output_dim)
        self.norm = operations.LayerNorm(config.output_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens ``(..., context_tokens, output_dim)`` of `x` ``(..., input_dim)``."""
        hidden = F.relu(self.proj2(F.relu(self.proj1(x))))
        return self.norm(self.proj3(hidden).unflatten(-1, (self.context_tokens, -1)))


Network = TypeVar("Network", bound=nn.Module)


def regroup(network: Network, groups: int) -> Network:
    """Let every ``GroupNorm`` of `network` have so many groups, and return it.

    Networks of Stable Video Diffusion's kind have 32 groups whatever their width. Where a layer has few channels for
    each, a picture's brightness is normalised away channel by channel, and no later layer can bring it back.

    Raises:
        ValueError: a layer's channels are no multiple of `groups`.
    """
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            if module.num_channels % groups:
                raise ValueError(f"{module.num_channels} channels do not divide into {groups} groups.")
            module.num_groups = groups
    return network
