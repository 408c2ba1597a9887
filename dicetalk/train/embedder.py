"""Training of the emotion embedder (paper 3.1, eq. 2-8), and its batches: identities times emotions times clips."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dicetalk.checkpoints.single import save_embedder
from dicetalk.emotion.embedder import EmbedderConfig, EmotionEmbedder
from dicetalk.emotion.prior import PRESET_NAMES, read_prior_npy
from dicetalk.errors import SettingError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.train.clip_record import ClipRecord, DatasetError
from dicetalk.train.config import EmbedderTraining
from dicetalk.train.data import TRIES, Batch, ClipPart, check_sizes, read_part, readable, stack_parts, with_expressions
from dicetalk.train.initial import seeded
from dicetalk.train.loop import PlainTask, make_accelerator, process_hooks, run_training
from dicetalk.train.losses import UNLABELLED, anchor_loss, drop_modalities, group_ids, info_nce
from dicetalk.train.shards import list_clips, splits

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

    anchors: torch.Tensor | None

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


def group_key(record: ClipRecord, intensity_apart: bool = False) -> Hashable:
    """Key that positives of each other share: identity and emotion (paper 3.1), or else the video.

    With `intensity_apart` an emotion at another intensity is another group, as it is another class for the released
    classifier with its 22.
    """
    labels = record.labels
    if labels.emotion is None:
        return labels.video
    return (labels.identity, labels.emotion, labels.intensity) if intensity_apart else (labels.identity, labels.emotion)


def preset_label(record: ClipRecord) -> int:
    """Number of the clip's emotion among the presets."""
    emotion = record.labels.emotion
    return UNLABELLED if emotion is None else PRESET_NAMES.index(emotion)


@dataclass(frozen=True)
class EmbedderBatches:
    """Draws batches of identities x emotions x clips.

    Args:
        records: of one split.
        visual_dim: expression coefficients of a frame.
        identities: in a batch, if there are as many.
        emotions: of each identity, if it has as many.
        clips: of each emotion; where there are fewer, a clip comes again with another part.
        frames: shortest and longest part.
        intensity_apart: see :func:`group_key`.
    """

    records: Sequence[ClipRecord]
    visual_dim: int
    identities: int
    emotions: int
    clips: int
    frames: tuple[int, int]
    intensity_apart: bool = False
    _tree: list[list[list[ClipRecord]]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tree: dict[str, dict[Hashable, list[ClipRecord]]] = {}
        for record in self.records:
            tree.setdefault(record.labels.identity, {}).setdefault(self._key(record), []).append(record)
        object.__setattr__(self, "_tree", [list(groups.values()) for groups in tree.values()])

    def __call__(self, rng: np.random.Generator, number: int) -> Batch:
        """`visual`, `audio` and their lengths, `seen`, `groups` and `labels`."""
        parts, keys, labels = [], [], []
        missed = 0
        for who in rng.permutation(len(self._tree))[: self.identities]:
            groups = self._tree[who]
            taken = 0
            for group in (groups[place] for place in rng.permutation(len(groups))):
                if taken == self.emotions:
                    break
                try:
                    read = self._read_group(group, rng)
                except DatasetError as error:  # every clip of it has been named
                    missed, last = missed + 1, error
                    if missed == TRIES:
                        raise
                    continue
                taken, missed = taken + 1, 0
                parts += read
                keys += [self._key(group[0])] * len(read)
                labels += [preset_label(group[0])] * len(read)
        if not parts:
            raise DatasetError(f"No clip of the people that a batch was drawn of can be read: {last}")
        return stack_parts(parts) | {"groups": group_ids(keys), "labels": torch.tensor(labels)}

    def _key(self, record: ClipRecord) -> Hashable:
        return group_key(record, self.intensity_apart)

    def _read_group(self, group: list[ClipRecord], rng: np.random.Generator) -> list[ClipPart]:
        order = rng.permutation(len(group))
        parts = []
        for turn in range(self.clips):
            frames = int(rng.integers(self.frames[0], self.frames[1] + 1))
            choices = (group[order[(turn + step) % len(group)]] for step in range(len(group)))
            parts.append(readable(choices, partial(read_part, visual_dim=self.visual_dim, frames=frames, rng=rng)))
        return parts


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
        """The batch with the noise of eq. 6, and with a modality left out of some clips."""
        batch = dict(batch)
        seen = batch.pop("seen")
        drop = drop_modalities(len(seen), generator, self.config.modality_dropout).to(seen.device)
        no_audio = drop[:, 1] & seen  # without a face as well, nothing would be left
        batch["visual"] = batch["visual"].masked_fill(drop[:, :1, None], 0)
        batch["audio"] = batch["audio"].masked_fill(no_audio[:, None, None], 0)
        eps = torch.randn(len(seen), self.config.embedder.dim, generator=generator)
        return batch | {"eps": eps.to(seen.device)}

    def export(self, folder: Path) -> list[Path]:
        """Write the embedder."""
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
