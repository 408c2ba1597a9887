"""Training data of the diffusion model: parts of clips with their portrait, speech and emotion, in batches."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from dicetalk.audio.features import frame_windows
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.errors import SettingError
from dicetalk.portrait.faces import FaceBox
from dicetalk.portrait.prepare import face_mask, to_clip_pixels
from dicetalk.train.clip_record import ClipRecord
from dicetalk.train.data import Batch, ClipPart, read_part, readable, stack_parts
from dicetalk.train.latents import LatentStore
from dicetalk.train.losses import UNLABELLED, place_weights
from dicetalk.train.shards import read_clip

NEUTRAL = PRESET_NAMES.index("neutral")
ORDINARY = (None, PRESET_NAMES[NEUTRAL])
"""Emotions of clips that are not emotional: unknown, or none."""

MASK_SCALE = 1.1
"""Size of the face mask relative to the face box, as for the portrait."""


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
    if levels == 1:
        return place
    if intensity is None:
        return UNLABELLED
    level = min(max(int(np.ceil(intensity * levels)) - 1, 0), levels - 1)
    return 1 + (place - 1) * levels + level


def emotion_mix(emotion: str | None, intensity: float | None) -> torch.Tensor:
    """Weights of the eight presets that ask for an emotion, ``(8,)``; zeros if it is not known how strong it is."""
    weights = torch.zeros(len(PRESET_NAMES))
    strength = 1.0 if emotion == PRESET_NAMES[NEUTRAL] else intensity
    if emotion is not None and strength is not None:
        weights[NEUTRAL] = 1 - strength
        weights[PRESET_NAMES.index(emotion)] += strength
    return weights


def strong_enough(record: ClipRecord, weakest: float) -> bool:
    """Whether a clip shows an emotion of at least that intensity; an unknown one counts as full."""
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
    _kinds: tuple[Sequence[ClipRecord], Sequence[ClipRecord]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        emotional = [r for r in self.records if strong_enough(r, self.weakest)]
        ordinary = [r for r in self.records if is_ordinary(r)]
        object.__setattr__(self, "_kinds", (emotional or ordinary, ordinary or emotional))

    def __call__(self, rng: np.random.Generator, number: int) -> Batch:
        """Batch for :class:`dicetalk.train.diffusion.DiffusionTask`; shapes start with ``batch_size``.

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

    def _read(self, record: ClipRecord, rng: np.random.Generator) -> tuple[Batch, ClipPart]:
        start = int(rng.integers(record.frames - self.window + 1))
        speech = read_clip(record, ["whisper", "box"], start=start, stop=start + self.window)
        picture, image_latents = self._portrait(record, rng)
        height, width = picture.shape[:2]
        rows, columns = image_latents.shape[1:]
        mask = face_mask(FaceBox(*speech["box"].tolist()), (0, 0, width, height), MASK_SCALE)
        labels = record.labels
        clip = {
            "latents": self.latents.read(record, start, start + self.window),
            "image_latents": image_latents,
            "clip_pixels": to_clip_pixels(picture, self.clip_size),
            "mask": torch.from_numpy(mask)[None].float() / 255,
            "windows": frame_windows(speech["whisper"].float()).contiguous(),
            "weights": place_weights(
                speech["box"], (height, width), (rows, columns), self.face_weight, self.mouth_weight
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


def _drawn(records: Sequence[ClipRecord], rng: np.random.Generator) -> Iterator[ClipRecord]:
    """Any of `records`, again and again."""
    while True:
        yield records[int(rng.integers(len(records)))]
