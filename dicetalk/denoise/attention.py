"""Attention layers of the UNet, and the projected conditions that its cross-attention reads.

Attribute names are the released state dict's. Conditions repeat: every frame has the same clip token, padding frames
share the unconditional tokens, a constant emotion has one row. So tokens are stored as distinct *rows* and frames refer
to them by index. Rows are projected to keys and values once (:meth:`dicetalk.denoise.unet.UNet.project_adapter`), not
in every step; eq. 14 of the paper reads them from here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from dicetalk.layers import Attention, sdpa_attention

KeyValues = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""For each cross-attention layer: keys and values, each ``(rows, tokens, channels)``."""

MaskPyramid = dict[tuple[int, int], torch.Tensor]
"""Face mask at every attention resolution: ``(height, width)`` -> ``(1, height * width, 1)``."""


@dataclass(frozen=True)
class AdapterContext:
    """One adapter (audio or emotion) for one UNet call.

    Args:
        key_values: projected rows for each layer.
        index: row of each frame, ``(batch, frames)``.
        scale: factor on the adapter's output; 0 skips it.
        mask: multiplies the output of spatial attention; none where the adapter acts on the whole picture.
    """

    key_values: KeyValues
    index: torch.Tensor
    scale: float = 1.0
    mask: MaskPyramid | None = None


@dataclass(frozen=True)
class AttentionContext:
    """Everything that cross-attention reads in one UNet call.

    Args:
        clip_values: the clip token's value projection for each layer, ``(rows, 1, channels)``.
        clip_index: row of each frame, ``(batch, frames)``.
        adapters: audio and emotion, in this order.
    """

    clip_values: Sequence[torch.Tensor]
    clip_index: torch.Tensor
    adapters: tuple[AdapterContext, ...] = ()


def resize_mask(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize a mask ``(1, 1, H, W)`` to ``(1, h * w, 1)`` as released: bicubic without antialiasing."""
    return F.interpolate(mask.float(), size=size, mode="bicubic").flatten(2).transpose(1, 2)


def mask_pyramid(mask: torch.Tensor, latent_size: tuple[int, int], levels: int) -> MaskPyramid:
    """The face mask ``(1, 1, H, W)`` at each of the UNet's `levels` resolutions, each half of the one before."""
    height, width = latent_size
    pyramid = {}
    for _ in range(levels):
        pyramid[height, width] = resize_mask(mask, (height, width))
        height, width = (height + 1) // 2, (width + 1) // 2
    return pyramid


@dataclass(frozen=True)
class AttentionSizes:
    """Channels of the features and of the context tokens, attention heads, and adapters beside the clip token."""

    channels: int
    context_dim: int
    heads: int
    adapters: int


class SelfAttention(nn.Module):
    """Multi-head self-attention, ``(batch, length, channels)`` in and out."""

    def __init__(self, channels: int, heads: int, operations: ModuleType = nn, attention: Attention = sdpa_attention):
        super().__init__()
        self.heads = heads
        self.attention = attention
        self.to_q = operations.Linear(channels, channels, bias=False)
        self.to_k = operations.Linear(channels, channels, bias=False)
        self.to_v = operations.Linear(channels, channels, bias=False)
        self.to_out = nn.ModuleList([operations.Linear(channels, channels)])

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Attend among the places of `hidden`, ``(batch, length, channels)``."""
        q, k, v = self.to_q(hidden), self.to_k(hidden), self.to_v(hidden)
        return self.to_out[0](self.attention(q, k, v, self.heads))


class AdapterProjections(nn.Module):
    """Key and value projections of the adapters."""

    def __init__(self, sizes: AttentionSizes, operations: ModuleType = nn):
        super().__init__()

        def projections() -> nn.ModuleList:
            layers = [operations.Linear(sizes.context_dim, sizes.channels, bias=False) for _ in range(sizes.adapters)]
            return nn.ModuleList(layers)

        self.to_k_ip = projections()
        self.to_v_ip = projections()


class CrossAttention(nn.Module):
    """Decoupled cross-attention (eq. 14).

    Clip token, audio tokens and emotion tokens are attended separately and added.

    The clip context is a single token. Softmax over one key is 1, so its part is the token's value, whatever the query:
    ``to_k`` has no influence and exists only because the released weights hold it.
    """

    def __init__(self, sizes: AttentionSizes, operations: ModuleType = nn, attention: Attention = sdpa_attention):
        super().__init__()
        self.channels = sizes.channels
        self.heads = sizes.heads
        self.attention = attention
        self.layer = -1  # place in KeyValues, set by the UNet
        self.to_q = operations.Linear(sizes.channels, sizes.channels, bias=False)
        self.to_k = operations.Linear(sizes.context_dim, sizes.channels, bias=False)
        self.to_v = operations.Linear(sizes.context_dim, sizes.channels, bias=False)
        self.to_out = nn.ModuleList([operations.Linear(sizes.channels, sizes.channels)])
        self.processor = AdapterProjections(sizes, operations)

    def project_adapter(self, adapter: int, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values ``(rows, tokens, channels)`` of `tokens` ``(rows, tokens, context_dim)``."""
        return self.processor.to_k_ip[adapter](tokens), self.processor.to_v_ip[adapter](tokens)

    def spatial(self, hidden: torch.Tensor, size: tuple[int, int], context: AttentionContext) -> torch.Tensor:
        """Attend from every pixel of a frame to that frame's own tokens.

        Args:
            hidden: ``(batch * frames, height * width, channels)``.
            size: ``(height, width)``.
            context: conditions of this call.
        """

        def rows(projected: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            return projected[index.flatten()]

        return self._attend(hidden, context, rows, size)

    def temporal(self, hidden: torch.Tensor, batch: int, context: AttentionContext) -> torch.Tensor:
        """Attend from every pixel at every time to the mean of the window's tokens; no mask.

        Keys are linear in the tokens, so the mean of keys is the key of the mean. One set of keys serves all pixels
        of a clip, so pixels and frames form one long query.

        Args:
            hidden: ``(batch * height * width, frames, channels)``.
            batch: number of clips.
            context: conditions of this call.
        """
        pixels = len(hidden) // batch
        queries = rearrange(hidden, "(b s) f c -> b (s f) c", b=batch)

        def rows(projected: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            return projected[index].mean(dim=1)

        attended = self._attend(queries, context, rows)
        if attended.shape[1] == 1:
            return attended.repeat_interleave(pixels, dim=0)
        return rearrange(attended, "b (s f) c -> (b s) f c", s=pixels)

    def _attend(
        self,
        hidden: torch.Tensor,
        context: AttentionContext,
        rows: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        size: tuple[int, int] | None = None,
    ) -> torch.Tensor:
        """Sum of the clip token's part and each adapter's, which is masked where `size` says at which resolution."""
        attended = rows(context.clip_values[self.layer], context.clip_index)
        active = [a for a in context.adapters if a.scale != 0]
        if active:
            query = self.to_q(hidden)
            for adapter in active:
                key, value = (rows(x, adapter.index) for x in adapter.key_values[self.layer])
                seen = self.attention(query, key, value, self.heads)
                if size is None or adapter.mask is None:
                    attended = torch.add(attended, seen, alpha=adapter.scale)
                else:
                    attended = torch.addcmul(attended, seen, adapter.mask[size].to(seen), value=adapter.scale)
        return self.to_out[0](attended)
