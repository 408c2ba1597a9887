"""The measure of emotions that are taken from one face and shown on another."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dicetalk.drawn.clips import TrainingClip, make_clip
from dicetalk.drawn.evaluate import transfer
from dicetalk.drawn.evaluate.plan import unseen_people
from dicetalk.drawn.evaluate.takes import Shot, Take
from dicetalk.drawn.evaluate.transfer import (
    ReferenceMaker,
    change_frame,
    change_takes,
    measure_change,
    measure_transfer,
    transfer_rows,
    transfer_takes,
)
from dicetalk.drawn.faces.expression import emotion_weights
from dicetalk.drawn.faces.identity import sample_identity
from dicetalk.emotion.prior import PRESET_NAMES, EmotionPrior
from dicetalk.emotion.reference.extract import Embedding, Recognition
from dicetalk.emotion.reference.face_track import FaceCrop
from dicetalk.hooks import Hooks
from dicetalk.portrait.faces import FaceBox
from dicetalk.settings import SamplerSettings

PRIORS = {name: EmotionPrior(10 * torch.eye(8, 256)[i], name=name) for i, name in enumerate(PRESET_NAMES)}
HAPPY, ANGRY = PRESET_NAMES.index("happy"), PRESET_NAMES.index("angry")


def test_emotions_come_from_strangers_of_the_other_kind() -> None:
    takes = transfer_takes(2)
    assert [take.emotions[0] for take in takes] == list(PRESET_NAMES) * 2
    for take in (*takes, *change_takes(3)):
        assert take.person != take.source and {take.person, take.source} <= set(unseen_people())
        assert sample_identity(take.person).high_voice != sample_identity(take.source).high_voice
        assert len(take.sentences) == len(take.emotions)


@pytest.mark.parametrize("place", [0, 1, 7, 20])
def test_the_change_is_found_in_noise(place: int) -> None:
    scores = np.zeros((20, 8))
    scores[:place, HAPPY] = scores[place:, ANGRY] = 1.0
    take = Take(0, ("happy", "angry"), 1.0, ("a", "b"))
    assert change_frame(scores, take) == place
    if place == 7:
        scores[3], scores[15] = scores[15].copy(), scores[3].copy()  # a slip on either side
        assert change_frame(scores, take) == 7


class Brightness:
    """In place of a recogniser: the drawn clip's pictures are as bright as the number of their emotion."""

    crop = FaceCrop(8)

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        return np.eye(8, dtype=np.float32)[crops[:, 4, 4, 0] // 20]


class Everywhere:
    def detect(self, picture: np.ndarray) -> list[FaceBox]:
        return [FaceBox(8, 8, 48, 48)]


@dataclass(frozen=True)
class Echo(ReferenceMaker):
    """Makes pictures as bright as the emotion that it is given, `late` frames later."""

    late: int = field(default=0, kw_only=True)

    def __call__(self, take: Take, sound: object) -> Shot:
        mus = self.track(take, None).at(np.arange(60) / 12.5).mu
        levels = np.roll(mus[:, :8].argmax(dim=1).numpy(), self.late).astype(np.uint8)
        levels[: self.late] = levels[self.late]
        return Shot(take, np.full((60, 8, 8, 3), 20, np.uint8) * levels[:, None, None, None], None, None)


def judge(frames: np.ndarray) -> np.ndarray:
    return np.log(np.eye(8)[frames[:, 0, 0, 0] // 20] + 0.01)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips without drawing, and a maker without networks."""

    def clip(take: Take) -> TrainingClip:
        weights = emotion_weights(take.emotions[0], 1.0, 60)
        if len(take.emotions) > 1:
            weights[30:] = emotion_weights(take.emotions[1], 1.0, 30)
        shown = weights.argmax(axis=1).astype(np.uint8)
        frames = np.full((60, 64, 64, 3), 20, np.uint8) * shown[:, None, None, None]
        empty = np.zeros(0)
        fields = dict.fromkeys(TrainingClip.__dataclass_fields__, empty)
        return TrainingClip(**{**fields, "frames": frames, "weights": weights, "fps": 12.5})

    monkeypatch.setattr(transfer, "reference_clip", clip)
    monkeypatch.setattr(transfer, "reference", lambda clip: transfer.reference_of(clip.frames, clip.fps))
    monkeypatch.setattr(transfer, "spoken", lambda take: None)
    monkeypatch.setattr(transfer, "DrawnFaceDetector", lambda clip: Everywhere())


def test_the_face_of_a_drawn_clip_is_where_it_was_drawn() -> None:
    clip = make_clip(100_013, "fear", 1.0, None, 3, 64)
    faces = transfer.DrawnFaceDetector(clip)
    (found,) = faces.detect(clip.frames[30].copy())
    assert found == clip.face_in(30) != clip.face
    assert [found.x, found.y, found.width, found.height] == clip.boxes[30].tolist()
    assert faces.detect(clip.portrait) == []


def test_what_is_shown_is_compared_with_the_reference(drawn: None) -> None:
    make = Echo(None, SamplerSettings(), 64, way=Recognition(Brightness(), PRIORS))
    found = measure_transfer(make, judge, transfer_takes(1))
    assert [result.judged for result in found] == list(PRESET_NAMES) and all(result.right for result in found)
    wrong = measure_transfer(make, lambda frames: judge(0 * frames), transfer_takes(1))
    assert [result.right for result in wrong] == [name == PRESET_NAMES[0] for name in PRESET_NAMES]


@dataclass(frozen=True)
class Obedient:
    """In place of :class:`ReferenceMaker`: sees every emotion and hears none, and changes three frames late."""

    model: object
    settings: SamplerSettings
    size: int
    residency: object
    hooks: Hooks
    way: Embedding = field(kw_only=True)

    def __call__(self, take: Take, sound: object) -> Shot:
        shown = [0 if self.way.modality == "audio" else PRESET_NAMES.index(name) for name in take.emotions]
        levels = np.array([shown[0]] * 33 + [shown[-1]] * 27, np.uint8)
        return Shot(take, np.full((60, 8, 8, 3), 20, np.uint8) * levels[:, None, None, None], None, None)


class Levels:
    """In place of judges: tell emotions by brightness."""

    def emotions(self, heads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        middle = ((heads[:, :, 40:41, 40:41] + 1) * 127.5).round().byte()
        return torch.from_numpy(judge(middle.permute(0, 2, 3, 1).numpy())), None


def test_the_table_tells_face_from_voice_and_how_late_a_change_is(drawn: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn_shot(take: Take, sound: object, size: int) -> Shot:
        level = PRESET_NAMES.index(take.emotions[0])
        return Shot(take, np.full((60, 8, 8, 3), 20 * level, np.uint8), None, None)

    monkeypatch.setattr(transfer, "drawn_shot", drawn_shot)
    monkeypatch.setattr(transfer, "ReferenceMaker", Obedient)
    model = SimpleNamespace(embedder=object(), expression_reader=object(), whisper=None)
    rows = transfer_rows(model, Levels(), SamplerSettings(), 64)
    assert [row.generated for row in rows] == pytest.approx([1, 1 / 8, 1, 3 / 12.5])
    assert [row.drawn for row in rows] == pytest.approx([1, 1, 1, 0])
    assert [row.passed for row in rows] == [True, None, True, True]


@pytest.mark.parametrize("late", [0, 5])
def test_a_late_change_is_measured(drawn: None, late: int) -> None:
    make = Echo(None, SamplerSettings(), 64, way=Recognition(Brightness(), PRIORS), late=late)
    found = measure_change(make, judge, change_takes(2))
    assert found == pytest.approx([late / 12.5] * 2, abs=0.09)
