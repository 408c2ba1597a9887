"""The evaluation: makes every take once, and measures what came of it and of its drawn truth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from dicetalk.drawn.evaluate.judges import Judges
from dicetalk.drawn.evaluate.plan import Plan
from dicetalk.drawn.evaluate.scores import Gallery, Scores, score_shot
from dicetalk.drawn.evaluate.snapshots import draw_snapshots
from dicetalk.drawn.evaluate.takes import Say, Shot, Sound, Take, drawn_shot, spoken
from dicetalk.evaluate.seams import last_borders
from dicetalk.hooks import SILENT, Hooks
from dicetalk.settings import SamplerSettings

Make = Callable[[Take, Sound], Shot]
"""Makes one take with its sound; see :class:`dicetalk.drawn.evaluate.generate.Maker`."""

GALLERY_SEED = 1
GALLERY_SCENES, GALLERY_FACES = 3, 8
"""Scenes of each person in the gallery, and faces in each: other scenes, emotions and poses than in the clips."""


@dataclass(frozen=True, eq=False)
class Pair:
    """What was made of a take, and what would be drawn."""

    made: Shot
    drawn: Shot


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Args:
        plan: what was asked for.
        settings: of the sampler.
        shots: of every take.
        generated: measures of what was made.
        drawn: of what would be drawn.
        gallery: the people that faces were compared with.
    """

    plan: Plan
    settings: SamplerSettings
    shots: Mapping[Take, Pair]
    generated: Scores
    drawn: Scores
    gallery: Gallery


def evaluate(
    make: Make,
    plan: Plan,
    judges: Judges,
    gallery: Gallery,
    settings: SamplerSettings,
    size: int,
    *,
    say: Say = spoken,
    hooks: Hooks = SILENT,
) -> Evaluation:
    """Make and measure every take of a plan.

    Args:
        make: makes takes.
        plan: which ones.
        judges: trained.
        gallery: the people that faces are compared with.
        settings: of the sampler, for the borders of its windows.
        size: side of the pictures in pixels.
        say: speaks for a take.
        hooks: progress of `clips`.

    Raises:
        SpeechError: espeak-ng is missing or fails.
    """
    shots: dict[Take, Pair] = {}
    for number, take in enumerate(plan.takes):
        hooks.check()
        sound = say(take)
        shots[take] = Pair(make(take, sound), drawn_shot(take, sound, size))
        hooks.report("clips", number + 1, len(plan.takes))
    return Evaluation(
        plan,
        settings,
        shots,
        _scores(plan, {take: pair.made for take, pair in shots.items()}, judges, settings),
        _scores(plan, {take: pair.drawn for take, pair in shots.items()}, judges, settings),
        gallery,
    )


def people_gallery(people: Sequence[int], judges: Judges, size: int) -> Gallery:
    """What `people` look like to the judge, at rest, with every emotion and in motion."""
    drawn = draw_snapshots(people, GALLERY_SCENES, GALLERY_FACES, size, GALLERY_SEED)
    return Gallery.of(people, drawn, judges)


def _scores(plan: Plan, shots: Mapping[Take, Shot], judges: Judges, settings: SamplerSettings) -> Scores:
    scored = {take: score_shot(shot, judges, last_borders(settings, len(shot.frames))) for take, shot in shots.items()}
    return Scores(**{part.name: [scored[take] for take in getattr(plan, part.name)] for part in fields(Plan)})
