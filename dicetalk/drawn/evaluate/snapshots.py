"""Drawn faces with everything that is known about them: what judges learn from, and what they are compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dicetalk.drawn.evaluate.judges import head_crops
from dicetalk.drawn.faces.expression import Manner, emotion_weights, express
from dicetalk.drawn.faces.identity import sample_identity
from dicetalk.drawn.faces.motion import head_motion, smooth_noise
from dicetalk.drawn.faces.render import FaceRenderer
from dicetalk.drawn.faces.scene import sample_scene
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.hooks import SILENT, Hooks
from dicetalk.settings import FPS

LEAST_INTENSITY = 0.3
"""Weaker than this, an emotion cannot be distinguished from the resting face."""

MOTION_SECONDS = 4.0
"""Snapshots of one scene are moments of one imagined take of this length."""

NEUTRAL = PRESET_NAMES.index("neutral")


@dataclass(frozen=True, eq=False)
class Snapshots:
    """Single drawn faces.

    Args:
        crops: what a judge sees of them, uint8 ``(N, 80, 80, 3)``.
        emotions: number among the presets, int64 ``(N,)``.
        intensities: 0 for neutral, else above 0 to 1, float32 ``(N,)``.
        people: number of the person among those asked for, int64 ``(N,)``.
    """

    crops: np.ndarray
    emotions: np.ndarray
    intensities: np.ndarray
    people: np.ndarray


def draw_snapshots(
    identity_seeds: Sequence[int],
    scenes: int,
    per_scene: int,
    size: int,
    seed: int,
    intensity: float | None = None,
    hooks: Hooks = SILENT,
) -> Snapshots:
    """Faces of some people who talk, blink and move, each with an emotion of its own.

    Args:
        identity_seeds: the people.
        scenes: of each person.
        per_scene: faces in a scene; the emotions take turns.
        size: of the pictures, in pixels.
        seed: of everything but the people.
        intensity: of the emotions; any between :data:`LEAST_INTENSITY` and 1 if none.
        hooks: progress of `draw` in scenes.
    """
    crops, emotions, intensities, people = [], [], [], []
    total = scenes * len(identity_seeds)
    for number, identity_seed in enumerate(identity_seeds):
        person = sample_identity(identity_seed)
        for scene in range(scenes):
            hooks.check()
            rng = np.random.default_rng([identity_seed, scene, seed])
            renderer = FaceRenderer(person, sample_scene(rng), size)
            first = int(rng.integers(len(PRESET_NAMES)))
            for place in range(per_scene):
                emotion = (first + place) % len(PRESET_NAMES)
                level = rng.uniform(LEAST_INTENSITY, 1) if intensity is None else intensity
                level = 0.0 if emotion == NEUTRAL else float(level)
                row, pose = _moment(person.manner, PRESET_NAMES[emotion], level, rng)
                crops.append(head_crops(renderer.draw_clip(row, pose)[0].pixels[None])[0])
                emotions.append(emotion)
                intensities.append(level)
                people.append(number)
            hooks.report("draw", number * scenes + scene + 1, total)
    return Snapshots(np.stack(crops), np.array(emotions), np.array(intensities, np.float32), np.array(people))


def _moment(manner: Manner, emotion: str, intensity: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients ``(1, 17)`` and pose ``(1, 6)`` of a random moment of somebody who talks."""
    count = round(MOTION_SECONDS * FPS)
    weights = emotion_weights(emotion, intensity, count)
    jaw = (0.35 + 0.4 * smooth_noise(rng, count, FPS, 0.16, 1)[:, 0]).clip(0, 1)
    at = int(rng.integers(count))
    rows = express(manner, weights, jaw, 0.4 * jaw, FPS, rng)
    return rows[at : at + 1], head_motion(weights, 0.4 * jaw, FPS, rng)[at : at + 1]
