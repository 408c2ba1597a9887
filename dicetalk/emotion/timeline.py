"""Moments at which tracks are combined, and tracks from arrays."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dicetalk.emotion.curve import Curve
from dicetalk.emotion.prior import EmotionPrior
from dicetalk.emotion.track import MODEL_FPS, EmotionTrack, Gaussians, Keyframe
from dicetalk.errors import EmotionError

MAX_SECONDS = 3660.0
"""An hour of speech and a minute more. Keyframes may lie later; a grid of moments up to them would not fit anywhere."""

MAX_KEYFRAMES = 100_000
"""More than an hour at 25 fps."""


@dataclass(frozen=True)
class Timeline:
    """Times and easings of the keyframes of a track to be made."""

    seconds: tuple[float, ...]
    easings: tuple[str, ...]

    @classmethod
    def of(cls, track: EmotionTrack) -> "Timeline":
        """That of `track`; a constant has one moment, 0 s."""
        if track.is_constant:
            return cls((0.0,), ("linear",))
        return cls(tuple(k.seconds for k in track.keyframes), tuple(k.easing for k in track.keyframes))

    @classmethod
    def grid(cls, end: float, fps: float = MODEL_FPS) -> "Timeline":
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
    def shared(cls, tracks: Sequence[EmotionTrack], curves: Sequence[Curve] = ()) -> "Timeline":
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
