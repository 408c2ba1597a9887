"""The small model's eight priors: the mean over many clips of each emotion (the paper's Ours-P)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dicetalk.emotion.embedder import EmotionEmbedder
from dicetalk.emotion.prior import PRESET_NAMES, EmotionPrior, save_prior
from dicetalk.errors import SettingError
from dicetalk.files import explained
from dicetalk.hooks import SILENT, Hooks
from dicetalk.train.clip_record import ClipRecord
from dicetalk.train.data import read_part


@torch.no_grad()
def mean_priors(
    embedder: EmotionEmbedder, records: Sequence[ClipRecord], hooks: Hooks = SILENT
) -> dict[str, EmotionPrior]:
    """The mean of mu and of the variance over the strongest clips of each emotion, face and speech together.

    Args:
        embedder: trained.
        records: clips; of each emotion those of the highest intensity count.
        hooks: progress of `priors` in emotions.

    Raises:
        SettingError: an emotion has no clip.
        DatasetError: a clip cannot be read.
    """
    priors = {}
    for done, emotion in enumerate(PRESET_NAMES, start=1):
        hooks.check()
        of_emotion = [record for record in records if record.labels.emotion == emotion]
        strongest = max((record.labels.intensity or 0 for record in of_emotion), default=None)
        if strongest is None:
            raise SettingError(f"There is no clip of {emotion}: give more clips.")
        found = [_embed(embedder, r) for r in of_emotion if (r.labels.intensity or 0) == strongest]
        mu, sigma = (torch.stack(values) for values in zip(*found, strict=True))
        priors[emotion] = EmotionPrior(mu.mean(dim=0), sigma.square().mean(dim=0).sqrt(), emotion)
        hooks.report("priors", done, len(PRESET_NAMES))
    return priors


def _embed(embedder: EmotionEmbedder, record: ClipRecord) -> tuple[torch.Tensor, torch.Tensor]:
    part = read_part(record, embedder.config.visual_dim, record.frames, np.random.default_rng(0))
    prior = embedder(part.visual[None], part.audio[None])
    return prior.mu[0], prior.sigma[0]


def save_priors(priors: dict[str, EmotionPrior], folder: Path) -> None:
    """Write each prior to ``NAME.safetensors`` in `folder`, which is made.

    Raises:
        OutputError: a file cannot be written.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for emotion, prior in priors.items():
        save_prior(prior, folder / f"{emotion}.safetensors")
