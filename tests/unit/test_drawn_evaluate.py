"""The evaluation judges what is drawn as right, and catches what is not: wrong emotions, frozen mouths, other people,
seams."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dicetalk.drawn.clips import CHANGE_SECONDS, SAMPLE_RATE
from dicetalk.drawn.evaluate.judge_training import load_judges
from dicetalk.drawn.evaluate.judges import Judges
from dicetalk.drawn.evaluate.measures import (
    change_correlation,
    change_jump,
    confusion,
    emotion_accuracy,
    emotion_score,
    leakage,
    mouth_correlation,
    mouth_lag,
    nearest_accuracy,
    ordered,
    rows_of,
    same_but_weaker,
    seams,
    silent_opening,
    strengths_by_intensity,
)
from dicetalk.drawn.evaluate.pictures import write_pictures
from dicetalk.drawn.evaluate.plan import CHANGES, Plan, ablation_plan, full_plan, quick_plan, unseen_people
from dicetalk.drawn.evaluate.run import Evaluation, as_json, evaluate, people_gallery
from dicetalk.drawn.evaluate.scores import Gallery, Scores
from dicetalk.drawn.evaluate.takes import Shot, Sound, Take, asked_weights, change_moments, drawn_shot
from dicetalk.drawn.faces.identity import identity_seeds, sample_identity
from dicetalk.drawn.voices import sentences
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.evaluate.seams import last_borders
from dicetalk.settings import FPS, SamplerSettings

SIZE = 128
SETTINGS = SamplerSettings()
SECONDS = {0: 0.8, 1: 1.6, 2: 3.2, 3: 4.8}
"""Length of a sound by the number of sentences in it."""


def babble(take: Take) -> Sound:
    """Syllables of different loudness and vowels in place of espeak-ng's voice; silence if nothing is said."""
    rng = np.random.default_rng([take.person, take.seed])
    length = round(SECONDS[len(take.sentences)] * SAMPLE_RATE)
    syllables = length * 5 // SAMPLE_RATE
    level, hertz = rng.uniform(0, 0.25, syllables), rng.uniform(300, 700, syllables)
    level[[0, -1]] = 0
    at = np.arange(length) * syllables // length
    tone = np.sin(2 * np.pi * np.cumsum(hertz[at]) / SAMPLE_RATE)
    return (tone * level[at] * bool(take.sentences)).astype(np.float32), SAMPLE_RATE


@pytest.fixture(scope="module")
def judges() -> Judges:
    """Trained by ``judges_of`` with its usual settings."""
    return load_judges(Path(__file__).parent / "data" / "judges.safetensors")


@pytest.fixture(scope="module")
def gallery(judges: Judges) -> Gallery:
    return people_gallery(unseen_people(), judges, SIZE)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return full_plan(1, videos=True)


@pytest.fixture(scope="module")
def changed(judges: Judges, gallery: Gallery) -> Callable[..., Evaluation]:
    """Evaluates drawn clips, soft as generated ones, after something was done to them."""

    def run(plan: Plan, change: Callable[[Shot, Sound], Shot] = lambda shot, sound: shot) -> Evaluation:
        def make(take: Take, sound: Sound) -> Shot:
            shot = change(drawn_shot(take, sound, SIZE), sound)
            soft = np.stack([cv2.GaussianBlur(frame, (0, 0), 0.7) for frame in shot.frames])
            return replace(shot, take=take, frames=soft)

        return evaluate(make, plan, judges, gallery, SETTINGS, SIZE, say=babble)

    return run


@pytest.fixture(scope="module")
def truth(changed: Callable[..., Evaluation], plan: Plan) -> Evaluation:
    return changed(plan)


# What is right is judged right


def test_every_measure_of_drawn_clips_reaches_its_bar(truth: Evaluation) -> None:
    rows = rows_of(truth.generated, truth.drawn, truth.gallery)
    assert len(rows) == 14
    assert [row.measure for row in rows if not row.passed] == []


def test_drawn_clips_are_nearly_perfect(truth: Evaluation) -> None:
    scores = truth.generated
    assert mouth_correlation(scores.shots) > 0.97 and mouth_lag(scores.shots) == 0
    assert nearest_accuracy(scores.shots, truth.gallery) > 0.95
    assert abs(leakage(scores.videos, scores.presets, truth.gallery)) < 0.02
    assert np.trace(confusion(scores.presets)) >= 7


def test_every_picture_is_drawn_and_none_of_an_earlier_evaluation_stays(truth: Evaluation, tmp_path: Path) -> None:
    every = write_pictures(truth, tmp_path)
    names = {path.stem for path in every}
    assert names == {"emotions", "intensities", "change", "mouth", "videos", "seams"}
    for path in every:
        picture = np.asarray(Image.open(path))
        assert min(picture.shape[:2]) > 150 and picture.std() > 15, path
    only = Plan(truth.plan.presets)
    less = replace(truth, plan=only, generated=Scores(truth.generated.presets), drawn=Scores(truth.drawn.presets))
    assert {path.stem for path in write_pictures(less, tmp_path)} == {"emotions", "mouth"}
    assert {path.stem for path in tmp_path.iterdir()} == {"emotions", "mouth"}


def test_the_report_is_plain_and_complete(truth: Evaluation) -> None:
    report = json.loads(json.dumps(as_json(truth, rows_of(truth.generated, truth.drawn, truth.gallery))))
    assert len(report["clips"]) == len(truth.plan.takes) == len({clip["clip"] for clip in report["clips"]})
    assert report["rows"][0]["passed"] is True and sum(map(sum, report["confusion"])) == 8
    assert list(report["strengths_by_intensity"]["happy"]) == ["0.3", "0.6", "1.0"]
    assert "mouth_correlation" not in next(clip for clip in report["clips"] if "silent" in clip["clip"])


# What is wrong is caught


def test_a_wrong_emotion_is_caught(changed: Callable[..., Evaluation], plan: Plan) -> None:
    def shift(shot: Shot, sound: Sound) -> Shot:
        place = PRESET_NAMES.index(shot.take.emotions[0])
        return drawn_shot(replace(shot.take, emotions=(PRESET_NAMES[(place + 1) % 8],)), sound, SIZE)

    found = changed(Plan(plan.presets), shift)
    assert emotion_accuracy(found.generated.presets) < 0.2
    assert emotion_score(found.generated.presets) < 0.3 < 0.7 < emotion_score(found.drawn.presets)
    assert np.trace(np.roll(confusion(found.generated.presets), -1, axis=1)) >= 7


def test_a_frozen_mouth_is_caught(changed: Callable[..., Evaluation], plan: Plan) -> None:
    found = changed(
        Plan(plan.presets[:2]), lambda shot, _: replace(shot, frames=shot.frames[:1].repeat(len(shot.frames), axis=0))
    )
    assert abs(mouth_correlation(found.generated.shots)) < 0.2


def test_a_late_mouth_is_caught(changed: Callable[..., Evaluation], plan: Plan) -> None:
    def late(shot: Shot, _: Sound) -> Shot:
        return replace(shot, frames=np.concatenate([shot.frames[:1].repeat(2, axis=0), shot.frames[:-2]]))

    found = changed(Plan(plan.presets[:3]), late)
    assert mouth_lag(found.generated.shots) == 2
    assert mouth_correlation(found.generated.shots) < 0.8


def test_a_mouth_that_moves_in_silence_is_caught(changed: Callable[..., Evaluation], plan: Plan) -> None:
    def talk(shot: Shot, sound: Sound) -> Shot:
        spoken = babble(replace(shot.take, sentences=("words",)))[0][: len(sound[0])]
        return replace(drawn_shot(shot.take, (spoken, SAMPLE_RATE), SIZE), mouth=shot.mouth)

    silent = Plan(presets=(), silent=plan.silent)
    assert silent_opening(changed(silent, talk).generated.shots) > 0.2
    assert silent_opening(changed(silent).generated.shots) < 0.1


def test_another_face_is_caught(changed: Callable[..., Evaluation], plan: Plan) -> None:
    found = changed(
        Plan(plan.presets[:3]),
        lambda shot, sound: drawn_shot(replace(shot.take, person=shot.take.person + 8), sound, SIZE),
    )
    assert nearest_accuracy(found.generated.shots, found.gallery) < 0.1


def test_a_leak_towards_the_person_of_the_prior_is_caught(changed: Callable[..., Evaluation], plan: Plan) -> None:
    def leak(shot: Shot, sound: Sound) -> Shot:
        if shot.take.source is None:
            return shot
        other = drawn_shot(replace(shot.take, person=shot.take.source), sound, SIZE)
        mixed = (0.6 * shot.frames + 0.4 * other.frames).astype(np.uint8)
        return replace(shot, frames=mixed)

    found = changed(ablation_plan(plan), leak)
    assert leakage(found.generated.videos, found.generated.presets, found.gallery) > 0.1


def test_intensities_that_do_nothing_are_caught(changed: Callable[..., Evaluation], plan: Plan) -> None:
    def full(shot: Shot, sound: Sound) -> Shot:
        seed = round(10 * shot.take.intensity)  # else all three would be equal to the last pixel
        return drawn_shot(replace(shot.take, intensity=1.0, seed=shot.take.seed + seed), sound, SIZE)

    found = changed(Plan(plan.presets, plan.weaker), full)
    assert ordered(strengths_by_intensity(same_but_weaker(found.generated))) < 0.7


def test_a_change_that_jumps_or_never_comes_is_caught(changed: Callable[..., Evaluation], plan: Plan) -> None:
    def jump(shot: Shot, sound: Sound) -> Shot:
        parts = [drawn_shot(replace(shot.take, emotions=(name,)), sound, SIZE).frames for name in shot.take.emotions]
        half = len(shot.frames) // 2
        return replace(shot, frames=np.concatenate([parts[0][:half], parts[-1][half:]]))

    changes = Plan(presets=(), changes=plan.changes)
    jumping = changed(changes, jump).generated
    for way in CHANGES:
        assert len(jumping.by(way)) == 2 and change_jump(jumping.by(way)) > 0.5

    def never(shot: Shot, sound: Sound) -> Shot:
        first = drawn_shot(replace(shot.take, emotions=shot.take.emotions[:1]), sound, SIZE)
        return replace(shot, frames=first.frames)

    assert np.ptp(changed(changes, never).generated.changes[0].weights) > 0.9, "a change was asked for"
    assert change_correlation(changed(changes, never).generated.changes) < 0.5


def test_a_change_is_asked_for_straight_or_by_way_of_neutral(plan: Plan) -> None:
    assert [take.emotions for take in plan.changes] == [way for way in CHANGES for _ in range(2)]
    straight, by_neutral = plan.changes[0], plan.changes[2]
    happy, sad = (PRESET_NAMES.index(name) for name in ("happy", "sad"))
    for take, middle in ((straight, 0.5), (by_neutral, 0.0)):
        start, *_, stop = change_moments(take, 40 / FPS)
        assert stop - start == pytest.approx(CHANGE_SECONDS) and start + stop == pytest.approx(40 / FPS)
        weights, moments = asked_weights(take, 40), np.arange(40) / FPS
        assert (weights[moments <= start, happy] == 1).all() and (weights[moments >= stop, sad] == 1).all()
        assert weights[20, [happy, sad]] == pytest.approx([middle, middle], abs=1e-5)
        assert weights.sum(axis=1).min() == pytest.approx(2 * middle, abs=1e-5)
    shown = asked_weights(by_neutral, 40)[:, [happy, sad]]
    assert shown.prod(axis=1).max() < 1e-6, "one has gone before the other comes"


def test_seams_are_caught(changed: Callable[..., Evaluation], plan: Plan) -> None:
    def seam(shot: Shot, _: Sound) -> Shot:
        frames = shot.frames.astype(int)
        for number, border in enumerate(last_borders(SETTINGS, len(frames))):
            frames[border:] += 12 if number % 2 else -12
        return replace(shot, frames=frames.clip(0, 255).astype(np.uint8))

    long = Plan(presets=(), long=plan.long)
    ratio, outside = seams(changed(long, seam).generated.shots)
    assert ratio > 2 and outside > 0.9


# The plan


def test_plans_ask_for_unseen_people_and_sentences() -> None:
    plan = full_plan(3, videos=True)
    people, lines = set(identity_seeds("test")), set(sentences("test"))
    assert len(unseen_people()) == 20 and {take.person for take in plan.takes} == set(unseen_people()) <= people
    assert {sentence for take in plan.takes for sentence in take.sentences} <= lines
    assert len(set(plan.takes)) == len(plan.takes) == len({take.name for take in plan.takes})
    counts = [sum(take.emotions == (name,) for take in plan.presets) for name in PRESET_NAMES]
    assert counts == [3] * 8 and len(plan.weaker) == 14
    for take in plan.videos:
        assert take.source in people and take.source != take.person
        assert sample_identity(take.source).high_voice != sample_identity(take.person).high_voice
        assert replace(take, source=None) in plan.presets
    assert not full_plan(1, videos=False).videos
    assert len(quick_plan().takes) == 9
    compared = quick_plan(2, videos=True)
    assert len(ablation_plan(compared).takes) == len(compared.takes) - 1 == 32, "all but silence"
    assert [replace(take, source=None) for take in compared.videos] == list(compared.presets)
