"""Drawn faces for networks that see one moment at a time: each batch of new people, scenes and expressions."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from dicetalk.drawn.clips import FPS, INTENSITIES, SIZE
from dicetalk.drawn.faces.expression import emotion_weights, express
from dicetalk.drawn.faces.identity import Split, identity_seeds, sample_identity
from dicetalk.drawn.faces.motion import head_motion
from dicetalk.drawn.faces.render import FaceRenderer, Frame
from dicetalk.drawn.faces.scene import sample_scene
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.train.data import Batch

LONGEST_STRIDE = 6
"""Frames of a drawn strip are at most so many frames of 12.5 fps apart."""

POOL_SEED = 9

CLOSED_SHARE = 0.3
"""Of the frames with a closed mouth; speech closes it as often."""


def draw_strip(split: Split, frames: int, rng: np.random.Generator, size: int = SIZE) -> list[Frame]:
    """A random person in a random scene with a random emotion, `frames` moments of one movement.

    The mouth opens at random rather than by speech, so that every opening is seen as often.

    Args:
        split: whose identities.
        frames: at least 1.
        rng: of everything.
        size: of the frames, in pixels.
    """
    seeds = identity_seeds(split)
    person = sample_identity(seeds[rng.integers(len(seeds))])
    renderer = FaceRenderer(person, sample_scene(rng), size)
    emotion = str(rng.choice(PRESET_NAMES))
    weights = emotion_weights(emotion, 0.0 if emotion == "neutral" else float(rng.choice(INTENSITIES)), frames)
    jaw = rng.uniform(0, 1, frames) * (rng.random(frames) > CLOSED_SHARE)
    stress = rng.uniform(0, 1, frames)
    fps = FPS / int(rng.integers(1, LONGEST_STRIDE + 1))
    coefficients = express(person.manner, weights, jaw.astype(np.float32), stress, fps, rng)
    return renderer.draw_clip(coefficients, head_motion(weights, stress, fps, rng))


@cache
def draw_pool(split: Split, pictures: int, size: int) -> list[Frame]:
    """Single pictures as of :func:`draw_strip`, always the same; kept, because drawing takes as long as learning."""
    return [draw_strip(split, 1, np.random.default_rng([POOL_SEED, n]), size)[0] for n in range(pictures)]


@dataclass(frozen=True)
class FaceBatches:
    """Batches of parts of single pictures, near the middle of a face; every `clip_every`-th batch is one whole strip.

    Details lie in the face, and a part of a picture costs a part.

    Args:
        split: whose identities.
        pictures: in a batch.
        crop: side of a part, in pixels.
        clip_frames: frames of a strip.
        clip_every: one batch in so many is a strip.
        size: of the whole frames, in pixels.
        pool: pictures that parts are taken from; 0: each is a new one.
    """

    split: Split
    pictures: int
    crop: int
    clip_frames: int
    clip_every: int
    size: int = SIZE
    pool: int = 0

    def __call__(self, rng: np.random.Generator, number: int) -> Batch:
        """`frames` uint8 ``(B, T, H, W, 3)``, `boxes` ``(B, T, 4)`` and `landmarks` ``(B, T, 5, 2)``, in pixels."""
        if number % self.clip_every == self.clip_every - 1:
            return _batch([draw_strip(self.split, self.clip_frames, rng, self.size)])
        if self.pool:
            pool = draw_pool(self.split, self.pool, self.size)
            drawn = [pool[n] for n in rng.integers(self.pool, size=self.pictures)]
        else:
            drawn = [draw_strip(self.split, 1, rng, self.size)[0] for _ in range(self.pictures)]
        return _batch([[self._part(frame, rng)] for frame in drawn])

    def _part(self, frame: Frame, rng: np.random.Generator) -> Frame:
        middle = frame.landmarks.mean(axis=0) + rng.normal(0, self.crop / 4, 2)
        x, y = (middle - self.crop / 2).clip(0, self.size - self.crop).astype(int)
        corner = np.array((x, y), np.float32)
        pixels = frame.pixels[y : y + self.crop, x : x + self.crop]
        return Frame(pixels, frame.box - np.pad(corner, (0, 2)), frame.landmarks - corner)


def _batch(strips: list[list[Frame]]) -> Batch:
    return {
        "frames": torch.from_numpy(np.stack([[frame.pixels for frame in strip] for strip in strips])),
        "boxes": torch.from_numpy(np.stack([[frame.box for frame in strip] for strip in strips])),
        "landmarks": torch.from_numpy(np.stack([[frame.landmarks for frame in strip] for strip in strips])),
    }
