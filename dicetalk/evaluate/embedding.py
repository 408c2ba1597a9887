"""Clustering strength of the embedder's priors, of unseen people and sentences (paper, table 5)."""

from collections.abc import Sequence

import numpy as np
import torch

from dicetalk.checkpoints.load import DiceModel
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.evaluate.clustering import clustering_strength
from dicetalk.evaluate.generate import embed_clip
from dicetalk.evaluate.table import Row
from dicetalk.hooks import SILENT, Hooks
from dicetalk.residency import CPU, Residency
from dicetalk.train.clips import UNSEEN_SIZE, make_clip
from dicetalk.train.voices import sentences

MODALITIES = {"audio": (False, True), "video": (True, False), "video and audio": (True, True)}
"""Whether the embedder sees and hears."""


def clustering(
    model: DiceModel, people: Sequence[int], takes: int, *, residency: Residency = CPU, hooks: Hooks = SILENT
) -> dict[str, float]:
    """Mean clustering strength over the emotions, by what the embedder is given.

    Args:
        model: with an embedder.
        people: unseen identities; their emotions are the clusters.
        takes: of each person's each emotion, at least 2.
        residency: where networks run.
        hooks: progress of `priors` in clips.

    Raises:
        SpeechError: espeak-ng is missing or fails.
    """
    lines = sentences("test")
    priors: dict[str, list[torch.Tensor]] = {name: [] for name in MODALITIES}
    emotions, identities = [], []
    total = len(people) * len(PRESET_NAMES) * takes
    for person in people:
        for number, emotion in enumerate(PRESET_NAMES):
            for take in range(takes):
                hooks.check()
                line = lines[(person + 5 * number + 7 * take) % len(lines)]
                clip = make_clip(person, emotion, 1.0, line, take, size=UNSEEN_SIZE)
                for name, (see, hear) in MODALITIES.items():
                    priors[name].append(embed_clip(model, clip, residency, see=see, hear=hear).mu)
                emotions.append(number)
                identities.append(person)
                hooks.report("priors", len(emotions), total)
    labels = torch.tensor(emotions), torch.tensor(identities)
    return {
        name: float(np.mean(list(clustering_strength(torch.stack(found), *labels).values())))
        for name, found in priors.items()
    }


def clustering_rows(strengths: dict[str, float]) -> list[Row]:
    """Each must be above the one before, as in table 5."""
    names = list(MODALITIES)
    bars = [None, *(strengths[name] for name in names[:-1])]
    return [
        Row(f"clustering strength of priors from {name}", strengths[name], bar=bar)
        for name, bar in zip(names, bars, strict=True)
    ]
