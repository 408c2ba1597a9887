"""An emotion for every moment of a clip: tracks, curves that weigh them, and the moments at which they are combined."""

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from dicetalk.emotion.prior import EmotionPrior
from dicetalk.errors import EmotionError

MODEL_FPS = 12.5

MAX_SECONDS = 3660.0
"""An hour of speech and a minute more. Keyframes may lie later; a grid of moments up to them would not fit anywhere."""

MAX_KEYFRAMES = 100_000
"""More than an hour at 25 fps."""

EASINGS: dict[str, Callable[[float], float]] = {
    "linear": lambda t: t,
    "smooth": lambda t: t * t * (3 - 2 * t),
    "ease-in": lambda t: t * t,
    "ease-out": lambda t: t * (2 - t),
    "hold": lambda t: 0.0,
}
"""How far the way to the next keyframe is done after the fraction t of the time, both 0 to 1."""


class Gaussians(NamedTuple):
    """Emotion priors of T moments: means `mu` ``(T, 256)`` and standard deviations `sigma` ``(T, 256)`` or none."""

    mu: torch.Tensor
    sigma: torch.Tensor | None


@dataclass(frozen=True)
class Keyframe:
    """An emotion at one moment.

    Args:
        seconds: when, from the start of the clip.
        prior: the emotion then, already mixed and scaled (see :func:`dicetalk.emotion.mix.mix`).
        easing: how the emotion moves from here to the next keyframe, one of :data:`EASINGS`.

    Raises:
        EmotionError: the time is negative or not finite, or the easing is unknown.
    """

    seconds: float
    prior: EmotionPrior
    easing: str = "linear"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise EmotionError(f"A keyframe's time is {self.seconds:g} s; expected 0 s or later.")
        if self.easing not in EASINGS:
            raise EmotionError(f"The easing {self.easing!r} is unknown. Known: {', '.join(EASINGS)}.")


@dataclass(frozen=True)
class EmotionTrack:
    """An emotion for every moment: keyframes, interpolated between and held before the first and after the last.

    Mixing is linear, so that priors between keyframes are exactly the priors of weights between the keyframes' weights.
    Variances move as the means do. The spread of a track is known if every keyframe's is.

    Args:
        keyframes: at least one, in order of time.

    Raises:
        EmotionError: there is no keyframe, or times are unsorted or repeated.
    """

    keyframes: tuple[Keyframe, ...]

    def __post_init__(self) -> None:
        if not self.keyframes:
            raise EmotionError("An emotion track needs at least one keyframe.")
        for earlier, later in itertools.pairwise(self.keyframes):
            if later.seconds <= earlier.seconds:
                raise EmotionError(
                    f"An emotion track's keyframes must be in order of time, each time once: "
                    f"{later.seconds:g} s follows {earlier.seconds:g} s."
                )

    @classmethod
    def constant(cls, prior: EmotionPrior) -> "EmotionTrack":
        """The same emotion throughout, as the released program has it."""
        return cls((Keyframe(0.0, prior),))

    @classmethod
    def curve(cls, priors: Sequence[EmotionPrior], fps: float = MODEL_FPS) -> "EmotionTrack":
        """One prior for each moment ``i / fps``; at the model's 12.5 fps one for each frame.

        Raises:
            EmotionError: there is no prior, or `fps` is not a positive number.
        """
        if not (math.isfinite(fps) and fps > 0):
            raise EmotionError(f"An emotion curve's fps is {fps:g}; expected a positive number, as {MODEL_FPS}.")
        return cls(tuple(Keyframe(i / fps, prior) for i, prior in enumerate(priors)))

    @property
    def is_constant(self) -> bool:
        """Whether one keyframe holds throughout."""
        return len(self.keyframes) == 1

    @property
    def end(self) -> float:
        """The time of the last keyframe in seconds; nothing changes after it."""
        return self.keyframes[-1].seconds

    def at(self, seconds: Sequence[float]) -> Gaussians:
        """The priors at any moments, one row for each."""
        times = [keyframe.seconds for keyframe in self.keyframes]
        blends = [self._blend(moment, times, range(len(times))) for moment in seconds]
        start, end, done = (list(column) for column in zip(*blends, strict=True))
        way = torch.tensor(done, dtype=torch.float32)[:, None]

        def between(values: list[torch.Tensor]) -> torch.Tensor:
            rows = torch.stack(values)
            return rows[start].lerp(rows[end], way)

        priors = [keyframe.prior for keyframe in self.keyframes]
        variances = [prior.sigma.square() for prior in priors if prior.sigma is not None]
        sigma = between(variances).sqrt() if len(variances) == len(priors) else None
        return Gaussians(between([prior.mu for prior in priors]), sigma)

    def priors(self, frames: int, fps: float = MODEL_FPS) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean prior of every frame, each distinct one once, so that its tokens need computing only once.

        Args:
            frames: length of the clip, at least 1.
            fps: frame i shows the moment ``i / fps``.

        Returns:
            Distinct priors, float32 ``(R, 256)``, in order of first use, and for each frame the row that it shows,
            int64 ``(frames,)``. A constant track has one row.
        """
        times = [keyframe.seconds for keyframe in self.keyframes]
        same = self._first_equals()
        rows: dict[tuple[int, int, float], int] = {}
        index = [rows.setdefault(self._blend(i / fps, times, same), len(rows)) for i in range(frames)]
        start, end, done = zip(*rows, strict=True)
        mus = torch.stack([keyframe.prior.mu for keyframe in self.keyframes])
        blended = mus[list(start)].lerp(mus[list(end)], torch.tensor(done)[:, None])
        # At the end of a slow curve moments differ by less than float32 shows.
        first: dict[bytes, int] = {}
        same_row = [first.setdefault(row.tobytes(), number) for number, row in enumerate(blended.numpy())]
        place = {number: new for new, number in enumerate(first.values())}
        return blended[list(first.values())], torch.tensor([place[same_row[row]] for row in index])

    def _first_equals(self) -> list[int]:
        """For each keyframe the first one with the same prior."""
        first: dict[bytes, int] = {}
        return [first.setdefault(keyframe.prior.mu.numpy().tobytes(), i) for i, keyframe in enumerate(self.keyframes)]

    def _blend(self, seconds: float, times: list[float], same: Sequence[int]) -> tuple[int, int, float]:
        """The keyframes that `seconds` lies between and how far on the way it is; equal priors give equal tuples."""
        i = max(bisect.bisect_right(times, seconds) - 1, 0)
        start = same[i]
        if i + 1 == len(times) or seconds <= times[i] or same[i + 1] == start:
            return start, start, 0.0
        done = EASINGS[self.keyframes[i].easing]((seconds - times[i]) / (times[i + 1] - times[i]))
        return (start, same[i + 1], done) if done > 0 else (start, start, 0.0)


@dataclass(frozen=True, eq=False)
class Curve:
    """A number for every moment: points, joined by straight lines and held before the first and after the last.

    Args:
        seconds: times of the points, increasing, from 0 on, ``(n,)``; at least one.
        values: the number at each, ``(n,)``, kept as float64.

    Raises:
        EmotionError: there is no point, the two differ in length, times do not increase or a value is not finite.
    """

    seconds: np.ndarray
    values: np.ndarray

    def __post_init__(self) -> None:
        for name in ("seconds", "values"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        if self.seconds.ndim != 1 or self.seconds.shape != self.values.shape or not len(self.seconds):
            raise EmotionError(
                f"A curve has {self.seconds.shape} times and {self.values.shape} values; expected one value for each."
            )
        if not (np.isfinite(self.values).all() and np.isfinite(self.seconds).all()):
            raise EmotionError("A curve holds NaN or infinite numbers.")
        if self.seconds[0] < 0 or (np.diff(self.seconds) <= 0).any():
            raise EmotionError("A curve's times must increase and start at 0 s or later.")

    @classmethod
    def constant(cls, value: float) -> "Curve":
        """The same number throughout."""
        return cls(np.zeros(1), np.array([value]))

    @classmethod
    def uniform(cls, values: Sequence[float] | np.ndarray, fps: float = MODEL_FPS) -> "Curve":
        """One value for each moment ``i / fps``.

        Raises:
            EmotionError: there is no value, one is not finite, or `fps` is not a positive number.
        """
        if not (math.isfinite(fps) and fps > 0):
            raise EmotionError(f"A curve's fps is {fps:g}; expected a positive number, as {MODEL_FPS}.")
        return cls(np.arange(len(values)) / fps, np.asarray(values))

    @property
    def is_constant(self) -> bool:
        """Whether all values are equal."""
        return bool((self.values == self.values[0]).all())

    @property
    def end(self) -> float:
        """The time of the last point in seconds."""
        return float(self.seconds[-1])

    def at(self, seconds: Sequence[float] | np.ndarray) -> np.ndarray:
        """The numbers at any moments, float64, one for each."""
        return np.interp(seconds, self.seconds, self.values)


@dataclass(frozen=True)
class KeyframeTimes:
    """Times and easings of the keyframes of a track to be made."""

    seconds: tuple[float, ...]
    easings: tuple[str, ...]

    @classmethod
    def of(cls, track: EmotionTrack) -> "KeyframeTimes":
        """That of `track`; a constant has one moment, 0 s."""
        if track.is_constant:
            return cls((0.0,), ("linear",))
        return cls(tuple(k.seconds for k in track.keyframes), tuple(k.easing for k in track.keyframes))

    @classmethod
    def grid(cls, end: float, fps: float = MODEL_FPS) -> "KeyframeTimes":
        """Moments ``i / fps`` from 0 to `end` or just after it.

        Raises:
            EmotionError: `end` is later than :data:`MAX_SECONDS`, or there are more than :data:`MAX_KEYFRAMES` moments.
        """
        if end > MAX_SECONDS:
            raise EmotionError(
                f"An emotion track has a keyframe at {end:g} s; tracks can be combined up to {MAX_SECONDS:g} s."
            )
        count = math.ceil(end * fps - 1e-6) + 1
        if count > MAX_KEYFRAMES:
            raise EmotionError(
                f"A track of {end:g} s at {fps:g} fps has {count} keyframes; expected at most {MAX_KEYFRAMES}. Choose "
                "a lower frame rate, or a shorter track."
            )
        return cls(tuple(i / fps for i in range(count)), ("linear",) * count)

    @classmethod
    def shared(cls, tracks: Sequence[EmotionTrack], curves: Sequence[Curve] = ()) -> "KeyframeTimes":
        """Moments that a weighted sum of `tracks` needs, `curves` being its weights.

        The sum is exact at every moment if all that changes has the same keyframes and no weight changes; otherwise at
        the frames of the model, which are all that is ever seen.
        """
        shapes = {cls.of(track) for track in tracks if not track.is_constant}
        changing = [curve for curve in curves if not curve.is_constant]
        if len(shapes) > 1 or changing:
            return cls.grid(max([s.seconds[-1] for s in shapes] + [c.end for c in changing]))
        return shapes.pop() if shapes else cls((0.0,), ("linear",))

    def track(self, values: Gaussians, name: str) -> EmotionTrack:
        """The track that has the rows of `values` as its keyframes."""
        sigmas: Sequence[torch.Tensor | None] = (
            [None] * len(self.seconds) if values.sigma is None else values.sigma.unbind()
        )
        priors = [EmotionPrior(mu, sigma, name) for mu, sigma in zip(values.mu.unbind(), sigmas, strict=True)]
        return EmotionTrack(tuple(map(Keyframe, self.seconds, priors, self.easings)))
