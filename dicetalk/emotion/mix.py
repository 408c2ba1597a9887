"""Mixing emotion priors and setting their intensity.

The released priors lie close together (pairwise cosine 0.91 to 0.99), so what tells emotions apart is the small
difference to neutral. Weights and intensity act on that difference: 0 is neutral, 1 the prior itself, more exaggerates
it. Scaling the raw vector instead would leave the region that the network knows and hardly change the expression.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from dicetalk.emotion.prior import EmotionPrior, find_prior, preset_name
from dicetalk.errors import EmotionError

NEUTRAL = "neutral"
MAX_WEIGHT = 2.0
"""Largest weight and largest intensity; further out the priors leave the region that the network was trained on."""


def parse_weights(spec: str) -> dict[str, float]:
    """Read ``"happy"``, ``"happy:0.8"`` or ``"happy:0.5+sad:0.3"`` as weights by name; a missing weight is 1.

    Raises:
        EmotionError: a part has no name, a weight is no number in 0..2, or an emotion occurs twice, also as an alias.
    """
    weights: dict[str, float] = {}
    for part in spec.split("+"):
        name, colon, number = (text.strip() for text in part.partition(":"))
        if not name:
            raise EmotionError(
                f"Emotion {spec!r}: {part!r} has no name. Write for example happy:0.8 or happy:0.5+sad:0.3."
            )
        name = preset_name(name) or name
        if name in weights:
            raise EmotionError(f"Emotion {spec!r}: {name!r} occurs twice. Give each emotion one weight.")
        try:
            weights[name] = float(number) if colon else 1.0
        except ValueError:
            raise EmotionError(f"Emotion {spec!r}: the weight {number!r} of {name!r} is not a number.") from None
        check_weight(weights[name], f"Emotion {spec!r}: the weight of {name!r}")
    return weights


def check_weight(value: float, what: str) -> None:
    """Raise :class:`EmotionError`, starting with `what`, unless `value` lies in 0..2."""
    if not (math.isfinite(value) and 0 <= value <= MAX_WEIGHT):
        raise EmotionError(f"{what} is {value:g}; expected 0 to {MAX_WEIGHT:g}.")


def mix(weights: Mapping[str, float], priors: Mapping[str, EmotionPrior], intensity: float = 1.0) -> EmotionPrior:
    """Mix priors: ``mu = neutral + intensity * sum_i w_i (mu_i - neutral)``.

    The spread is that of :func:`shared_sigma`.

    Args:
        weights: weight by emotion name, each 0 to 2; no weights at all are neutral.
        priors: priors by name; ``neutral`` must be among them.
        intensity: scales the whole difference to neutral, 0 to 2.

    Raises:
        EmotionError: a name is unknown or occurs twice under two spellings, or a weight or the intensity is out of
            range.
    """
    return mix_all([(weights, intensity)], priors)[0]


def mix_all(
    mixtures: Sequence[tuple[Mapping[str, float], float]], priors: Mapping[str, EmotionPrior]
) -> list[EmotionPrior]:
    """Many mixtures at once, as :func:`mix` makes each: the arithmetic is done once, and equal ones are one prior.

    Args:
        mixtures: weights and intensity of each.
        priors: priors by name; ``neutral`` must be among them.

    Raises:
        EmotionError: as :func:`mix`.
    """
    rows: dict[tuple[object, ...], int] = {}
    distinct: list[tuple[dict[str, float], str]] = []  # shares by the priors' own names, and the mixture's name
    index = []
    for weights, intensity in mixtures:
        key = (intensity, *weights.items())
        if key not in rows:
            rows[key] = len(distinct)
            distinct.append((check_mixture(weights, priors, intensity), _label(weights, intensity)))
        index.append(rows[key])
    neutral = find_prior(NEUTRAL, priors)
    names = list(dict.fromkeys(name for shares, _ in distinct for name in shares))
    if any((priors[name].sigma is None) != (neutral.sigma is None) for name in names) and len(distinct) > 1:
        # Then the spread is known for some mixtures only.
        made = [mix_all([(shares, 1.0)], priors)[0] for shares, _ in distinct]
        return [replace(made[row], name=distinct[row][1]) for row in index]
    columns = {name: torch.tensor([[shares.get(name, 0.0)] for shares, _ in distinct]) for name in names}
    mu = neutral.mu.repeat(len(distinct), 1)
    for name in names:
        mu += columns[name] * (priors[name].mu - neutral.mu)
    sigma = shared_sigma([(columns[name], priors[name].sigma) for name in names], tuple(mu.shape), neutral)
    sigmas: list[torch.Tensor | None] = [None] * len(mu) if sigma is None else [*sigma]
    made = [EmotionPrior(m, s, label) for m, s, (_, label) in zip(mu, sigmas, distinct, strict=True)]
    return [made[row] for row in index]


def check_mixture(
    weights: Mapping[str, float], priors: Mapping[str, EmotionPrior], intensity: float = 1.0
) -> dict[str, float]:
    """Shares, intensity times weight, by the names that `priors` have.

    Raises:
        EmotionError: as :func:`mix`.
    """
    check_weight(intensity, "The intensity")
    shares: dict[str, float] = {}
    for name, weight in weights.items():
        check_weight(weight, f"The weight of emotion {name!r}")
        prior = find_prior(name, priors)
        known = next(key for key, value in priors.items() if value is prior)
        if known in shares:
            raise EmotionError(f"Emotion {name!r} is {known!r}, which has a weight already. Give each emotion one.")
        shares[known] = intensity * weight
    return shares


def _label(weights: Mapping[str, float], intensity: float) -> str:
    return "+".join(f"{name}:{intensity * weight:g}" for name, weight in weights.items()) or NEUTRAL


def shared_sigma(
    shares: Sequence[tuple[torch.Tensor, torch.Tensor | None]], shape: tuple[int, ...], neutral: EmotionPrior
) -> torch.Tensor | None:
    """The spread of T mixtures: the average of the variances that take part, weighted by their share.

    Neutral takes what the weights leave of 1, so a mixture is no sharper than its parts. A neutral of unknown spread
    counts as a point, unless it is all there is; any other of unknown spread makes the result's unknown.

    Args:
        shares: weights ``(T, 1)`` and standard deviations ``(T, D)``, or none, of those that take part.
        shape: ``(T, D)``.
        neutral: the centre.

    Returns:
        Standard deviations ``(T, D)``, or none.
    """
    used = [(weights, sigma) for weights, sigma in shares if weights.any()]
    known = [(weights, sigma) for weights, sigma in used if sigma is not None]
    if len(known) < len(used) or not (used or neutral.sigma is not None):
        return None
    variance, total = torch.zeros(shape), torch.zeros(shape[0], 1)
    for weights, sigma in known:
        variance += weights * sigma.square()
        total += weights
    rest = (1 - total).clamp(min=0)
    if neutral.sigma is not None:
        variance += rest * neutral.sigma.square()
    return (variance / (total + rest)).sqrt()
