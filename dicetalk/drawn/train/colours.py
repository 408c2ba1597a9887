"""Opponent colours, and what a small VAE is told about pictures so that it does not learn brightness alone.

Nine tenths of what pixels differ by is brightness. A deep network learns one direction of its data after another, the
largest first (Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks", ICLR
2014), and in the time there is it never came to the difference of green and magenta.
"""

import torch
import torch.nn.functional as F

from dicetalk.train.losses import exactly

OPPONENT = torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]]) / torch.tensor([[3.0], [2], [6]]).sqrt()
"""Brightness, orange less blue, and magenta less green of RGB: rows of a rotation."""

MIDDLE = (0.07, 0.14, 0.02)
SPREAD = (0.67, 0.23, 0.075)
"""Means and standard deviations along :data:`OPPONENT` of drawn pictures in -1..1."""

CELL = 8
"""Pixels across a place of the latents."""

COARSE = 6
"""Channels of :func:`coarse_code`."""

QUARTERS = 6.0
"""Evens out the last three of them with the rest: within eight pixels brightness changes less than between them."""


@exactly
def opponent(pictures: torch.Tensor) -> torch.Tensor:
    """RGB pictures ``(B, 3, H, W)`` along the axes of :data:`OPPONENT`."""
    return torch.einsum("bchw,oc->bohw", pictures, OPPONENT.to(pictures))


def coarse_code(pictures: torch.Tensor) -> torch.Tensor:
    """What any code of pictures should hold: the colour of each place and how brightness changes across it.

    Args:
        pictures: RGB in -1..1, ``(B, 3, H, W)``.

    Returns:
        Mean opponent colours, and the brightness to the right less that to the left, below less above, and along one
        diagonal less along the other, all of about unit deviation, ``(B, 6, H / 8, W / 8)``.
    """
    middle, spread = (torch.tensor(x).to(pictures)[:, None, None] for x in (MIDDLE, SPREAD))
    quarters = F.avg_pool2d((opponent(pictures) - middle) / spread, CELL // 2)
    colours = F.avg_pool2d(quarters, 2)
    a, b, c, d = (quarters[:, :1, y::2, x::2] for y in (0, 1) for x in (0, 1))
    changes = torch.cat([b + d - a - c, c + d - a - b, a + d - b - c], dim=1) / 4  # of the Haar transform
    return torch.cat([colours, QUARTERS * changes], dim=1)
