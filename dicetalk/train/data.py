"""Batches out of shards.

Batch n of a run is a function of the run's seed, the process and n alone. So nothing about the data has to be saved to
go on in the middle of a run, and the number of reading processes changes nothing.
"""

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from dicetalk.audio.features import STEPS_BEFORE, STEPS_PER_FRAME
from dicetalk.errors import DiceTalkError, PortraitError, SettingError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.train.clip_record import ClipRecord, DatasetError
from dicetalk.train.shards import read_clip

Batch = dict[str, torch.Tensor]
DrawBatch = Callable[[np.random.Generator, int], Batch]
"""Makes batch n of random numbers of its own, ``draw(rng, n)``; n counts the batches of all processes in turn."""

Read = TypeVar("Read")

TRIES = 16
"""So many clips in a row may be unreadable before a run ends."""

_log = logging.getLogger("dicetalk")


@dataclass(frozen=True, eq=False)
class NumberedBatches(Dataset[Batch]):
    """Batches by number.

    Args:
        draw: makes one.
        seed: of the run, and whatever else tells its streams of batches apart.
        process: whose batches; batch n of each of `processes` makes one step, and what takes turns takes them over
            all of these.
        processes: how many there are.
    """

    draw: DrawBatch
    seed: tuple[int, ...]
    process: int = 0
    processes: int = 1

    def __getitem__(self, number: int) -> Batch:
        return self.draw(np.random.default_rng([*self.seed, number]), number * self.processes + self.process)


@dataclass(frozen=True)
class Failed:
    """Placeholder for a batch that could not be made."""

    reason: str


@dataclass(frozen=True, eq=False)
class CheckedBatches(Dataset[Batch | Failed]):
    """`batches` for a reading process, out of which torch lets no error come without a trace around it."""

    batches: NumberedBatches

    def __getitem__(self, number: int) -> Batch | Failed:
        try:
            return self.batches[number]
        except DiceTalkError as error:
            return Failed(str(error))


def readable(choices: Iterator[ClipRecord], read: Callable[[ClipRecord], Read]) -> Read:
    """Read the first of `choices`; one that cannot be read is skipped with a warning, and the next is taken.

    Raises:
        DatasetError: too many in a row cannot be read, or all that there are.
    """
    failed = 0
    for record in itertools.islice(choices, TRIES):
        try:
            return read(record)
        except (DatasetError, PortraitError) as error:
            _log.warning("Clip %s is skipped: %s", record.id, error)
            failed, last = failed + 1, error
    raise DatasetError(f"{failed} clip{'s' * (failed > 1)} in a row could not be read, at last: {last}")


@dataclass(frozen=True)
class ClipPart:
    """A part of a clip for the embedder: `visual` ``(N, d)``, `audio` ``(4 N, layers * channels)``.

    `seen` is false where the clip has no expression coefficients, and zeros stand for them.
    """

    visual: torch.Tensor
    audio: torch.Tensor
    seen: bool


def read_part(record: ClipRecord, visual_dim: int, frames: int, rng: np.random.Generator) -> ClipPart:
    """A random part of a clip, `frames` long or as long as the clip."""
    frames = min(frames, record.frames)
    start = int(rng.integers(record.frames - frames + 1))
    seen = "coefficients" in record.shapes
    names = ["whisper", "coefficients"] if seen else ["whisper"]
    read = read_clip(record, names, start=start, stop=start + frames)
    visual = read["coefficients"].float() if seen else torch.zeros(frames, visual_dim)
    audio = read["whisper"][STEPS_BEFORE : STEPS_BEFORE + STEPS_PER_FRAME * frames].float().flatten(1)
    return ClipPart(visual, audio, seen)


def stack_parts(parts: Sequence[ClipPart]) -> Batch:
    """`parts` padded to the longest, with their lengths."""
    lengths = torch.tensor([len(part.visual) for part in parts])
    return {
        "visual": pad_sequence([part.visual for part in parts], batch_first=True),
        "audio": pad_sequence([part.audio for part in parts], batch_first=True),
        "visual_lengths": lengths,
        "audio_lengths": STEPS_PER_FRAME * lengths,
        "seen": torch.tensor([part.seen for part in parts]),
    }


def check_sizes(records: Sequence[ClipRecord], visual_dim: int, audio_dim: int) -> None:
    """Compare an embedder's inputs with the shards.

    Raises:
        SettingError: they differ.
    """
    for record in records:
        coefficients = record.shapes.get("coefficients", (0, visual_dim))[1]
        states = int(np.prod(record.shapes["whisper"][1:]))
        for what, name, stored, expected in (
            ("expression coefficients", "visual_dim", coefficients, visual_dim),
            ("Whisper numbers a step", "audio_dim", states, audio_dim),
        ):
            if stored != expected:
                raise SettingError(
                    f"Clip {record.id} in {record.path} has {stored} {what}; the embedder's {name} is {expected}."
                )


def with_expressions(records: list[ClipRecord], audio_only: bool, hooks: Hooks = SILENT) -> list[ClipRecord]:
    """The clips as an embedder reads them: of `audio_only` without expression coefficients, where there are any.

    Args:
        records: of all splits.
        audio_only: see :class:`dicetalk.train.config.EmbedderTraining`.
        hooks: notice of how many clips have none.

    Raises:
        SettingError: no clip for training has any.
    """
    if audio_only:
        kept = [{name: shape for name, shape in r.shapes.items() if name != "coefficients"} for r in records]
        return [replace(record, shapes=shapes) for record, shapes in zip(records, kept, strict=True)]
    seen = [record for record in records if "coefficients" in record.shapes]
    if not any(record.labels.split == "train" for record in seen):
        raise SettingError(
            f"None of the clips for training in {records[0].path.parent} has expression coefficients, so no face would "
            "be seen. Make them with `dicetalk prepare --landmarker face_landmarker.task`, or set audio_only: true, "
            "which learns from speech alone."
        )
    if len(seen) < len(records):
        hooks.notice(
            f"{len(records) - len(seen)} of {len(records)} clips have no expression coefficients; they are heard only."
        )
    return records
