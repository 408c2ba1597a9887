"""A number that changes over a clip: a weight, an intensity, the amount of a blend."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dicetalk.emotion.track import MODEL_FPS
from dicetalk.errors import EmotionError


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
