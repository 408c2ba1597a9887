"""The evaluation: makes every take once, measures it and its drawn truth, and gives all of it as JSON."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from dicetalk.drawn.evaluate.judges import Judges
from dicetalk.drawn.evaluate.measures import change_curve, confusion, same_but_weaker, strengths_by_intensity
from dicetalk.drawn.evaluate.plan import Plan
from dicetalk.drawn.evaluate.scores import Gallery, Scores, ShotScores, score_shot
from dicetalk.drawn.evaluate.snapshots import draw_snapshots
from dicetalk.drawn.evaluate.takes import Say, Shot, Sound, Take, drawn_shot, spoken
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.evaluate.mouth import MAX_LAG, best_lag
from dicetalk.evaluate.seams import last_borders
from dicetalk.evaluate.table import Row
from dicetalk.hooks import SILENT, Hooks
from dicetalk.settings import SamplerSettings

Make = Callable[[Take, Sound], Shot]
"""Makes one take with its sound; see :class:`dicetalk.drawn.evaluate.generate.Maker`."""

GALLERY_SEED = 1
GALLERY_SCENES, GALLERY_FACES = 3, 8
"""Scenes of each person in the gallery, and faces in each: other scenes, emotions and poses than in the clips."""

DIGITS = 4


@dataclass(frozen=True, eq=False)
class Pair:
    """What was made of a take, what would be drawn, and the same drawn again with another chance of sway and blinks."""

    made: Shot
    drawn: Shot
    again: Shot


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
        shots[take] = Pair(make(take, sound), *(drawn_shot(take, sound, size, chance) for chance in (0, 1)))
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


def as_json(evaluation: Evaluation, rows: list[Row]) -> dict[str, Any]:
    """Everything that was measured, plain enough for JSON; what there is no number for is null."""
    scores = evaluation.generated
    return _plain(
        {
            "rows": [vars(row) | {"passed": row.passed} for row in rows],
            "settings": vars(evaluation.settings),
            "emotions": list(PRESET_NAMES),
            "confusion": confusion(scores.presets),
            "strengths_by_intensity": strengths_by_intensity(same_but_weaker(scores)),
            "changes": [
                {"clip": shot.take.name, "asked": asked, "shown": shown}
                for shot in scores.changes
                for asked, shown in [change_curve(shot)]
            ],
            "clips": [_clip(shot, evaluation.gallery) for shot in scores.shots],
        }
    )


def _clip(shot: ShotScores, gallery: Gallery) -> dict[str, Any]:
    clip = {
        "clip": shot.take.name,
        "judged": PRESET_NAMES[shot.judged],
        "strengths": shot.strengths.mean(axis=0),
        "frames_of_the_person": (gallery.nearest(shot.faces) == shot.take.person).mean(),
        "seam": shot.seam,
    }
    if shot.take.sentences:
        clip |= {"mouth_correlation": shot.lags[MAX_LAG], "mouth_lag_frames": best_lag([shot.lags])}
    return clip


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (float, np.floating)):
        return None if math.isnan(value) else round(float(value), DIGITS)
    return value
