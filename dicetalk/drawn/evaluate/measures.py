"""From clips to the rows of the table, and how good the judges are: their accuracy on drawn people they never saw."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from dicetalk.drawn.clips import INTENSITIES
from dicetalk.drawn.evaluate.judge_training import blurred
from dicetalk.drawn.evaluate.judges import Judges, judge_input
from dicetalk.drawn.evaluate.plan import unseen_people
from dicetalk.drawn.evaluate.scores import Gallery, Scores, ShotScores
from dicetalk.drawn.evaluate.snapshots import draw_snapshots
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.evaluate.mouth import MAX_LAG, best_lag, correlation
from dicetalk.evaluate.table import Better, Row

SEED = 2
SCENES, FACES = 2, 8
SOFT = 0.8
"""Blur in pixels of a judge's picture, about as soft as what a small VAE decodes."""


def emotion_accuracy(shots: Sequence[ShotScores]) -> float:
    """Part of the clips that show what was asked for."""
    return float(np.mean([shot.judged == PRESET_NAMES.index(shot.take.emotions[0]) for shot in shots]))


def emotion_score(shots: Sequence[ShotScores]) -> float:
    """Probability that the judge gives to what was asked for, mean over frames and clips."""
    asked = [np.exp(shot.emotions[:, PRESET_NAMES.index(shot.take.emotions[0])]).mean() for shot in shots]
    return float(np.mean(asked))


def confusion(shots: Sequence[ShotScores]) -> np.ndarray:
    """How often each emotion that was asked for (rows) was judged to be each (columns), int ``(8, 8)``."""
    counts = np.zeros((len(PRESET_NAMES),) * 2, int)
    for shot in shots:
        counts[PRESET_NAMES.index(shot.take.emotions[0]), shot.judged] += 1
    return counts


def strengths_by_intensity(shots: Sequence[ShotScores]) -> dict[str, dict[float, float]]:
    """How strongly each emotion is shown at each intensity asked for, of the same person and speech."""
    found: dict[str, dict[float, float]] = {}
    for shot in shots:
        emotion = shot.take.emotions[0]
        found.setdefault(emotion, {})[shot.take.intensity] = shot.strength(PRESET_NAMES.index(emotion))
    return {emotion: dict(sorted(levels.items())) for emotion, levels in found.items() if len(levels) > 1}


def same_but_weaker(scores: Scores) -> list[ShotScores]:
    """The weaker clips and the full ones that they are otherwise equal to."""
    keys = {(shot.take.person, shot.take.seed) for shot in scores.weaker}
    return [*scores.weaker, *(s for s in scores.presets if (s.take.person, s.take.seed) in keys)]


def ordered(strengths: dict[str, dict[float, float]]) -> float:
    """Part of the emotions that are shown the stronger the stronger they were asked for."""
    return float(np.mean([list(levels.values()) == sorted(levels.values()) for levels in strengths.values()]))


def change_curve(shot: ShotScores) -> tuple[np.ndarray, np.ndarray]:
    """The last emotion's strength less the first's, as asked and as shown, each ``(N,)``."""
    first, last = (PRESET_NAMES.index(shot.take.emotions[i]) for i in (0, -1))
    asked, shown = (curve[:, last] - curve[:, first] for curve in (shot.weights, shot.strengths))
    return asked, shown


def change_correlation(shots: Sequence[ShotScores]) -> float:
    """Mean correlation of what is shown with what was asked while one emotion passes into another."""
    return float(np.mean([correlation(*change_curve(shot)) for shot in shots]))


def change_jump(shots: Sequence[ShotScores]) -> float:
    """The largest step of what is shown from one frame to the next, as a part of its range in the clip."""
    shown = [change_curve(shot)[1] for shot in shots]
    return float(max(np.abs(np.diff(curve)).max() / max(np.ptp(curve), 1e-6) for curve in shown))


def nearest_accuracy(shots: Sequence[ShotScores], gallery: Gallery) -> float:
    """Part of all frames whose nearest identity is the one of the portrait."""
    return float(np.mean(np.concatenate([gallery.nearest(shot.faces) == shot.take.person for shot in shots])))


def leakage(videos: Sequence[ShotScores], presets: Sequence[ShotScores], gallery: Gallery) -> float:
    """How far a prior out of somebody else's clip moves the face towards that person, against the preset prior.

    Everything else about the two clips is the same, the noise included. 0: not at all, 1: it becomes that person.
    """
    same = {(shot.take.person, shot.take.seed): shot for shot in presets}
    moved = []
    for shot in videos:
        take = shot.take
        faces = (shot.faces, same[take.person, take.seed].faces)
        there, here = (gallery.towards(each, take.person, take.giver) for each in faces)
        moved.append(there - here)
    return float(np.mean(moved))


def mouth_correlation(shots: Sequence[ShotScores]) -> float:
    """Mean over clips with speech of the correlation between mouth and speech, without lag."""
    return float(np.mean([shot.lags[MAX_LAG] for shot in shots if shot.take.sentences]))


def mouth_lag(shots: Sequence[ShotScores]) -> int:
    """Frames by which mouths are late."""
    return best_lag([shot.lags for shot in shots if shot.take.sentences])


def silent_opening(shots: Sequence[ShotScores]) -> float:
    """Mean opening of the mouth in all frames in which nothing is said."""
    return float(np.concatenate([shot.silent_opening for shot in shots]).mean())


def seams(shots: Sequence[ShotScores]) -> tuple[float, float]:
    """Means of :func:`dicetalk.evaluate.seams.seam_scores` over clips that have a border."""
    found = [shot.seam for shot in shots if shot.seam is not None]
    if not found:
        return math.nan, math.nan
    difference, outside = np.mean(found, axis=0).tolist()
    return difference, outside


def _of_way(measure: Callable[[Sequence[ShotScores]], float], way: tuple[str, ...], scores: Scores) -> float:
    return measure(scores.by(way))


def rows_of(generated: Scores, drawn: Scores, gallery: Gallery) -> list[Row]:
    """Every measure that the clips allow, of what was generated and of what would be drawn."""
    rows = []

    def row(measure: str, of: Callable[[Scores], float], bar: float, better: Better = "higher") -> None:
        rows.append(Row(measure, of(generated), of(drawn), bar, better))

    row("mouth: correlation with the speech", lambda s: mouth_correlation(s.shots), 0.8)
    row("mouth: lag in frames", lambda s: abs(mouth_lag(s.shots)), 1, "lower")
    row("mouth: opening in silence", lambda s: silent_opening(s.shots), 0.15, "lower")
    row("emotion: clips judged as asked, preset priors", lambda s: emotion_accuracy(s.presets), 0.9)
    if generated.videos:
        row("emotion: clips judged as asked, priors of videos", lambda s: emotion_accuracy(s.videos), 0.9)
    if generated.weaker:
        row("emotion: intensities in order", lambda s: ordered(strengths_by_intensity(same_but_weaker(s))), 1.0)
    for way in dict.fromkeys(shot.take.emotions for shot in generated.changes):
        name = " to ".join(way)
        row(f"emotion: {name}, correlation with what was asked", partial(_of_way, change_correlation, way), 0.8)
        row(f"emotion: {name}, largest jump, of its range", partial(_of_way, change_jump, way), 0.5, "lower")
    row("identity: frames nearest to the portrait's person", lambda s: nearest_accuracy(s.shots, gallery), 0.95)
    if generated.videos:
        row("identity: leak of the prior's person", lambda s: leakage(s.videos, s.presets, gallery), 0.1, "lower")
    if any(shot.seam for shot in generated.shots):
        row(
            "seams: frame difference at window borders relative to elsewhere",
            lambda s: seams(s.shots)[0],
            1.25,
            "lower",
        )
        row("seams: borders outside the clip's spread", lambda s: seams(s.shots)[1], 0.25, "lower")
    return rows


@torch.no_grad()
def judge_rows(judges: Judges, gallery: Gallery, size: int) -> list[Row]:
    """Accuracy on single drawn faces, as drawn, and the people again as soft as generated ones."""
    rows = []
    people = unseen_people()
    for level in reversed(INTENSITIES):
        drawn = draw_snapshots(people, SCENES, FACES, size, SEED, level)
        crops = judge_input(drawn.crops)
        for soft in (0.0, SOFT):
            judged, _ = judges.emotions(blurred(crops, soft))
            right = (judged.argmax(dim=1).numpy() == drawn.emotions).mean()
            rows.append(Row(f"judge: emotion of single faces, intensity {level:g}{_softly(soft)}", drawn=float(right)))
            if level == 1:
                who = gallery.nearest(judges.who(blurred(crops, soft)).numpy())
                right = (who == [people[i] for i in drawn.people]).mean()
                rows.append(Row(f"judge: identity of single faces{_softly(soft)}", drawn=float(right)))
    return rows


def _softly(soft: float) -> str:
    return ", blurred" if soft else ""
