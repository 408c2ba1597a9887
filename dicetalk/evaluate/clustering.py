"""How well emotion priors cluster by emotion (paper, table 5)."""

import torch

from dicetalk.errors import EmotionError


def clustering_strength(priors: torch.Tensor, emotions: torch.Tensor, identities: torch.Tensor) -> dict[int, float]:
    """``d_inter / d_intra`` of each emotion, with the different emotions of one identity as the clusters.

    Both distances are root mean squares over pairs of clips of one identity: d_intra over pairs of the emotion's clips,
    d_inter over a clip of the emotion and one of another, each other emotion counting alike; identities count alike.
    Taken over pairs, priors that know nothing of emotion score 1 whatever the number of clips.

    Args:
        priors: ``(n, dim)``.
        emotions: int64 ``(n,)``.
        identities: int64 ``(n,)``.

    Returns:
        Strength by emotion. An emotion counts for an identity with two clips of it and one of another emotion. Infinite
        where all its clips coincide; NaN where those of other emotions do too.

    Raises:
        EmotionError: no identity has such clips.
    """
    priors = priors.detach().double().cpu()
    priors = priors - priors.mean(dim=0)
    emotions, identities = emotions.cpu(), identities.cpu()
    pairs: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for identity in identities.unique():
        own = identities == identity
        clusters = {int(e): priors[own & (emotions == e)] for e in emotions[own].unique()}
        means = {e: x.mean(dim=0) for e, x in clusters.items()}
        spreads = {e: (x - means[e]).square().sum(dim=1).mean() for e, x in clusters.items()}
        for e, x in clusters.items():
            others = [o for o in clusters if o != e]
            if len(x) < 2 or not others:
                continue
            # Mean squares over pairs, from means and spreads: no pair need be formed.
            intra = 2 * spreads[e] * len(x) / (len(x) - 1)
            inter = torch.stack([(means[e] - means[o]).square().sum() + spreads[e] + spreads[o] for o in others])
            pairs.setdefault(e, []).append((inter.mean(), intra))
    if not pairs:
        raise EmotionError(
            f"Clustering strength needs an identity with two clips of one emotion and one of another; "
            f"none of the {len(identities.unique())} identities in {len(priors)} clips has them."
        )
    return {
        e: float(torch.stack([inter for inter, _ in found]).sum() / torch.stack([intra for _, intra in found]).sum())
        ** 0.5
        for e, found in sorted(pairs.items())
    }


def nearest_mean_accuracy(
    priors: torch.Tensor, labels: torch.Tensor, reference: torch.Tensor, reference_labels: torch.Tensor
) -> float:
    """Part of `priors` whose nearest class mean, by Euclidean distance, is that of their own label.

    Args:
        priors: ``(n, dim)``.
        labels: int64 ``(n,)``.
        reference: clips that make the class means, ``(m, dim)``; held apart from `priors`, or the same.
        reference_labels: int64 ``(m,)``.
    """
    classes = reference_labels.unique()
    means = torch.stack([reference[reference_labels == c].double().mean(dim=0) for c in classes])
    predicted = classes[torch.cdist(priors.double(), means).argmin(dim=1)]
    return (predicted == labels).double().mean().item()
