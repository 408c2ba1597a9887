"""Takes of an evaluation: identities and sentences that no training has seen."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dicetalk.drawn.clips import INTENSITIES
from dicetalk.drawn.evaluate.takes import Take
from dicetalk.drawn.faces.identity import identity_seeds, sample_identity
from dicetalk.drawn.voices import sentences
from dicetalk.emotion.prior import PRESET_NAMES

PEOPLE = 20
"""Unseen identities that generated faces are compared with."""

CHANGES = (("happy", "sad"), ("happy", "neutral", "sad"))
"""One emotion into another straight, and in the same time by way of neutral, as a keyframe between the two makes it."""

LONG_SENTENCES = 3
"""Several windows of 25 frames."""


@dataclass(frozen=True)
class Plan:
    """All takes of an evaluation.

    Args:
        presets: every emotion at full intensity, by the preset priors.
        weaker: some of them again at lower intensities.
        videos: some of them again with a prior out of somebody else's clip.
        changes: one emotion passes into another, straight or by way of a third.
        silent: nobody speaks.
        long: several windows of one emotion.
    """

    presets: Sequence[Take]
    weaker: Sequence[Take] = ()
    videos: Sequence[Take] = ()
    changes: Sequence[Take] = ()
    silent: Sequence[Take] = ()
    long: Sequence[Take] = ()

    @property
    def takes(self) -> list[Take]:
        """All of them."""
        return [*self.presets, *self.weaker, *self.videos, *self.changes, *self.silent, *self.long]


def unseen_people() -> list[int]:
    """The identities of an evaluation."""
    return list(identity_seeds("test")[:PEOPLE])


def full_plan(per_emotion: int, videos: bool) -> Plan:
    """Every measure.

    Args:
        per_emotion: clips of each emotion at full intensity; the people and the sentences take turns.
        videos: whether to take priors out of clips as well, which needs an embedder.
    """
    people, lines = unseen_people(), sentences("test")
    count = per_emotion * len(PRESET_NAMES)
    presets = [
        Take(
            people[number % PEOPLE],
            (PRESET_NAMES[number % len(PRESET_NAMES)],),
            1.0,
            (lines[number % len(lines)],),
            seed=number,
        )
        for number in range(count)
    ]
    first = presets[: len(PRESET_NAMES)]
    weaker = [
        replace(take, intensity=level)
        for take in first
        if take.emotions != ("neutral",)
        for level in INTENSITIES
        if level < 1
    ]
    last = presets[-len(PRESET_NAMES) :]
    changes = [_longer(take, way, lines, 2) for way in CHANGES for take in presets[:2]]
    silent = [replace(take, sentences=()) for take in (presets[0], presets[3])]
    long = [_longer(take, take.emotions, lines, LONG_SENTENCES) for take in presets[4:6]]
    return Plan(presets, weaker, [_by_another(take) for take in last] if videos else [], changes, silent, long)


def quick_plan(per_emotion: int = 1, videos: bool = False) -> Plan:
    """A few clips, for a first look: each emotion, one silent clip.

    Args:
        per_emotion: see :func:`full_plan`.
        videos: whether to take a prior out of a clip for every one of them as well, for :func:`ablation_plan`.
    """
    plan = full_plan(per_emotion, videos=False)
    again = [_by_another(take) for take in plan.presets] if videos else []
    return Plan(plan.presets, videos=again, silent=plan.silent[:1])


def _longer(take: Take, emotions: tuple[str, ...], lines: tuple[str, ...], count: int) -> Take:
    start = lines.index(take.sentences[0])
    said = tuple(lines[(start + i) % len(lines)] for i in range(count))
    return replace(take, emotions=emotions, sentences=said)


def _by_another(take: Take) -> Take:
    """The same with the prior of somebody with the other kind of voice and face, so that any leak would show."""
    high = sample_identity(take.person).high_voice
    others = [person for person in unseen_people() if sample_identity(person).high_voice != high]
    return replace(take, source=others[take.seed % len(others)])


def ablation_plan(plan: Plan) -> Plan:
    """The part of a plan that every model of table 4 is asked for: priors of videos, and the presets beside them."""
    keys = {(take.person, take.seed) for take in plan.videos}
    return Plan([take for take in plan.presets if (take.person, take.seed) in keys], videos=plan.videos)
