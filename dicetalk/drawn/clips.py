"""Made-up clips: a face that says a sentence with an emotion, and everything that is known about it."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dicetalk.drawn.faces.expression import at_rest, emotion_weights, express
from dicetalk.drawn.faces.identity import Split, identity_seeds, sample_identity
from dicetalk.drawn.faces.motion import Pose, head_motion
from dicetalk.drawn.faces.render import FaceRenderer
from dicetalk.drawn.faces.scene import Scene, sample_scene
from dicetalk.drawn.voices import sample_voice, sentences, speak
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.errors import SettingError
from dicetalk.evaluate.mouth import mouth_curve
from dicetalk.portrait.faces import FaceBox

FPS = 12.5
SIZE = 128

UNSEEN_SIZE = 16
"""For clips whose pictures nobody looks at, only their coefficients and their sound."""

INTENSITIES = (0.3, 0.6, 1.0)
SAMPLE_RATE = 22_050
"""Of espeak-ng's formant voices."""

SILENT_SECONDS = 3.2
SILENT_SHARE = 1 / 16
"""Of the clips of a split."""

EDGE_SECONDS = (0.15, 0.4)
"""Shortest and longest silence before and after a sentence."""

CHANGE_SECONDS = 0.8
"""How long the face takes from one emotion to the next."""

CHANGING_TAKES = 2
"""Takes of each person in which one emotion passes into another."""

LIVELINESS = 0.4
"""Part of the possible head motion. Where a head turns to at random nothing can foretell; at full liveliness that is as
far as brows and corners of the mouth move in an emotion, and a small network learns the mean of all of it, a blur."""

TAKE_FRAMES = 12
TAKE_INTENSITIES = (0.3, 0.3, 0.4)
"""Share of each of :data:`INTENSITIES` in :func:`plan_takes`."""

PAIRED_INTENSITIES = 2

SCENE_STREAM, TAKE_STREAM, PAIR_STREAM = 1, 2, 3
"""Tell random numbers of different use apart."""


@dataclass(frozen=True)
class ClipPlan:
    """Request to :func:`make_clip`; small, so that workers can share a list of them.

    With `then`, an emotion and a sentence, it is :func:`make_changing_clip` that is asked: the emotion passes into it.
    """

    identity_seed: int
    emotion: str
    intensity: float
    sentence: str | None
    seed: int
    scene: int | None = None
    longest: int | None = None
    then: tuple[str, str] | None = None


@dataclass(frozen=True, eq=False)
class TrainingClip:
    """One clip and its truth.

    Args:
        frames: uint8 RGB ``(N, H, W, 3)``.
        portrait: the same person in the same scene at rest, uint8 RGB ``(H, W, 3)``.
        coefficients: of the expression, float32 ``(N, 17)``, see
            :data:`dicetalk.drawn.faces.expression.ACTION_UNITS`; the embedder's visual input.
        mouth: true opening of the mouth, 0 to 1, float32 ``(N,)``.
        poses: of the head, float32 ``(N, 6)``, see :data:`dicetalk.drawn.faces.motion.POSE`.
        sound: float32 ``(samples,)``, mono, as long as the frames.
        sample_rate: samples a second.
        fps: frames a second.
        identity_seed: who is seen.
        emotions: the emotion, or those that follow one another.
        intensity: of the emotion, 0 to 1.
        weights: of the eight presets in every frame, float32 ``(N, 8)``; neutral's stays 0.
        sentences: what is said with each emotion; empty if nothing is.
        boxes: x, y, width and height of the face in every frame, in pixels, float32 ``(N, 4)``.
        landmarks: eyes, nose and corners of the mouth, left to right, in pixels, float32 ``(N, 5, 2)``.
    """

    frames: np.ndarray
    portrait: np.ndarray
    coefficients: np.ndarray
    mouth: np.ndarray
    poses: np.ndarray
    sound: np.ndarray
    sample_rate: int
    fps: float
    identity_seed: int
    emotions: tuple[str, ...]
    intensity: float
    weights: np.ndarray
    sentences: tuple[str, ...]
    boxes: np.ndarray
    landmarks: np.ndarray

    @property
    def face(self) -> FaceBox:
        """The face in the first frame, as a face detector returns it."""
        return self.face_in(0)

    def face_in(self, frame: int) -> FaceBox:
        """The face in a frame, likewise."""
        points = tuple((float(x), float(y)) for x, y in self.landmarks[frame])
        x, y, width, height = map(float, self.boxes[frame])
        return FaceBox(x, y, width, height, landmarks=points)


def make_clip(
    identity_seed: int,
    emotion: str,
    intensity: float,
    sentence: str | None,
    seed: int,
    size: int = SIZE,
    fps: float = FPS,
    *,
    scene: int | None = None,
    longest: int | None = None,
) -> TrainingClip:
    """A clip with one emotion; equal arguments give equal clips.

    Args:
        identity_seed: who is seen and whose voice is heard.
        emotion: one of the eight presets.
        intensity: 0 (neutral) to 1.
        sentence: what is said; if none, the clip is silent and lasts 3.2 s.
        seed: of the scene, the motion and the small changes of the voice.
        size: of the frames, in pixels.
        fps: frames a second.
        scene: number of a scene of this person, the same in every clip; one of the clip's own if none.
        longest: frames of a part of the clip that is taken if the clip is longer; all if none.

    Raises:
        EmotionError: the emotion is unknown, or the intensity is not between 0 and 1.
        SpeechError: espeak-ng is missing or fails.
    """
    rng = np.random.default_rng([identity_seed, seed])
    if sentence is None:
        sound = np.zeros(round(SILENT_SECONDS * SAMPLE_RATE), np.float32)
    else:
        sound = _utterance(identity_seed, emotion, intensity, sentence, rng)
    if longest is not None:
        sound = _part(sound, longest, fps, rng)
    weights = emotion_weights(emotion, intensity, _frames(sound, fps))
    said = () if sentence is None else (sentence,)
    place = _scene_of(identity_seed, scene, rng)
    return _film(identity_seed, (emotion,), intensity, said, weights, sound, rng, place, size, fps)


def make_changing_clip(
    identity_seed: int,
    emotions: Sequence[str],
    intensity: float,
    sentences: Sequence[str],
    seed: int,
    size: int = SIZE,
    fps: float = FPS,
    *,
    scene: int | None = None,
    longest: int | None = None,
) -> TrainingClip:
    """A clip in which one emotion passes into the next; each has a sentence of its own. Otherwise as :func:`make_clip`.

    Of a clip that is longer than `longest` a part is taken in which the first emotion passes into the second.

    Raises:
        SettingError: there are no emotions, or not as many sentences.
        EmotionError: an emotion is unknown, or the intensity is not between 0 and 1.
        SpeechError: espeak-ng is missing or fails.
    """
    if len(emotions) != len(sentences) or not emotions:
        raise SettingError(
            f"Give one sentence for each emotion; got {len(emotions)} emotions, {len(sentences)} sentences."
        )
    rng = np.random.default_rng([identity_seed, seed])
    parts = [
        _utterance(identity_seed, emotion, intensity, sentence, rng)
        for emotion, sentence in zip(emotions, sentences, strict=True)
    ]
    sound = np.concatenate(parts)
    seconds = (np.arange(_frames(sound, fps)) + 0.5) / fps
    weights = emotion_weights(emotions[0], intensity, len(seconds))
    borders = np.cumsum([len(part) for part in parts[:-1]]) / SAMPLE_RATE
    for border, emotion in zip(borders, emotions[1:], strict=True):
        done = ((seconds - border) / CHANGE_SECONDS + 0.5).clip(0, 1)[:, None]
        done = done * done * (3 - 2 * done)
        weights = weights * (1 - done) + emotion_weights(emotion, intensity, len(seconds)) * done
    if longest is not None and longest < len(weights) and len(borders):
        middle = borders[0] * fps - longest / 2 + rng.uniform(-1, 1) * longest / 4
        first = int(np.clip(round(middle), 0, len(weights) - longest))
        weights = weights[first : first + longest]
        sound = sound[round(first / fps * SAMPLE_RATE) :][: round(longest / fps * SAMPLE_RATE)]
    said, place = tuple(sentences), _scene_of(identity_seed, scene, rng)
    return _film(identity_seed, tuple(emotions), intensity, said, weights, sound, rng, place, size, fps)


def plan_clips(split: Split, seed: int) -> Iterator[ClipPlan]:
    """An endless plan of clips of a split: emotional and ordinary (neutral) ones in turn, as in the paper (4.1).

    Args:
        split: whose identities and sentences.
        seed: of the plan.

    Raises:
        SettingError: `split` is neither "train" nor "test".
    """
    identities, lines = identity_seeds(split), sentences(split)
    rng = np.random.default_rng(seed)
    feelings = [name for name in PRESET_NAMES if name != "neutral"]
    for number in itertools.count():
        emotion = str(rng.choice(feelings)) if number % 2 == 0 else "neutral"
        intensity = float(rng.choice(INTENSITIES)) if emotion != "neutral" else 0.0
        sentence = None if rng.random() < SILENT_SHARE else str(rng.choice(lines))
        yield ClipPlan(
            identities[rng.integers(len(identities))], emotion, intensity, sentence, int(rng.integers(1 << 31))
        )


def plan_pairs(split: Split, seed: int, people: int) -> Iterator[ClipPlan]:
    """Every emotion of every person at :data:`PAIRED_INTENSITIES` of the intensities, with two sentences each.

    An embedder learns what two such clips share. Two parts of one clip share its sentence and its chance as well, and
    priors would tell those too.

    Args:
        split: whose identities and sentences.
        seed: of the plan.
        people: how many.

    Raises:
        SettingError: `split` is neither "train" nor "test".
    """
    lines, rng = sentences(split), np.random.default_rng([seed, PAIR_STREAM])
    for identity in identity_seeds(split)[:people]:
        for emotion in PRESET_NAMES:
            of_three = rng.choice(INTENSITIES, PAIRED_INTENSITIES, replace=False)
            for intensity in (0.0,) if emotion == "neutral" else of_three:
                for sentence in rng.choice(lines, 2, replace=False):
                    yield ClipPlan(identity, emotion, float(intensity), str(sentence), int(rng.integers(1 << 31)))


def plan_takes(split: Split, seed: int, people: int) -> Iterator[ClipPlan]:
    """Every emotion of every person, in one scene of theirs: short parts of clips.

    All takes of a person share their portrait, so that it does not tell the emotion. Where each clip has a portrait of
    its own, a network can learn the clips' expressions by heart and pay no heed to emotion priors. In the last
    :data:`CHANGING_TAKES` of a person an emotion passes into another: a network that has only seen faces at rest in
    one emotion lets the frames before a change hold it back.

    Arguments and errors are those of :func:`plan_pairs`.
    """
    lines, rng = sentences(split), np.random.default_rng([seed, TAKE_STREAM])
    for identity in identity_seeds(split)[:people]:
        for emotion in PRESET_NAMES:
            intensity = float(rng.choice(INTENSITIES, p=TAKE_INTENSITIES)) if emotion != "neutral" else 0.0
            sentence = None if rng.random() < SILENT_SHARE else str(rng.choice(lines))
            yield ClipPlan(
                identity, emotion, intensity, sentence, int(rng.integers(1 << 31)), scene=seed, longest=TAKE_FRAMES
            )
        for _ in range(CHANGING_TAKES):
            (emotion, then), said = rng.choice(PRESET_NAMES, 2, replace=False), rng.choice(lines, 2, replace=False)
            intensity = float(rng.choice(INTENSITIES, p=TAKE_INTENSITIES))
            yield ClipPlan(
                identity,
                str(emotion),
                intensity,
                str(said[0]),
                int(rng.integers(1 << 31)),
                scene=seed,
                longest=TAKE_FRAMES,
                then=(str(then), str(said[1])),
            )


def clip_of(plan: ClipPlan, size: int = SIZE, fps: float = FPS) -> TrainingClip:
    """The clip of a plan; raises what :func:`make_clip` raises."""
    wanted = dict(vars(plan))
    then = wanted.pop("then")
    if then is None:
        return make_clip(**wanted, size=size, fps=fps)
    wanted["emotions"] = (wanted.pop("emotion"), then[0])
    wanted["sentences"] = (wanted.pop("sentence"), then[1])
    return make_changing_clip(**wanted, size=size, fps=fps)


def clips(split: Split, seed: int, size: int = SIZE, fps: float = FPS) -> Iterator[TrainingClip]:
    """The clips of :func:`plan_clips`, drawn one at a time."""
    for plan in plan_clips(split, seed):
        yield clip_of(plan, size, fps)


def _scene_of(identity_seed: int, scene: int | None, rng: np.random.Generator) -> Scene:
    return sample_scene(rng if scene is None else np.random.default_rng([identity_seed, scene, SCENE_STREAM]))


def _part(sound: np.ndarray, frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    """A random part of `sound` that is `frames` long, or all of it if it is shorter."""
    length = round(frames / fps * SAMPLE_RATE)
    start = int(rng.integers(max(0, len(sound) - length) + 1))
    return sound[start : start + length]


def _frames(sound: np.ndarray, fps: float) -> int:
    return int(len(sound) / SAMPLE_RATE * fps + 1e-6)


def _utterance(
    identity_seed: int, emotion: str, intensity: float, sentence: str, rng: np.random.Generator
) -> np.ndarray:
    voice = sample_voice(identity_seed, sample_identity(identity_seed).high_voice)
    sound, _ = speak(sentence, voice, emotion, intensity, int(rng.integers(1 << 31)))
    before, after = (rng.uniform(*EDGE_SECONDS, 2) * SAMPLE_RATE).astype(int)
    return np.pad(sound, (before, after))


def _film(
    identity_seed: int,
    emotions: tuple[str, ...],
    intensity: float,
    said: tuple[str, ...],
    weights: np.ndarray,
    sound: np.ndarray,
    rng: np.random.Generator,
    scene: Scene,
    size: int,
    fps: float,
) -> TrainingClip:
    person = sample_identity(identity_seed)
    renderer = FaceRenderer(person, scene, size)
    mouth, stress = mouth_curve(sound, SAMPLE_RATE, len(weights), fps)
    coefficients = express(person.manner, weights, mouth, stress, fps, rng)
    poses = head_motion(weights, stress, fps, rng, LIVELINESS).astype(np.float32)
    drawn = renderer.draw_clip(coefficients, poses)
    return TrainingClip(
        frames=np.stack([frame.pixels for frame in drawn]),
        portrait=renderer.draw(at_rest(person.manner), Pose()).pixels,
        coefficients=coefficients,
        mouth=mouth,
        poses=poses,
        sound=sound[: round(len(weights) / fps * SAMPLE_RATE)],
        sample_rate=SAMPLE_RATE,
        fps=fps,
        identity_seed=identity_seed,
        emotions=emotions,
        intensity=intensity,
        weights=weights.astype(np.float32),
        sentences=said,
        boxes=np.stack([frame.box for frame in drawn]),
        landmarks=np.stack([frame.landmarks for frame in drawn]),
    )
