"""What the embedder learns from: parts of clips of several people, emotions and sentences, in batches."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.train.data import TRIES, Batch, ClipPart, read_part, readable, stack_parts
from dicetalk.train.losses import UNLABELLED, group_ids
from dicetalk.train.shards import ClipRecord, DatasetError


def group_key(record: ClipRecord, intensity_apart: bool = False) -> Hashable:
    """What clips share that are positives of each other: identity and emotion (paper 3.1), or else the video.

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
            parts.append(readable(choices, lambda record, n=frames: read_part(record, self.visual_dim, n, rng)))
        return parts
