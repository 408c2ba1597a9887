"""What the shipped model must do: a few clips with bundled speech, at a looser bar than `dicetalk evaluate tiny`."""

from pathlib import Path

import pytest
import torch

from dicetalk.checkpoints.load import load_model
from dicetalk.checkpoints.tiny import tiny_folder
from dicetalk.cli.demo import bundled
from dicetalk.cli.tiny import recommended
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.evaluate.generate import Maker
from dicetalk.evaluate.judge_file import load_judges
from dicetalk.evaluate.measures import emotion_accuracy, mouth_correlation, mouth_lag, nearest_accuracy, silent_opening
from dicetalk.evaluate.plan import unseen_people
from dicetalk.evaluate.run import Evaluation, evaluate, people_gallery
from dicetalk.evaluate.takes import Plan, Sound, Take

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
