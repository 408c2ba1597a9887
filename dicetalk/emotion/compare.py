"""Where emotions lie among the eight presets: what they are made of, how near they come, how strong they are."""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from dicetalk.emotion.bank import EmotionModel, PriorTokens
from dicetalk.emotion.mix import NEUTRAL
from dicetalk.emotion.prior import PRESET_NAMES, EmotionPrior, find_prior
from dicetalk.residency import CPU, Residency

FEELINGS = tuple(name for name in PRESET_NAMES if name != NEUTRAL)
"""The seven presets that are not neutral."""

_SWEEPS = 300


class Comparison(NamedTuple):
    """R priors against the eight presets, in the order of :data:`~dicetalk.emotion.prior.PRESET_NAMES`.

    `cosines` ``(R, 8)`` are those of the priors themselves, which are all near 1 in the release. `directions`
    ``(R, 7)`` are the cosines of the differences to neutral, which tell emotions apart; 0 for neutral itself.
    `distances` ``(R,)`` are the lengths of these differences.
    """

    cosines: torch.Tensor
    directions: torch.Tensor
    distances: torch.Tensor


def differences(priors: Mapping[str, EmotionPrior]) -> tuple[torch.Tensor, torch.Tensor]:
    """Neutral ``(256,)``, and the differences to it of the seven :data:`FEELINGS`, ``(7, 256)``.

    Raises:
        EmotionError: a preset is missing.
    """
    neutral = find_prior(NEUTRAL, priors).mu
    return neutral, torch.stack([find_prior(name, priors).mu - neutral for name in FEELINGS])


def compare(mu: torch.Tensor, priors: Mapping[str, EmotionPrior]) -> Comparison:
    """Compare priors `mu` ``(R, 256)`` with the presets among `priors`.

    Raises:
        EmotionError: a preset is missing.
    """
    presets = torch.stack([find_prior(name, priors).mu for name in PRESET_NAMES])
    neutral, feelings = differences(priors)
    distances = (mu - neutral).norm(dim=1)
    return Comparison(_cosines(mu, presets), _cosines(mu - neutral, feelings), distances)


def preset_weights(mu: torch.Tensor, priors: Mapping[str, EmotionPrior]) -> torch.Tensor:
    """The mixture of presets that comes nearest to each prior: least squares with weights of 0 or more.

    A mixture of presets that :func:`dicetalk.emotion.mix.mix` made gives its own weights back, as long as the seven
    differences to neutral are linearly independent.

    Args:
        mu: ``(R, 256)``.
        priors: the eight presets by name.

    Returns:
        Weights of the seven presets that are not neutral, ``(R, 7)``, in the order of :data:`FEELINGS`.

    Raises:
        EmotionError: a preset is missing.
    """
    neutral, feelings = differences(priors)
    gram = (feelings @ feelings.T).double()
    target = ((mu - neutral) @ feelings.T).double()
    weights = torch.zeros_like(target)
    # Coordinate descent: each sweep solves for one weight at a time, of all priors together.
    for _ in range(_SWEEPS):
        before = weights.clone()
        for i in range(len(gram)):
            rest = target[:, i] - weights @ gram[:, i] + weights[:, i] * gram[i, i]
            weights[:, i] = (rest / gram[i, i].clamp(min=1e-12)).clamp(min=0)
        if (weights - before).abs().max() < 1e-7:
            break
    return weights.float()


@torch.no_grad()
def bank_attention(model: EmotionModel | PriorTokens, mu: torch.Tensor, residency: Residency = CPU) -> torch.Tensor:
    """How much each prior attends to each prototype of the emotion bank (eq. 12-13).

    Args:
        model: the emotion model.
        mu: priors, ``(R, prior_dim)``.
        residency: brings the model onto its device.

    Returns:
        Float32 ``(R, bank_size)`` on the CPU: attention summed over a prototype's tokens, averaged over heads and over
        the prior's tokens. Each row adds up to 1; there are no columns if the model was trained without the bank.
    """
    if isinstance(model, PriorTokens):
        return torch.zeros(len(mu), 0)
    with residency(model) as device:
        priors = mu.to(device, model.emo_linear.proj1.weight.dtype)
        attention = model.attention
        keys = model.bank_context(priors).keys.unflatten(-1, (attention.heads, -1))[0].transpose(0, 1)
        rows = []
        for prior in priors:  # one at a time: 32 x 2048 scores for every head
            queries = attention.fc_q(model.emo_linear(prior[None])).unflatten(-1, (attention.heads, -1))[0]
            scores = queries.transpose(0, 1) @ keys.mT * keys.shape[-1] ** -0.5
            weights = scores.float().softmax(dim=-1).mean(dim=(0, 1))
            rows.append(weights.unflatten(0, (model.codebook.bank_size, -1)).sum(dim=1))
        return torch.stack(rows).cpu()


def entropy_bits(weights: torch.Tensor) -> torch.Tensor:
    """Entropy of each row of `weights` ``(R, n)`` that adds up to 1: 0 for one prototype, ``log2(n)`` for all alike."""
    return -torch.special.xlogy(weights, weights).sum(dim=1) / torch.log(torch.tensor(2.0))


def _cosines(rows: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    unit = [x / x.norm(dim=1, keepdim=True).clamp(min=1e-12) for x in (rows, others)]
    return unit[0] @ unit[1].T
