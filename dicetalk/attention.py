"""The attention function that every network here takes as an argument, and its default."""

from typing import Protocol

import torch
import torch.nn.functional as F

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
