"""Everything that is measured in one clip."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dicetalk.drawn.evaluate.judges import Judges, head_crops, judge_input
from dicetalk.drawn.evaluate.snapshots import Snapshots
from dicetalk.drawn.evaluate.takes import Shot, Take
from dicetalk.drawn.faces.mouth import measure_mouth
from dicetalk.evaluate.mouth import lag_correlations, silent_frames
from dicetalk.evaluate.seams import seam_scores


@dataclass(frozen=True, eq=False)
class ShotScores:
    """Measures of one clip.

    Args:
        take: what was asked for.
        mouth_asked: true opening of the mouth, ``(N,)``.
        mouth_shown: opening measured in the pixels, ``(N,)``.
        weights: of the eight emotions asked for, ``(N, 8)``.
        emotions: logarithm of the probability of each, ``(N, 8)``.
        strengths: how strongly each is shown, 0 to 1, ``(N, 8)``.
        faces: who the faces are, unit vectors ``(N, dim)``.
        seam: as :func:`dicetalk.evaluate.seams.seam_scores`; none if the clip has one window.
    """

    take: Take
    mouth_asked: np.ndarray
    mouth_shown: np.ndarray
    weights: np.ndarray
    emotions: np.ndarray
    strengths: np.ndarray
    faces: np.ndarray
    seam: tuple[float, float] | None

    @property
    def lags(self) -> np.ndarray:
        """Correlation of the mouth with the speech at each lag; see :func:`lag_correlations`."""
        return lag_correlations(self.mouth_shown, self.mouth_asked)

    @property
    def silent_opening(self) -> np.ndarray:
        """Opening of the mouth in the frames in which nothing is said."""
        return self.mouth_shown[silent_frames(self.mouth_asked)]

    @property
    def judged(self) -> int:
        """The preset that the whole clip shows."""
        return int(self.emotions.mean(axis=0).argmax())

    def strength(self, emotion: int) -> float:
        """How strongly the clip shows a preset."""
        return float(self.strengths[:, emotion].mean())


@dataclass(frozen=True)
class Scores:
    """The clips of a :class:`dicetalk.drawn.evaluate.plan.Plan`, measured."""

    presets: Sequence[ShotScores]
    weaker: Sequence[ShotScores] = ()
    videos: Sequence[ShotScores] = ()
    changes: Sequence[ShotScores] = ()
    silent: Sequence[ShotScores] = ()
    long: Sequence[ShotScores] = ()

    @property
    def shots(self) -> list[ShotScores]:
        """All of them."""
        return [*self.presets, *self.weaker, *self.videos, *self.changes, *self.silent, *self.long]

    def by(self, way: Sequence[str]) -> list[ShotScores]:
        """The changes whose emotions, in their order, are `way`."""
        return [shot for shot in self.changes if shot.take.emotions == way]


@torch.no_grad()
def score_shot(shot: Shot, judges: Judges, borders: Sequence[int]) -> ShotScores:
    """Measure a clip; `borders` are the first frames of its windows but the first (none: no seam to look for)."""
    crops = judge_input(head_crops(shot.frames))
    emotions, strengths = judges.emotions(crops)
    return ShotScores(
        take=shot.take,
        mouth_asked=shot.mouth,
        mouth_shown=measure_mouth(shot.frames),
        weights=shot.weights,
        emotions=emotions.numpy(),
        strengths=strengths.numpy(),
        faces=judges.who(crops).numpy(),
        seam=seam_scores(shot.frames, list(borders)) if borders else None,
    )


@dataclass(frozen=True, eq=False)
class Gallery:
    """Mean faces of some people, to the identity judge.

    Args:
        people: identity seeds.
        faces: the mean of each one's unit vectors, ``(people, dim)``.
    """

    people: Sequence[int]
    faces: np.ndarray

    @classmethod
    @torch.no_grad()
    def of(cls, people: Sequence[int], drawn: Snapshots, judges: Judges) -> "Gallery":
        """The gallery of drawn faces of `people`."""
        faces = judges.who(judge_input(drawn.crops)).numpy()
        means = np.stack([faces[drawn.people == number].mean(axis=0) for number in range(len(people))])
        return cls(people, means / np.linalg.norm(means, axis=1, keepdims=True))

    def nearest(self, faces: np.ndarray) -> np.ndarray:
        """The identity seed of the person that each of `faces` ``(N, dim)`` is nearest to."""
        return np.array(self.people)[(faces @ self.faces.T).argmax(axis=1)]

    def towards(self, faces: np.ndarray, start: int, end: int) -> float:
        """How far faces lie on the way from one person to another: 0 is the first, 1 the second."""
        first, second = (self.faces[list(self.people).index(person)] for person in (start, end))
        way = second - first
        return float((faces.mean(axis=0) - first) @ way / (way @ way))
