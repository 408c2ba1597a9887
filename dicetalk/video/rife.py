"""RIFE HDv3, the flow network that finds the picture halfway between two frames.

Huang et al., "Real-Time Intermediate Flow Estimation for Video Frame Interpolation", ECCV 2022
(https://arxiv.org/abs/2011.06294). Attribute names are the released state dict's, so that it loads strictly.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURE_STRIDE = 4
"""An :class:`IFBlock` works at a quarter of the size that it is given."""


@dataclass(frozen=True)
class FlowEstimate:
    """Estimate after one block, for B pairs of frames.

    Args:
        flow: (B, 4, H, W), pixels; from the middle frame to the first (x, y) and to the second (x, y).
        fusion: (B, 1, H, W), logit of how much the middle frame takes from the first.
        warped_first: (B, 3, H, W), the first frame moved to the middle.
        warped_second: (B, 3, H, W), the second frame moved to the middle.
    """

    flow: Tensor
    fusion: Tensor
    warped_first: Tensor
    warped_second: Tensor

    @property
    def mask(self) -> Tensor:
        """(B, 1, H, W) in 0..1, the first frame's part of the middle."""
        return torch.sigmoid(self.fusion)

    @property
    def middle(self) -> Tensor:
        """(B, 3, H, W), the fused middle frame (eq. 1 of the paper, without the refinement network)."""
        mask = self.mask
        return self.warped_first * mask + self.warped_second * (1 - mask)


class FlowNet(nn.Module):
    """Intermediate flow from coarse to fine, estimated in both directions of time and averaged.

    Args:
        width: channels of every block; 90 in the release.
    """

    scales = (4, 2, 1)

    def __init__(self, width: int = 90):
        super().__init__()
        frames_and_mask = 3 + 3 + 1
        self.block0 = IFBlock(frames_and_mask, width)
        self.block1 = IFBlock(frames_and_mask, width)
        self.block2 = IFBlock(frames_and_mask, width)
        # The teacher of the paper's privileged distillation also sees the true middle frame. Only training calls it;
        # it is here because the released file holds it.
        self.block_tea = IFBlock(frames_and_mask + 3, width)

    def size_multiple(self, scale: float = 1.0) -> int:
        """The number that divides every height and width that the network takes."""
        return round(FEATURE_STRIDE * max(self.scales) / scale)

    def estimates(self, first: Tensor, second: Tensor, scale: float = 1.0) -> Iterator[FlowEstimate]:
        """Refine the flow block by block, from coarse to fine.

        Args:
            first: (B, 3, H, W) float32 in 0..1; height and width are multiples of :meth:`size_multiple`.
            second: as `first`.
            scale: resolution at which motion is searched; 0.5 suits pictures above 1080p and large motion.

        Yields:
            The state after each block.
        """
        flow = first.new_zeros(len(first), 4, *first.shape[2:])
        fusion = first.new_zeros(len(first), 1, *first.shape[2:])
        warped_first, warped_second = first, second
        for block, factor in zip((self.block0, self.block1, self.block2), self.scales, strict=True):
            forward = torch.cat([warped_first, warped_second, fusion], dim=1)
            backward = torch.cat([warped_second, warped_first, -fusion], dim=1)
            # One call on a double batch: the pair as it is and the pair with time turned round.
            flow_step, fusion_step = block(
                torch.cat([forward, backward]), torch.cat([flow, _turned(flow)]), factor / scale
            )
            forward_flow, backward_flow = flow_step.chunk(2)
            forward_fusion, backward_fusion = fusion_step.chunk(2)
            flow = flow + (forward_flow + _turned(backward_flow)) / 2
            fusion = fusion + (forward_fusion - backward_fusion) / 2
            warped_first = backward_warp(first, flow[:, :2])
            warped_second = backward_warp(second, flow[:, 2:])
            yield FlowEstimate(flow, fusion, warped_first, warped_second)

    def forward(self, first: Tensor, second: Tensor, scale: float = 1.0) -> Tensor:
        """The frames halfway between `first` and `second`; arguments as in :meth:`estimates`.

        Returns:
            (B, 3, H, W), not clamped.
        """
        *_, finest = self.estimates(first, second, scale)
        return finest.middle

    def at(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        """The frames at any moment between `first` and `second`, on the assumption that motion between them is even.

        The network knows the middle only. Its flow is stretched to the moment asked for, fetched from where a pixel
        that is here then stands in the middle, and the nearer frame gains weight in the fusion mask. At 1/2 the result
        is that of :meth:`forward`, but for rounding.

        Args:
            first: as for :meth:`estimates`.
            second: as `first`.
            time: (B,), 0 (the first frame) to 1 (the second), both exclusive.

        Returns:
            (B, 3, H, W), not clamped.
        """
        *_, middle = self.estimates(first, second)
        time = time.to(first)[:, None, None, None]
        to_first, to_second = middle.flow[:, :2], middle.flow[:, 2:]
        known = torch.cat([middle.flow, middle.fusion], dim=1)
        known = backward_warp(known, (0.5 - time) * (to_second - to_first))
        warped_first = backward_warp(first, 2 * time * known[:, :2])
        warped_second = backward_warp(second, 2 * (1 - time) * known[:, 2:4])
        mask = torch.sigmoid(known[:, 4:] + torch.log(1 / time - 1))
        return warped_first * mask + warped_second * (1 - mask)


class IFBlock(nn.Module):
    """Residual convolutions at one resolution that correct flow and fusion mask."""

    def __init__(self, in_channels: int, width: int):
        super().__init__()
        self.conv0 = nn.Sequential(
            _conv(in_channels + 4, width // 2, stride=2),
            _conv(width // 2, width, stride=2),
        )
        self.convblock0 = nn.Sequential(_conv(width, width), _conv(width, width))
        self.convblock1 = nn.Sequential(_conv(width, width), _conv(width, width))
        self.convblock2 = nn.Sequential(_conv(width, width), _conv(width, width))
        self.convblock3 = nn.Sequential(_conv(width, width), _conv(width, width))
        self.conv1 = _upsampling_head(width, 4)
        self.conv2 = _upsampling_head(width, 1)

    def forward(self, x: Tensor, flow: Tensor, factor: float) -> tuple[Tensor, Tensor]:
        """Work at 1/`factor` of the resolution.

        Args:
            x: (B, C, H, W), pictures and mask.
            flow: (B, 4, H, W), pixels of the full resolution.
            factor: how much smaller the block's input is.

        Returns:
            Corrections of the flow (B, 4, H, W) and of the fusion logit (B, 1, H, W).
        """
        x = _resize(x, 1 / factor)
        flow = _resize(flow, 1 / factor) / factor
        features = self.conv0(torch.cat([x, flow], dim=1))
        for block in (self.convblock0, self.convblock1, self.convblock2, self.convblock3):
            features = block(features) + features
        return _resize(self.conv1(features), factor) * factor, _resize(self.conv2(features), factor)


def backward_warp(picture: Tensor, flow: Tensor) -> Tensor:
    """Fetch every pixel from where `flow` points to; what lies outside is the picture's border.

    Args:
        picture: (B, C, H, W).
        flow: (B, 2, H, W), x and y in pixels.

    Returns:
        (B, C, H, W), bilinear.
    """
    height, width = picture.shape[2:]
    x = torch.linspace(-1, 1, width, device=flow.device, dtype=flow.dtype)
    y = torch.linspace(-1, 1, height, device=flow.device, dtype=flow.dtype)
    # grid_sample counts from -1 at the first pixel's centre to 1 at the last one's.
    grid = torch.stack([x + flow[:, 0] * 2 / (width - 1), y[:, None] + flow[:, 1] * 2 / (height - 1)], dim=-1)
    return F.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _turned(flow: Tensor) -> Tensor:
    """The same flow with time running backwards: to the second frame first."""
    return flow.roll(2, dims=1)


def _resize(x: Tensor, factor: float) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def _conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, stride, padding=1), nn.PReLU(out_channels))


def _upsampling_head(width: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1),
        nn.PReLU(width // 2),
        nn.ConvTranspose2d(width // 2, out_channels, 4, stride=2, padding=1),
    )
