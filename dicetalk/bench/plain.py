"""The guided network without the exact savings, as the method is usually written.

`bench` and the tests compare with it.

Every call projects the tokens of all its frames again, attends to the clip token with softmax, repeats the temporal
tokens for every pixel, runs the pose guider on every frame's mask and computes all three branches whatever their
weight.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from einops import repeat
from torch import nn

from dicetalk.denoise.attention import AttentionContext, CrossAttention, KeyValues
from dicetalk.denoise.conditioning import Conditioning
from dicetalk.denoise.guided import Branch, GuidedUNet
from dicetalk.denoise.unet import UNet


class PlainCrossAttention(CrossAttention):
    """Finds tokens where :class:`CrossAttention` finds keys and values, and projects them in every call."""

    def _attend(
        self,
        hidden: torch.Tensor,
        context: AttentionContext,
        rows: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        size: tuple[int, int] | None = None,
    ) -> torch.Tensor:
        query = self.to_q(hidden)
        clip = rows(context.clip_values[self.layer], context.clip_index)
        attended = self.attention(query, self.to_k(clip), self.to_v(clip), self.heads)
        for i, adapter in enumerate(context.adapters):
            key, value = self.project_adapter(i, rows(adapter.key_values[self.layer][0], adapter.index))
            seen = self.attention(query, key, value, self.heads)
            if size is not None and adapter.mask is not None:
                seen = seen * adapter.mask[size].to(seen)
            attended = attended + adapter.scale * seen
        return self.to_out[0](attended)

    def temporal(self, hidden: torch.Tensor, batch: int, context: AttentionContext) -> torch.Tensor:
        """As :meth:`CrossAttention.temporal`, with the tokens repeated for every pixel."""
        pixels = len(hidden) // batch

        def rows(tokens: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            return repeat(tokens[index].mean(dim=1), "b t d -> (b s) t d", s=pixels)

        return self._attend(hidden, context, rows)


class PlainUNet(UNet):
    """Hands tokens on unprojected."""

    def project_clip(self, clip: torch.Tensor) -> list[torch.Tensor]:
        """The clip tokens themselves, once for each cross-attention."""
        return [clip] * len(self._cross_attentions)

    def project_adapter(self, adapter: int, tokens: torch.Tensor) -> KeyValues:
        """The tokens themselves in place of keys and values, once for each cross-attention."""
        return [(tokens, tokens)] * len(self._cross_attentions)


def plain_unet(unet: UNet) -> PlainUNet:
    """A UNet that shares the weights of `unet` and saves nothing."""
    # Same modules and parameters under classes that override methods only.
    plain = copy.deepcopy(unet, {id(tensor): tensor for tensor in unet.state_dict(keep_vars=True).values()})
    plain.__class__ = PlainUNet
    for module in plain.modules():
        if isinstance(module, CrossAttention):
            module.__class__ = PlainCrossAttention
    assert isinstance(plain, PlainUNet)
    return plain


class PlainGuidedUNet(GuidedUNet):
    """:class:`GuidedUNet` that saves nothing; takes the pose guider beside its arguments."""

    def __init__(
        self, unet: UNet, conditioning: Conditioning, *args: Any, pose_guider: nn.Module | None, **kwargs: Any
    ):
        super().__init__(plain_unet(unet), conditioning, *args, **kwargs)
        self.pose_guider = None if pose_guider is None else pose_guider.to(self.device)
        self.picture_mask = conditioning.mask.to(self.device, self.dtype).expand(-1, 3, -1, -1)

    def _branches(self, step: int) -> list[Branch]:
        p, e = self.portrait_guidance[step], self.expression_guidance[step]
        return [Branch(False, False, 1 - p), Branch(True, False, p - e), Branch(True, True, e)]

    def _pose(self, frames: list[int]) -> torch.Tensor | None:
        if self.pose_guider is None:
            return None
        return self.pose_guider(self.picture_mask.repeat(len(frames), 1, 1, 1))
