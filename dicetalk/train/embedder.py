"""Trains the emotion embedder (paper 3.1, eq. 2-8)."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from dicetalk.checkpoints.embedder import save_embedder
from dicetalk.emotion.embedder import EmbedderConfig, EmotionEmbedder
from dicetalk.emotion.prior import PRESET_NAMES, read_prior_npy
from dicetalk.errors import SettingError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.train.config import EmbedderTraining
from dicetalk.train.data import Batch, check_sizes, with_expressions
from dicetalk.train.embedder_data import EmbedderBatches, group_key
from dicetalk.train.loop import PlainTask, make_accelerator, process_hooks, run_training
from dicetalk.train.losses import anchor_loss, drop_modalities, info_nce
from dicetalk.train.seeds import seeded
from dicetalk.train.shards import ClipRecord, list_clips, splits

EXPORT = "embedder.safetensors"


def train_embedder(config: EmbedderTraining, hooks: Hooks = SILENT) -> list[Path]:
    """Train, or go on training, and write ``embedder.safetensors`` into ``config.out``.

    Raises:
        DiceTalkError: something about the config, the data or the disk; see :func:`dicetalk.train.loop.run_training`.
    """
    accelerator = make_accelerator(config.loop)
    hooks = process_hooks(accelerator, hooks)
    records = with_expressions(list_clips(config.data, hooks=hooks), config.audio_only, hooks)
    task = EmbedderTask(config, records)
    return run_training(task, config.loop, config.out, accelerator, hooks)


class EmbedderObjective(nn.Module):
    """The embedder with its losses: contrastive (eq. 7-8), and the pull to anchors if there are any.

    Anchors that lie as close together as the released priors leave raw cosine similarity nothing to tell emotions by,
    so priors are compared by their differences to the anchors' mean.

    Args:
        embedder: to train.
        temperature: tau.
        anchors: ``(8, dim)`` in the order of the presets, or none.
        anchor_weight: of the pull.
    """

    def __init__(
        self, embedder: EmotionEmbedder, temperature: float, anchors: torch.Tensor | None, anchor_weight: float
    ):
        super().__init__()
        self.embedder = embedder
        self.temperature, self.anchor_weight = temperature, anchor_weight
        self.register_buffer("anchors", anchors, persistent=False)

    def forward(
        self,
        visual: torch.Tensor,
        audio: torch.Tensor,
        visual_lengths: torch.Tensor,
        audio_lengths: torch.Tensor,
        eps: torch.Tensor,
        groups: torch.Tensor,
        labels: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Losses of a batch; `eps` ``(B, dim)`` is the noise of eq. 6."""
        prior = self.embedder(visual, audio, visual_lengths, audio_lengths)
        sample = prior.mu + prior.sigma * eps
        if self.anchors is None:
            contrast = info_nce(sample, groups, self.temperature)
            return {"loss": contrast, "contrast": contrast, "sigma": prior.sigma.mean()}
        contrast = info_nce(sample - self.anchors.mean(dim=0), groups, self.temperature)
        pull = anchor_loss(prior.mu, labels, self.anchors)
        loss = contrast + self.anchor_weight * pull
        return {"loss": loss, "contrast": contrast, "anchor": pull, "sigma": prior.sigma.mean()}


class EmbedderTask(PlainTask):
    """See :class:`dicetalk.train.loop.Task`.

    Args:
        config: of the training.
        records: clips of all splits; ``val`` validates.

    Raises:
        SettingError: the shards and the sizes disagree, there are too few clips, or the anchors do not fit.
        EmotionError: an anchor cannot be read.
    """

    def __init__(self, config: EmbedderTraining, records: list[ClipRecord]):
        self.config = config
        check_sizes(records, config.embedder.visual_dim, config.embedder.audio_dim)
        parts = splits(records)
        if self._groups(parts["train"]) < 2:
            raise SettingError(
                f"{config.data} has fewer than two pairs of identity and emotion to train with; there is no contrast."
            )
        anchors = None if config.anchors is None else read_anchors(config.anchors, config.embedder.dim)
        self.module = EmbedderObjective(
            build_embedder(config.embedder, config.loop.seed), config.temperature, anchors, config.anchor_weight
        )
        self.batches = {"train": self._batches(parts["train"])}
        if self._groups(parts["val"]) > 1:
            self.batches["validation"] = self._batches(parts["val"])

    def _groups(self, records: list[ClipRecord]) -> int:
        return len({group_key(record, self.config.intensity_apart) for record in records})

    def _batches(self, records: list[ClipRecord]) -> EmbedderBatches:
        config = self.config
        return EmbedderBatches(
            records,
            config.embedder.visual_dim,
            config.identities,
            config.emotions,
            config.clips,
            (config.shortest, config.longest),
            config.intensity_apart,
        )

    def inputs(self, batch: Batch, generator: torch.Generator) -> dict[str, Any]:
        batch = dict(batch)
        seen = batch.pop("seen")
        drop = drop_modalities(len(seen), generator, self.config.modality_dropout).to(seen.device)
        no_audio = drop[:, 1] & seen  # without a face as well, nothing would be left
        batch["visual"] = batch["visual"].masked_fill(drop[:, :1, None], 0)
        batch["audio"] = batch["audio"].masked_fill(no_audio[:, None, None], 0)
        eps = torch.randn(len(seen), self.config.embedder.dim, generator=generator)
        return batch | {"eps": eps.to(seen.device)}

    def export(self, folder: Path) -> list[Path]:
        path = folder / EXPORT
        save_embedder(self.module.embedder, path)
        return [path]


def build_embedder(config: EmbedderConfig, seed: int) -> EmotionEmbedder:
    """An untrained embedder; equal seeds give equal weights, and the global generator is as before."""
    return seeded(lambda: EmotionEmbedder(config), seed)


def read_anchors(folder: Path, dim: int) -> torch.Tensor:
    """The eight released priors, ``(8, dim)`` in the order of the presets.

    Raises:
        SettingError: the embedder's priors have another size.
        EmotionError: one is missing or damaged.
    """
    anchors = torch.stack([read_prior_npy(folder / f"{name}.npy").mu for name in PRESET_NAMES])
    if anchors.shape[1] != dim:
        raise SettingError(f"anchors: priors have {anchors.shape[1]} numbers, the embedder's dim is {dim}.")
    return anchors
