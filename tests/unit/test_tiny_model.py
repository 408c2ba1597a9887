"""What the shipped model must do: a few clips, at a looser bar than `dicetalk evaluate tiny`."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dicetalk.checkpoints.find import tiny_folder
from dicetalk.checkpoints.load import load_model
from dicetalk.cli.demo import bundled
from dicetalk.cli.model_folder import recommended
from dicetalk.drawn.evaluate.generate import Maker
from dicetalk.drawn.evaluate.judge_training import load_judges
from dicetalk.drawn.evaluate.measures import (
    emotion_accuracy,
    mouth_correlation,
    mouth_lag,
    nearest_accuracy,
    same_but_weaker,
    silent_opening,
    strengths_by_intensity,
)
from dicetalk.drawn.evaluate.plan import Plan, unseen_people
from dicetalk.drawn.evaluate.run import Evaluation, evaluate, people_gallery
from dicetalk.drawn.evaluate.takes import Sound, Take
from dicetalk.drawn.evaluate.transfer import ReferenceMaker, emotion_judge, measure_transfer, transfer_takes
from dicetalk.drawn.voices import PROGRAM, sentences
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.emotion.reference.expressions import ReadExpressions
from dicetalk.emotion.reference.extract import Embedding

EMOTIONS = ("happy", "sad", "angry", "surprised")


def bundled_sound(take: Take) -> Sound:
    _, speech = bundled()
    return speech.samples, 16_000


@pytest.fixture(scope="module")
def found() -> Evaluation:
    model = load_model(tiny_folder(), dtype=torch.float32)
    settings, size = recommended(model)
    judges = load_judges(Path(__file__).parent / "data" / "judges.safetensors")
    people = unseen_people()
    takes = [Take(people[i], (emotion,), 1.0, ("bundled",), seed=i) for i, emotion in enumerate(EMOTIONS)]
    make = Maker(model, settings, size)
    gallery = people_gallery(people, judges, size)
    return evaluate(make, Plan(takes), judges, gallery, settings, size, say=bundled_sound)


def test_a_weaker_emotion_is_shown_weaker() -> None:
    model = load_model(tiny_folder(), dtype=torch.float32)
    settings, size = recommended(model)
    judges = load_judges(Path(__file__).parent / "data" / "judges.safetensors")
    people = unseen_people()
    full = [Take(people[i], (emotion,), 1.0, ("bundled",), seed=i) for i, emotion in enumerate(("happy", "surprised"))]
    weaker = [replace(take, intensity=level) for take in full for level in (0.3, 0.6)]

    def say(take: Take) -> Sound:
        sound, rate = bundled_sound(take)
        return sound[: 2 * rate], rate

    settings = replace(settings, steps=5)
    gallery = people_gallery(people[:2], judges, size)
    found = evaluate(Maker(model, settings, size), Plan(full, weaker), judges, gallery, settings, size, say=say)
    strengths = strengths_by_intensity(same_but_weaker(found.generated))
    assert len(strengths) == 2
    for emotion, levels in strengths.items():
        assert levels[0.3] + 0.2 < min(levels[0.6], levels[1.0]), (emotion, levels)


@pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="espeak-ng is not installed")
def test_an_emotion_taken_from_a_strangers_face_is_seen_on_another() -> None:
    model = load_model(tiny_folder(), dtype=torch.float32)
    settings, size = recommended(model)
    judges = load_judges(Path(__file__).parent / "data" / "judges.safetensors")
    short = min(sentences("test"), key=len)  # the reference's, too
    takes = [replace(take, sentences=(short,)) for take in transfer_takes(1) if take.emotions[0] in EMOTIONS[:3]]
    way = Embedding(model.embedder, ReadExpressions(model.expression_reader), modality="video")
    make = ReferenceMaker(model, replace(settings, steps=3), size, way=way)
    found = measure_transfer(make, emotion_judge(judges), takes)
    assert sum(each.right for each in found) >= 2, [(each.take.emotions[0], each.judged) for each in found]


def test_it_shows_the_emotion_that_is_asked_for(found: Evaluation) -> None:
    assert emotion_accuracy(found.generated.presets) >= 0.75, [
        PRESET_NAMES[shot.judged] for shot in found.generated.presets
    ]


def test_its_mouth_follows_the_speech_and_closes_in_silence(found: Evaluation) -> None:
    shots = found.generated.shots
    assert mouth_correlation(shots) > 0.8
    assert abs(mouth_lag(shots)) <= 1
    assert silent_opening(shots) < 0.2


def test_it_keeps_the_face_of_the_portrait(found: Evaluation) -> None:
    assert nearest_accuracy(found.generated.shots, found.gallery) > 0.8  # one in twenty by chance
