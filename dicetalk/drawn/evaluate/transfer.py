"""Whether an emotion that is taken from somebody's clip is seen on another face (the paper's Ours-V).

Reference clips are drawn: people that no training has seen, in the pixels, so that the face must be read like
anybody's. Where the face is, is known: the detector is one of photographed faces and misses some drawn ones. What is
made with their emotion says something in a neutral voice, so that the emotion can come from nowhere else, and a
classifier of faces judges it.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import torch

from dicetalk.audio.features import SpeechFeatures
from dicetalk.audio.speech import Speech
from dicetalk.audio.whisper import speech_features
from dicetalk.checkpoints.load import DiceModel
from dicetalk.drawn.clips import TrainingClip, make_changing_clip, make_clip
from dicetalk.drawn.evaluate.generate import Maker
from dicetalk.drawn.evaluate.judges import Judges, head_crops, judge_input
from dicetalk.drawn.evaluate.plan import unseen_people
from dicetalk.drawn.evaluate.run import Make
from dicetalk.drawn.evaluate.takes import Shot, Take, drawn_shot, spoken
from dicetalk.drawn.faces.identity import sample_identity
from dicetalk.drawn.voices import sentences
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.emotion.reference.clip import Reference, reference_of
from dicetalk.emotion.reference.expressions import ReadExpressions
from dicetalk.emotion.reference.extract import Embedding, Recognition, extract_emotion
from dicetalk.emotion.track import EmotionTrack
from dicetalk.errors import EmotionError
from dicetalk.evaluate.table import Row
from dicetalk.hooks import SILENT, Hooks
from dicetalk.portrait.faces import FaceBox
from dicetalk.residency import CPU, Residency
from dicetalk.settings import FPS, SamplerSettings

Judge = Callable[[np.ndarray], np.ndarray]
"""Frames (uint8 RGB ``(N, H, W, 3)``) to logarithms of the probabilities of the eight presets, ``(N, 8)``."""

CHANGE = ("happy", "angry")
CLIPS_EACH, CHANGES = 2, 4
"""Clips of each emotion, and clips of one that changes, in :func:`transfer_rows`."""


@dataclass(frozen=True)
class ReferenceMaker(Maker):
    """Makes takes with the emotion of a drawn clip of their source, which says the same with that emotion.

    Args:
        way: how the emotion is extracted.
    """

    way: Recognition | Embedding = field(kw_only=True)

    def track(self, take: Take, speech: Speech) -> EmotionTrack:
        """The emotion of the take's reference clip: over time if it changes, and constant otherwise."""
        changes, clip = len(take.emotions) > 1, reference_clip(take)
        found = extract_emotion(
            reference(clip),
            self.way,
            as_track=changes,
            detector=DrawnFaceDetector(clip),
            residency=self.residency,
            hooks=Hooks(cancelled=self.hooks.cancelled, notice=lambda _: None),
        )
        return found.emotion if isinstance(found.emotion, EmotionTrack) else EmotionTrack.constant(found.emotion)


@dataclass(frozen=True)
class DrawnFaceDetector:
    """Finds the face in the pictures of a drawn clip: where it was drawn.

    No detector of photographs finds drawn faces, so finding the face has no part in what is measured here.
    """

    clip: TrainingClip

    def detect(self, picture: np.ndarray) -> list[FaceBox]:
        """See :class:`dicetalk.portrait.faces.FaceDetector`; none in a picture that is not the clip's."""
        same = (i for i, frame in enumerate(self.clip.frames) if np.array_equal(frame, picture))
        return [self.clip.face_in(frame) for frame in itertools.islice(same, 1)]


@dataclass(frozen=True)
class Transfer:
    """One emotion that was taken from a clip.

    Args:
        take: what was asked for.
        judged: the emotion that is seen.
    """

    take: Take
    judged: str

    @property
    def right(self) -> bool:
        """Whether it is the reference's."""
        return self.judged == self.take.emotions[0]


def transfer_takes(clips_each: int, seed: int = 0) -> list[Take]:
    """Takes of each emotion, whose emotion comes from somebody with the other kind of face and voice."""
    people, lines = unseen_people(), sentences("test")
    takes = []
    for number in range(clips_each * len(PRESET_NAMES)):
        emotion, line = PRESET_NAMES[number % len(PRESET_NAMES)], lines[number % len(lines)]
        person = people[number % len(people)]
        takes.append(Take(person, (emotion,), 1.0, (line,), _other(person, seed + number), seed + number))
    return takes


def change_takes(count: int, seed: int = 0) -> list[Take]:
    """Takes in which :data:`CHANGE` comes from somebody else's clip."""
    people, lines = unseen_people(), sentences("test")
    pairs = [(lines[2 * number % len(lines)], lines[(2 * number + 1) % len(lines)]) for number in range(count)]
    return [
        Take(people[number], CHANGE, 1.0, pair, _other(people[number], seed + number), seed + number)
        for number, pair in enumerate(pairs)
    ]


def measure_transfer(make: Make, judge: Judge, takes: Sequence[Take], hooks: Hooks = SILENT) -> list[Transfer]:
    """Show every take with its reference's emotion, and judge what is seen.

    Args:
        make: makes a take, as :class:`ReferenceMaker` does, or draws it.
        judge: classifies frames.
        takes: as :func:`transfer_takes` makes them.
        hooks: hears the stage ``transfer``, in takes.

    Raises:
        DiceTalkError: an emotion cannot be extracted, or espeak-ng is missing.
    """
    found = []
    for take in takes:
        judged = judge(make(take, spoken(take)).frames).mean(axis=0).argmax()
        found.append(Transfer(take, PRESET_NAMES[judged]))
        hooks.report("transfer", len(found), len(takes))
    return found


def measure_change(make: Make, judge: Judge, takes: Sequence[Take], hooks: Hooks = SILENT) -> list[float]:
    """Seconds by which each change comes later (negative: earlier) than in its reference.

    The takes are those of :func:`change_takes`; otherwise as :func:`measure_transfer`.
    """
    late = []
    for take in takes:
        shown = judge(make(take, spoken(take)).frames)
        late.append((change_frame(shown, take) - change_frame(reference_clip(take).weights, take)) / FPS)
        hooks.report("transfer", len(late), len(takes))
    return late


def transfer_rows(
    model: DiceModel,
    judges: Judges,
    settings: SamplerSettings,
    size: int,
    residency: Residency = CPU,
    hooks: Hooks = SILENT,
) -> list[Row]:
    """How often an emotion that the model's embedder takes from a clip is seen on another face, and how late.

    Beside it stands what the judge sees in faces that are drawn with that emotion, and in the references themselves.

    Args:
        model: with an embedder and an expression reader.
        judges: trained.
        settings: of the sampler.
        size: side of the pictures in pixels.
        residency: where networks run.
        hooks: progress of `transfer` in takes.

    Raises:
        EmotionError: the model lacks one of the two.
        DiceTalkError: as :func:`measure_transfer`.
    """
    judge = emotion_judge(judges)
    embedder, reader = model.embedder, model.expression_reader
    if embedder is None or reader is None:
        raise EmotionError("A transfer needs a model with an embedder and an expression reader.")

    def listen(samples: np.ndarray) -> SpeechFeatures:
        return speech_features(samples, model.whisper, residency=residency)

    def make_by(modality: str) -> ReferenceMaker:
        express = ReadExpressions(reader, residency)
        way = Embedding(embedder, express, listen, modality)
        return ReferenceMaker(model, settings, size, residency, hooks, way=way)

    def share(found: Sequence[Transfer]) -> float:
        return float(np.mean([each.right for each in found]))

    takes, changes = transfer_takes(CLIPS_EACH), change_takes(CHANGES)
    drawn = share(measure_transfer(lambda take, sound: drawn_shot(take, sound, size), judge, takes, hooks))
    rows = [
        Row(
            f"transfer: emotion of a clip's {name} seen on another face",
            share(measure_transfer(make_by(modality), judge, takes, hooks)),
            drawn,
            bar,
        )
        for name, modality, bar in (("face", "video", 0.85), ("voice", "audio", None), ("face and voice", "both", 0.85))
    ]
    late = measure_change(make_by("video"), judge, changes, hooks)
    seen = measure_change(lambda take, _: reference_shot(take), judge, changes, hooks)
    return [
        *rows,
        Row(
            "transfer: a change is late or early by at most, seconds",
            float(np.abs(late).max()),
            float(np.abs(seen).max()),
            0.5,
            "lower",
        ),
    ]


def emotion_judge(judges: Judges) -> Judge:
    """The trained judge of emotions, of frames."""

    def judge(frames: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return judges.emotions(judge_input(head_crops(frames)))[0].numpy()

    return judge


def change_frame(scores: np.ndarray, take: Take) -> int:
    """The frame that best divides a clip into its two emotions, by scores of the presets, ``(N, 8)``."""
    first, second = (PRESET_NAMES.index(emotion) for emotion in take.emotions)
    later = scores[:, second] > scores[:, first]
    # Wrong frames if the change came before frame n, for n from 0 to N.
    wrong = np.concatenate(([0], later.cumsum())) + np.concatenate(((~later)[::-1].cumsum()[::-1], [0]))
    return int(wrong.argmin())


@lru_cache(maxsize=CLIPS_EACH * len(PRESET_NAMES) + CHANGES)
def reference_clip(take: Take) -> TrainingClip:
    """The drawn clip that a take's emotion comes from."""
    if len(take.emotions) > 1:
        return make_changing_clip(take.giver, take.emotions, take.intensity, take.sentences, take.seed)
    return make_clip(take.giver, take.emotions[0], take.intensity, take.sentences[0], take.seed)


def reference_shot(take: Take) -> Shot:
    """The reference clip of a take in place of what is made with its emotion."""
    clip = reference_clip(take)
    return Shot(take, clip.frames, clip.mouth, clip.weights)


def reference(clip: TrainingClip) -> Reference:
    """A drawn clip as an emotion can be taken from it: pictures and sound, nothing that only the drawing knows."""
    return replace(reference_of(clip.frames, clip.fps, (clip.sound, clip.sample_rate)), name="drawn clip")


def _other(person: int, number: int) -> int:
    high = sample_identity(person).high_voice
    others = [other for other in unseen_people() if sample_identity(other).high_voice != high]
    return others[number % len(others)]
