"""Information in the embedder's priors of unseen people and sentences: emotion (paper, table 5) and identity."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dicetalk.checkpoints.load import DiceModel
from dicetalk.drawn.clips import UNSEEN_SIZE, make_clip
from dicetalk.drawn.evaluate.generate import embed_clip
from dicetalk.drawn.voices import sentences
from dicetalk.emotion.embedder import PriorDistribution
from dicetalk.emotion.prior import PRESET_NAMES, EmotionPrior
from dicetalk.evaluate.clustering import clustering_strength, nearest_mean_accuracy
from dicetalk.evaluate.table import Row
from dicetalk.hooks import SILENT, Hooks
from dicetalk.residency import CPU, Residency

MODALITIES = {"audio": (False, True), "video": (True, False), "video and audio": (True, True)}
"""Whether the embedder sees and hears."""


@dataclass(frozen=True)
class Embedded:
    """Priors of clips.

    Args:
        priors: of all clips by modality, each ``(n, dim)``.
        emotions: what is shown, int64 ``(n,)``.
        identities: by whom, int64 ``(n,)``.
        takes: which of the clips of one person and emotion it is, int64 ``(n,)``; each has a sentence of its own.
    """

    priors: dict[str, PriorDistribution]
    emotions: torch.Tensor
    identities: torch.Tensor
    takes: torch.Tensor


def embed_people(
    model: DiceModel, people: Sequence[int], takes: int, *, residency: Residency = CPU, hooks: Hooks = SILENT
) -> Embedded:
    """Priors of drawn clips at full intensity.

    Args:
        model: with an embedder.
        people: unseen identities.
        takes: of each person's each emotion, at least 2.
        residency: where networks run.
        hooks: progress of `priors` in clips.

    Raises:
        SpeechError: espeak-ng is missing or fails.
    """
    lines = sentences("test")
    priors: dict[str, list[EmotionPrior]] = {name: [] for name in MODALITIES}
    labels: list[tuple[int, int, int]] = []
    total = len(people) * len(PRESET_NAMES) * takes
    for person in people:
        for number, emotion in enumerate(PRESET_NAMES):
            for take in range(takes):
                hooks.check()
                line = lines[(person + 5 * number + 7 * take) % len(lines)]
                clip = make_clip(person, emotion, 1.0, line, take, size=UNSEEN_SIZE)
                for name, (see, hear) in MODALITIES.items():
                    priors[name].append(embed_clip(model, clip, residency, see=see, hear=hear))
                labels.append((number, person, take))
                hooks.report("priors", len(labels), total)
    stacked = {
        name: PriorDistribution(
            torch.stack([x.mu for x in found]), torch.stack([x.sigma for x in found if x.sigma is not None])
        )
        for name, found in priors.items()
    }
    return Embedded(stacked, *torch.tensor(labels).T)


def clustering(clips: Embedded) -> dict[str, float]:
    """Mean clustering strength over the emotions, by modality; the different emotions of a person are the clusters."""
    return {
        name: float(np.mean(list(clustering_strength(prior.mu, clips.emotions, clips.identities).values())))
        for name, prior in clips.priors.items()
    }


def clustering_rows(strengths: dict[str, float]) -> list[Row]:
    """Each must be above the one before, as in table 5."""
    names = list(MODALITIES)
    bars = [None, *(strengths[name] for name in names[:-1])]
    return [
        Row(f"clustering strength of priors from {name}", strengths[name], bar=bar)
        for name, bar in zip(names, bars, strict=True)
    ]


def person_identified(clips: Embedded, seed: int = 0) -> tuple[float, float]:
    """In which part of clips the nearest person's mean, among clips of the same emotion, is that of their own person.

    The prior is of face and voice, the means are of that person's other takes. Sampling is the paper's remedy against
    people that are carried over by a prior ("w/o emotion prior" in table 4).

    Returns:
        By the mean mu, and by one sample of each (eq. 6).
    """
    prior, who = clips.priors["video and audio"], clips.identities
    kinds = prior.mu, prior.sample(torch.Generator().manual_seed(seed))
    right = []
    for emotion in clips.emotions.unique():
        for take in clips.takes.unique():
            shown, its = clips.emotions == emotion, clips.takes == take
            one, others = shown & its, shown & ~its
            right.append([nearest_mean_accuracy(x[one], who[one], prior.mu[others], who[others]) for x in kinds])
    by_mean, by_sample = np.mean(right, axis=0)
    return float(by_mean), float(by_sample)


def person_rows(shares: tuple[float, float]) -> list[Row]:
    """Rows of the table from :func:`person_identified`."""
    names = "by the prior's mean", "by a sample of it"
    return [Row(f"person identified {name}", value) for name, value in zip(names, shares, strict=True)]
