"""Batches out of shards.

Batch n of a run is a function of the run's seed, the process and n alone. So nothing about the data has to be saved to
go on in the middle of a run, and the number of reading processes changes nothing.
"""

import itertools
import logging
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from dicetalk.audio.features import STEPS_BEFORE, STEPS_PER_FRAME, frame_windows
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.errors import DiceTalkError, PortraitError, SettingError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.portrait.faces import FaceBox
from dicetalk.portrait.prepare import face_mask, to_clip_pixels
from dicetalk.train.latents import LatentStore
from dicetalk.train.losses import UNLABELLED, group_ids, place_weights
from dicetalk.train.shards import ClipRecord, DatasetError, read_clip

Batch = dict[str, torch.Tensor]
DrawBatch = Callable[[np.random.Generator, int], Batch]
"""Makes batch n of random numbers of its own, ``draw(rng, n)``; n counts the batches of all processes in turn."""

Read = TypeVar("Read")

NEUTRAL = PRESET_NAMES.index("neutral")
ORDINARY = (None, PRESET_NAMES[NEUTRAL])
"""Emotions of clips that are not emotional: unknown, or none."""

MASK_SCALE = 1.1
"""Size of the face mask relative to the face box, as for the portrait."""

TRIES = 16
"""So many clips in a row may be unreadable before a run ends."""

_log = logging.getLogger("dicetalk")


@dataclass(frozen=True, eq=False)
class NumberedBatches(Dataset):
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
    """What is there in place of a batch that could not be made."""

    reason: str


@dataclass(frozen=True, eq=False)
class ToldBatches(Dataset):
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
class Part:
    """A part of a clip for the embedder: `visual` ``(N, d)``, `audio` ``(4 N, layers * channels)``; `seen` is false
    where the clip has no expression coefficients, and zeros stand for them."""

    visual: torch.Tensor
    audio: torch.Tensor
    seen: bool


def read_part(record: ClipRecord, visual_dim: int, frames: int, rng: np.random.Generator) -> Part:
    """A random part of a clip, `frames` long or as long as the clip."""
    frames = min(frames, record.frames)
    start = int(rng.integers(record.frames - frames + 1))
    seen = "coefficients" in record.shapes
    names = ["whisper", "coefficients"] if seen else ["whisper"]
    read = read_clip(record, names, start=start, stop=start + frames)
    visual = read["coefficients"].float() if seen else torch.zeros(frames, visual_dim)
    audio = read["whisper"][STEPS_BEFORE : STEPS_BEFORE + STEPS_PER_FRAME * frames].float().flatten(1)
    return Part(visual, audio, seen)


def stack_parts(parts: Sequence[Part]) -> Batch:
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
        hooks: told how many clips have none.

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

    def _read_group(self, group: list[ClipRecord], rng: np.random.Generator) -> list[Part]:
        order = rng.permutation(len(group))
        parts = []
        for turn in range(self.clips):
            frames = int(rng.integers(self.frames[0], self.frames[1] + 1))
            choices = (group[order[(turn + step) % len(group)]] for step in range(len(group)))
            parts.append(readable(choices, lambda record, n=frames: read_part(record, self.visual_dim, n, rng)))
        return parts


def _drawn(records: Sequence[ClipRecord], rng: np.random.Generator) -> Iterator[ClipRecord]:
    """Any of `records`, again and again."""
    while True:
        yield records[rng.integers(len(records))]


def emotion_levels(classes: int) -> int:
    """Intensities that a classifier of so many classes tells apart: seven emotions at each, and neutral.

    Raises:
        SettingError: there is no such number.
    """
    levels, rest = divmod(classes - 1, len(PRESET_NAMES) - 1)
    if rest or levels < 1:
        raise SettingError(
            f"The emotion classifier has {classes} classes; expected 1 + 7 * levels: 8, or 22 for three intensities."
        )
    return levels


def emotion_class(emotion: str | None, intensity: float | None, levels: int) -> int:
    """The classifier's number of an emotion: 0 is neutral, then each other preset's levels, weakest first.

    Without a known emotion, or a known intensity where there are several levels, it is
    :data:`dicetalk.train.losses.UNLABELLED`.
    """
    if emotion is None:
        return UNLABELLED
    place = PRESET_NAMES.index(emotion)
    if place == NEUTRAL:
        return 0
    if levels > 1 and intensity is None:
        return UNLABELLED
    level = 0 if levels == 1 else min(max(int(np.ceil(intensity * levels)) - 1, 0), levels - 1)
    return 1 + (place - 1) * levels + level


def emotion_mix(emotion: str | None, intensity: float | None) -> torch.Tensor:
    """Weights of the eight presets that ask for an emotion, ``(8,)``; zeros if it is not known how strong it is."""
    weights = torch.zeros(len(PRESET_NAMES))
    if emotion is not None and (emotion == PRESET_NAMES[NEUTRAL] or intensity is not None):
        strength = 1.0 if emotion == PRESET_NAMES[NEUTRAL] else intensity
        weights[NEUTRAL] = 1 - strength
        weights[PRESET_NAMES.index(emotion)] += strength
    return weights


def strong_enough(record: ClipRecord, weakest: float) -> bool:
    """Whether a clip shows an emotion of at least that intensity; one that nobody has told counts as full."""
    labels = record.labels
    return not is_ordinary(record) and weakest <= (1.0 if labels.intensity is None else labels.intensity)


def is_ordinary(record: ClipRecord) -> bool:
    """Whether a clip is neutral or of unknown emotion."""
    return record.labels.emotion in ORDINARY


def may_be_drawn(record: ClipRecord, weakest: float) -> bool:
    """Whether :class:`DiffusionBatches` draw a clip at all."""
    return is_ordinary(record) or strong_enough(record, weakest)


@dataclass(frozen=True)
class DiffusionBatches:
    """Draws batches of clips, emotional and ordinary (neutral or of unknown emotion) ones (paper 4.1: in turn).

    Args:
        records: of one split, none shorter than `window`, of which some :func:`may_be_drawn`.
        latents: of every one of them.
        batch_size: clips of a batch.
        window: frames of a clip.
        prior_frames: most frames of the part whose emotion is embedded.
        visual_dim: expression coefficients of a frame.
        clip_size: side of the image encoder's picture.
        classes: of the emotion classifier.
        face_weight: of the face in the denoising loss, see :func:`dicetalk.train.losses.place_weights`.
        mouth_weight: likewise, of the mouth.
        weakest: intensity of the weakest emotional clips that are drawn.
        ordinary_share: part of the clips that are ordinary, those among them whose emotion changes; all are if no other
            clip is there, and none if none of them is.
    """

    records: Sequence[ClipRecord]
    latents: LatentStore
    batch_size: int
    window: int
    prior_frames: int
    visual_dim: int
    clip_size: int
    classes: int
    face_weight: float = 1.0
    mouth_weight: float = 1.0
    weakest: float = 0.0
    ordinary_share: float = 0.5

    def __post_init__(self) -> None:
        emotional = [r for r in self.records if strong_enough(r, self.weakest)]
        ordinary = [r for r in self.records if is_ordinary(r)]
        object.__setattr__(self, "_kinds", (emotional or ordinary, ordinary or emotional))

    def __call__(self, rng: np.random.Generator, number: int) -> Batch:
        """What :class:`dicetalk.train.diffusion.DiffusionTask` needs of each clip; shapes start with ``batch_size``.

        `latents` ``(window, 4, h, w)`` and `image_latents` ``(4, h, w)``, both unscaled, the latter of the clip's
        portrait or, if it has none, of any of its frames; `clip_pixels` ``(3, size, size)`` of the same; `mask`
        ``(1, H, W)``; `weights` of places in the loss ``(1, 1, h, w)``; `windows` of Whisper's states
        ``(window, 10, layers, channels)``; `classes`; the `mix` of the presets ``(window, 8)``, zeros if it is not
        known, and whether it is `changing`; and a part of the clip as for the embedder.
        """
        clips, parts = [], []
        for place in range(self.batch_size):
            drawn = number * self.batch_size + place
            kind = self._kinds[math.floor((drawn + 1) * self.ordinary_share) - math.floor(drawn * self.ordinary_share)]
            clip, part = readable(_drawn(kind, rng), lambda r: self._read(r, rng))
            clips.append(clip)
            parts.append(part)
        return stack_parts(parts) | {name: torch.stack([clip[name] for clip in clips]) for name in clips[0]}

    def _read(self, record: ClipRecord, rng: np.random.Generator) -> tuple[Batch, Part]:
        start = int(rng.integers(record.frames - self.window + 1))
        speech = read_clip(record, ["whisper", "box"], start=start, stop=start + self.window)
        picture, image_latents = self._portrait(record, rng)
        height, width = picture.shape[:2]
        mask = face_mask(FaceBox(*speech["box"].tolist()), (0, 0, width, height), MASK_SCALE)
        labels = record.labels
        clip = {
            "latents": self.latents.read(record, start, start + self.window),
            "image_latents": image_latents,
            "clip_pixels": to_clip_pixels(picture, self.clip_size),
            "mask": torch.from_numpy(mask)[None].float() / 255,
            "windows": frame_windows(speech["whisper"].float()).contiguous(),
            "weights": place_weights(
                speech["box"], (height, width), tuple(image_latents.shape[1:]), self.face_weight, self.mouth_weight
            ),
            "mix": self._mix(record, start),
            "changing": torch.tensor("mix" in record.shapes),
            "classes": torch.tensor(emotion_class(labels.emotion, labels.intensity, emotion_levels(self.classes))),
        }
        return clip, read_part(record, self.visual_dim, self.prior_frames, rng)

    def _mix(self, record: ClipRecord, start: int) -> torch.Tensor:
        if "mix" in record.shapes:
            return read_clip(record, ["mix"], start=start, stop=start + self.window)["mix"].float()
        return emotion_mix(record.labels.emotion, record.labels.intensity).expand(self.window, -1)

    def _portrait(self, record: ClipRecord, rng: np.random.Generator) -> tuple[np.ndarray, torch.Tensor]:
        if "portrait" in record.shapes:
            return read_clip(record, ["portrait"])["portrait"].numpy(), self.latents.read_portrait(record)
        place = int(rng.integers(record.frames))
        (picture,) = read_clip(record, ["frames"], start=place, stop=place + 1)["frames"].numpy()
        return picture, self.latents.read(record, place, place + 1)[0]
