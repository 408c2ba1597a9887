"""Procedural clips for shards; see :mod:`dicetalk.drawn.clips`."""

import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from dicetalk.audio.speech import SAMPLES_PER_FRAME, load_speech
from dicetalk.drawn.clips import ClipPlan, clip_of, plan_clips, plan_pairs, plan_takes
from dicetalk.drawn.faces.identity import Split
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.errors import SettingError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.train.clip_record import ClipLabels, DatasetError
from dicetalk.train.prepare import clip as clips

DRAWN_SPLITS = ("train", "test")


@dataclass(frozen=True)
class SourcePlan:
    """A clip that is going to be drawn."""

    name: str
    plan: ClipPlan
    split: str


def plan_sources(split: Split, count: int, seed: int = 0) -> list[SourcePlan]:
    """The first `count` clips of a split's plan, see :func:`dicetalk.drawn.clips.plan_clips`.

    Raises:
        DatasetError: `split` is neither ``train`` nor ``test``.
        SettingError: `count` is not positive.
    """
    if split not in DRAWN_SPLITS:
        raise DatasetError(f"Procedural clips are {split!r}: give train or test in place of a data set's folder.")
    if count < 1:
        raise SettingError(f"The number of clips is {count}: give 1 or more.")
    return _sources("drawn", split, seed, itertools.islice(plan_clips(split, seed), count))


def pair_sources(split: Split, people: int, seed: int = 0) -> list[SourcePlan]:
    """Clips of so many `people` in pairs, as :func:`dicetalk.drawn.clips.plan_pairs` says.

    Raises:
        SettingError: `split` is neither ``train`` nor ``test``.
    """
    return _sources("pair", split, seed, plan_pairs(split, seed, people))


def take_sources(split: Split, people: int, seed: int = 0) -> list[SourcePlan]:
    """Short takes of so many `people`, as :func:`dicetalk.drawn.clips.plan_takes` says.

    Raises:
        SettingError: `split` is neither ``train`` nor ``test``.
    """
    return _sources("take", split, seed, plan_takes(split, seed, people))


def _sources(kind: str, split: str, seed: int, plans: Iterable[ClipPlan]) -> list[SourcePlan]:
    return [SourcePlan(f"{kind}-{split}-{seed}-{number:07}", plan, split) for number, plan in enumerate(plans)]


@dataclass(frozen=True)
class DrawnMaker:
    """Draws and hears the clip of a :class:`SourcePlan`; its coefficients and the mouth are the true ones.

    Args:
        listen: hears the speech.
        size: side of the frames in pixels.
    """

    listen: clips.Listen
    size: int

    def __call__(
        self, source: SourcePlan, there: Collection[str] = (), hooks: Hooks = SILENT
    ) -> Iterator[clips.MadeClip]:
        """Draw the clip, if it is not `there`; of a longer one the first 10 s.

        Raises:
            SpeechError: espeak-ng is missing or fails.
        """
        (name,) = clips.part_names(source.name, 1)
        if name in there:
            return
        hooks.check()
        plan = source.plan
        drawn = clip_of(plan, self.size)
        # A silent clip is silent by plan, so nobody needs the notice.
        speech = load_speech((drawn.sound, drawn.sample_rate), hooks=Hooks(notice=lambda _: None))
        frames = min(len(drawn.frames), speech.frames, clips.MAX_FRAMES)
        low = drawn.boxes[:frames, :2].min(axis=0).clip(0, self.size)
        high = (drawn.boxes[:frames, :2] + drawn.boxes[:frames, 2:]).max(axis=0).clip(0, self.size)
        emotion, intensity = (plan.emotion, float(plan.intensity)) if plan.then is None else (None, None)
        labels = ClipLabels(f"drawn-{plan.identity_seed}", emotion, intensity, source.name, source.split)
        yield clips.make(
            name,
            labels,
            drawn.frames[:frames],
            self.listen(speech.samples[: frames * SAMPLES_PER_FRAME]),
            np.concatenate([low, high - low]),
            coefficients=drawn.coefficients[:frames],
            mouth=drawn.mouth[:frames],
            mix=None if plan.then is None else _mix(drawn.weights[:frames]),
            portrait=drawn.portrait,
        )


def _mix(weights: np.ndarray) -> np.ndarray:
    """The weights of an expression, where neutral's is 0, as those of a mix, which are 1 together."""
    mix = weights.copy()
    mix[:, PRESET_NAMES.index("neutral")] = 1 - weights.sum(axis=1)
    return mix
