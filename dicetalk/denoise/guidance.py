"""Three-way classifier-free guidance: nothing, portrait only, portrait with speech and emotion."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Branch:
    """One row of the guidance batch: which conditions it sees and its weight in the sum."""

    portrait: bool
    expression: bool
    weight: float


def guidance_branches(portrait_scale: float, expression_scale: float) -> list[Branch]:
    """Branches of ``v = v0 + portrait_scale * (v1 - v0) + expression_scale * (v2 - v1)`` in the released order.

    Collected by branch that is ``(1 - p) * v0 + (p - e) * v1 + e * v2``; a branch of weight zero is left out.
    """
    branches = [
        Branch(portrait=False, expression=False, weight=1 - portrait_scale),
        Branch(portrait=True, expression=False, weight=portrait_scale - expression_scale),
        Branch(portrait=True, expression=True, weight=expression_scale),
    ]
    return [branch for branch in branches if branch.weight != 0]


def combine(predictions: torch.Tensor, branches: list[Branch]) -> torch.Tensor:
    """Weighted sum of `predictions` ``(branches, ...)`` in float32."""
    weights = torch.tensor([branch.weight for branch in branches], dtype=torch.float32, device=predictions.device)
    return torch.tensordot(weights, predictions.float(), dims=1)
