"""The clips that an evaluation asks for, and their truth: what a drawn face would do in each."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dicetalk.audio.speech import SAMPLE_RATE as HEARD_SAMPLE_RATE
from dicetalk.audio.speech import SAMPLES_PER_FRAME
from dicetalk.drawn.clips import CHANGE_SECONDS, LIVELINESS, SAMPLE_RATE
from dicetalk.drawn.faces.expression import at_rest, emotion_weights, express
from dicetalk.drawn.faces.identity import sample_identity
from dicetalk.drawn.faces.motion import Pose, head_motion
from dicetalk.drawn.faces.render import FaceRenderer, Frame
from dicetalk.drawn.faces.scene import sample_scene
from dicetalk.drawn.voices import sample_voice, speak
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.evaluate.mouth import mouth_curve
from dicetalk.settings import FPS

PAUSE_SECONDS = 0.25
"""Silence before, between and after sentences."""

SILENT_SECONDS = 2.4

Sound = tuple[np.ndarray, int]
"""Mono samples ``(n,)`` in -1..1, and how many there are in a second."""


@dataclass(frozen=True)
class Take:
    """One clip that is asked for.

    Args:
        person: who is seen, and whose voice is heard.
        emotions: what is shown; of several each passes into the next, in the middle of the clip.
        intensity: of the emotions, 0 to 1.
        sentences: what is said, in a neutral voice, so that the emotion can come from the prior alone; none: silence.
        source: whose clip the prior is taken from; the preset priors if none.
        seed: of the scene, the motion and the noise.
    """

    person: int
    emotions: tuple[str, ...]
    intensity: float
    sentences: tuple[str, ...]
    source: int | None = None
    seed: int = 0

    @property
    def giver(self) -> int:
        """Person whose clip the emotion is taken from.

        Raises:
            ValueError: it is made with a preset prior.
        """
        if self.source is None:
            raise ValueError(f"The take {self.name!r} has no source.")
        return self.source

    @property
    def name(self) -> str:
        """Name of the take in tables and pictures; different for different takes of a plan."""
        feeling = " to ".join(self.emotions) + (f" at {self.intensity:g}" if self.intensity < 1 else "")
        prior = "" if self.source is None else f" by {self.source}"
        return f"{self.person} {feeling}{prior}: {' '.join(self.sentences) or 'silent'}"


@dataclass(frozen=True, eq=False)
class Shot:
    """A take that was made, by a network or by drawing.

    Args:
        take: what was asked for.
        frames: uint8 RGB ``(N, H, W, 3)``.
        mouth: true opening of the mouth, 0 to 1, float32 ``(N,)``.
        weights: of the eight emotions asked for, float32 ``(N, 8)``.
    """

    take: Take
    frames: np.ndarray
    mouth: np.ndarray
    weights: np.ndarray


Say = Callable[[Take], Sound]


def spoken(take: Take) -> Sound:
    """The speech of a take, by espeak-ng.

    Raises:
        SpeechError: espeak-ng is missing or fails.
    """
    if not take.sentences:
        return np.zeros(round(SILENT_SECONDS * SAMPLE_RATE), np.float32), SAMPLE_RATE
    voice = sample_voice(take.person, sample_identity(take.person).high_voice)
    pause = np.zeros(round(PAUSE_SECONDS * SAMPLE_RATE), np.float32)
    parts = [pause]
    for sentence in take.sentences:
        parts += [speak(sentence, voice)[0], pause]
    return np.concatenate(parts), SAMPLE_RATE


def frames_of(sound: Sound) -> int:
    """Frames that the networks make for a sound."""
    samples, sample_rate = sound
    return -(-len(samples) * HEARD_SAMPLE_RATE // sample_rate) // SAMPLES_PER_FRAME


def asked_weights(take: Take, frames: int) -> np.ndarray:
    """The weights of the eight emotions that a take asks for, ``(frames, 8)``."""
    weights = emotion_weights(take.emotions[0], take.intensity, frames)
    moments = change_moments(take, frames / FPS)
    for (start, stop), emotion in zip(pairwise(moments), take.emotions[1:], strict=True):
        done = ((np.arange(frames) / FPS - start) / (stop - start)).clip(0, 1)[:, None]
        done = done * done * (3 - 2 * done)
        weights = weights * (1 - done) + emotion_weights(emotion, take.intensity, frames) * done
    return weights.astype(np.float32)


def change_moments(take: Take, seconds: float) -> list[float]:
    """When each emotion of a take is shown in full, in a clip of that length; the first before, the last afterwards.

    However many they are, the change takes as long.
    """
    half = CHANGE_SECONDS / 2
    return np.linspace(seconds / 2 - half, seconds / 2 + half, len(take.emotions)).tolist()


def drawn_portrait(take: Take, size: int) -> Frame:
    """What the network is given: the person at rest in the take's scene."""
    return _renderer(take, size).draw(at_rest(sample_identity(take.person).manner), Pose())


def drawn_shot(take: Take, sound: Sound, size: int, chance: int = 0) -> Shot:
    """The take as it would be drawn: what a perfect network could have made.

    Another `chance` is another sway of the head, other small motions and blinks.
    """
    frames = frames_of(sound)
    mouth, stress = mouth_curve(*sound, frames, FPS)
    weights = asked_weights(take, frames)
    rng = np.random.default_rng(
        [take.person, take.seed, PRESET_NAMES.index(take.emotions[0]), *[chance] * (chance > 0)]
    )
    rows = express(sample_identity(take.person).manner, weights, mouth, stress, FPS, rng)
    drawn = _renderer(take, size).draw_clip(rows, head_motion(weights, stress, FPS, rng, LIVELINESS))
    return Shot(take, np.stack([frame.pixels for frame in drawn]), mouth, weights)


def drawn_regions(take: Take, size: int) -> dict[str, np.ndarray]:
    """Where hair and skin are seen of a head at rest, away from their edges: booleans ``(size, size)``, by name."""
    return _renderer(take, size).regions()


def _renderer(take: Take, size: int) -> FaceRenderer:
    scene = sample_scene(np.random.default_rng([take.person, take.seed]))
    return FaceRenderer(sample_identity(take.person), scene, size)
