"""Speech with emotions, and the clips that speak it."""

import collections
import itertools
import shutil

import librosa
import numpy as np
import pytest

from dicetalk.drawn import voices
from dicetalk.drawn.clips import (
    CHANGING_TAKES,
    INTENSITIES,
    PAIRED_INTENSITIES,
    SAMPLE_RATE,
    TAKE_FRAMES,
    TAKE_INTENSITIES,
    ClipPlan,
    TrainingClip,
    clip_of,
    clips,
    make_changing_clip,
    make_clip,
    plan_clips,
    plan_pairs,
    plan_takes,
)
from dicetalk.drawn.faces.identity import identity_seeds
from dicetalk.drawn.faces.mouth import measure_mouth
from dicetalk.drawn.voices import HIGH_VOICES, LOW_VOICES, PROSODY, Voice, sample_voice, sentences, speak
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.errors import EmotionError, SettingError, SpeechError

spoken = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")

VOICE = Voice("en-us+f3", 50, 165)
LINES = sentences("test")[:3]
PERSON = identity_seeds("test")[3]


def manner(emotion: str, intensity: float = 1.0) -> dict[str, float]:
    """Pitch, its range, pace and loudness of three sentences."""
    measured = []
    for line in LINES:
        sound, rate = speak(line, VOICE, emotion, intensity)
        pitch, voiced, _ = librosa.pyin(sound, fmin=80, fmax=500, sr=rate, frame_length=1024)
        pitch = 12 * np.log2(pitch[voiced] / 100)
        level = 20 * np.log10(np.sqrt((sound[np.abs(sound) > 0.01] ** 2).mean()))
        measured.append((np.median(pitch), pitch.std(), len(line.split()) * rate / len(sound), level))
    return dict(zip(("pitch", "range", "rate", "level"), np.mean(measured, 0).tolist(), strict=True))


def lag_of(measured: np.ndarray, truth: np.ndarray, most: int = 4) -> int:
    """By how many frames `measured` comes later than `truth`."""
    centred, reference = measured - measured.mean(), truth - truth.mean()
    scores = {lag: (np.roll(centred, -lag) * reference)[most:-most].sum() for lag in range(-most, most + 1)}
    return max(scores, key=scores.__getitem__)


# Voices


def test_sentences_are_many_short_and_disjoint() -> None:
    train, test = sentences("train"), sentences("test")
    assert len(set(train)) == len(train) >= 60 and len(set(test)) == len(test) >= 20
    assert not set(train) & set(test)
    assert all(4 <= len(line.split()) <= 9 for line in train + test)
    with pytest.raises(SettingError, match="dev"):
        sentences("dev")


def test_every_emotion_has_a_prosody_and_intensity_leads_there() -> None:
    assert tuple(PROSODY) == PRESET_NAMES
    assert PROSODY["sad"].at(0.0) == PROSODY["neutral"]
    assert PROSODY["sad"].at(1.0) == PROSODY["sad"]
    assert PROSODY["angry"].at(0.5).gain_db == pytest.approx(3)


def test_voices_belong_to_their_seed() -> None:
    assert sample_voice(5, True) == sample_voice(5, True)
    assert {sample_voice(seed, True).name for seed in range(60)} == set(HIGH_VOICES)
    assert {sample_voice(seed, False).name for seed in range(60)} == set(LOW_VOICES)


def test_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voices.shutil, "which", lambda name: None)
    with pytest.raises(SpeechError, match="apt-get install espeak-ng"):
        speak("Hello.", VOICE)


@spoken
def test_every_voice_is_installed_and_unlike_the_others() -> None:
    sounds = [speak("Hello there.", Voice(name, 50, 165)) for name in HIGH_VOICES + LOW_VOICES]
    assert {rate for _, rate in sounds} == {SAMPLE_RATE}
    assert len({sound.tobytes() for sound, _ in sounds}) == len(sounds)


@spoken
def test_speech_is_deterministic_and_varies_with_the_seed() -> None:
    sound, rate = speak(LINES[0], VOICE, "happy", 1.0, 3)
    assert sound.dtype == np.float32 and sound.ndim == 1 and 1 < len(sound) / rate < 4
    assert 0.1 < np.abs(sound).max() < 1
    np.testing.assert_array_equal(sound, speak(LINES[0], VOICE, "happy", 1.0, 3)[0])
    assert len(sound) != len(speak(LINES[0], VOICE, "happy", 1.0, 4)[0])


@spoken
def test_emotions_are_heard() -> None:
    heard = {emotion: manner(emotion) for emotion in PRESET_NAMES}
    neutral = heard["neutral"]
    assert heard["happy"]["pitch"] > neutral["pitch"] + 1.5 and heard["happy"]["range"] > 1.2 * neutral["range"]
    assert heard["sad"]["pitch"] < neutral["pitch"] - 1 and heard["sad"]["range"] < 0.7 * neutral["range"]
    assert heard["sad"]["rate"] < 0.75 * neutral["rate"] and heard["sad"]["level"] < neutral["level"] - 4
    assert heard["angry"]["level"] > neutral["level"] + 4
    assert heard["surprised"]["pitch"] == max(voice["pitch"] for voice in heard.values())
    assert heard["fear"]["rate"] == max(voice["rate"] for voice in heard.values())
    assert heard["fear"]["range"] < neutral["range"] < heard["surprised"]["range"]
    # Any two differ clearly in at least one of the four.
    steps = {"pitch": 1.0, "range": 0.6, "rate": 0.3, "level": 1.5}
    for one, other in itertools.combinations(heard.values(), 2):
        assert max(abs(one[key] - other[key]) / step for key, step in steps.items()) > 1


@spoken
def test_intensity_is_heard() -> None:
    levels = [manner("angry", intensity)["level"] for intensity in (0.0, *INTENSITIES)]
    assert levels == sorted(levels) and levels[-1] - levels[0] > 4
    assert manner("fear", 0.0) == manner("neutral")


@spoken
def test_text_cannot_pass_for_marks_or_options() -> None:
    plain, _ = speak("cats and dogs", VOICE)
    marked, _ = speak("cats <break time='9s'/> and dogs", VOICE)
    assert len(marked) < len(plain) + 8 * SAMPLE_RATE
    assert len(speak("--version", VOICE)[0]) > 0.3 * SAMPLE_RATE


@spoken
def test_what_cannot_be_said_is_refused() -> None:
    with pytest.raises(SpeechError, match="said nothing"):
        speak("   ", VOICE)
    with pytest.raises(SpeechError, match="qqq"):
        speak("Hello.", Voice("qqq", 50, 165))
    with pytest.raises(EmotionError, match="bored"):
        speak("Hello.", VOICE, "bored")
    with pytest.raises(EmotionError, match=r"1\.5"):
        speak("Hello.", VOICE, "happy", 1.5)


# Clips


def assert_same(one: TrainingClip, other: TrainingClip) -> None:
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(other, name), err_msg=name)


def assert_consistent(clip: TrainingClip, size: int = 128) -> None:
    frames = len(clip.frames)
    assert clip.frames.shape == (frames, size, size, 3) and clip.frames.dtype == np.uint8
    assert clip.coefficients.shape == (frames, 17) and clip.coefficients.dtype == np.float32
    assert clip.mouth.shape == (frames,) and clip.poses.shape == (frames, 6)
    assert clip.weights.shape == (frames, 8) and clip.boxes.shape == (frames, 4)
    assert clip.landmarks.shape == (frames, 5, 2)
    assert clip.sound.dtype == np.float32 and len(clip.sound) == round(frames / clip.fps * clip.sample_rate)


def test_silent_clip_keeps_the_mouth_closed() -> None:
    for emotion in PRESET_NAMES:
        clip = make_clip(PERSON, emotion, 1.0, None, seed=1)
        assert_consistent(clip)
        assert len(clip.frames) == 40 and not clip.sound.any() and not clip.mouth.any() and clip.sentences == ()
        assert measure_mouth(clip.frames).max() < 0.1


def test_clips_are_deterministic_and_scenes_are_not_bound_to_people() -> None:
    first = make_clip(PERSON, "happy", 0.6, None, seed=4, size=64)
    assert_consistent(first, 64)
    assert_same(first, make_clip(PERSON, "happy", 0.6, None, seed=4, size=64))
    other = make_clip(PERSON, "happy", 0.6, None, seed=5, size=64)
    assert np.abs(first.frames[0, :8].astype(int) - other.frames[0, :8]).mean() > 5
    assert first.face.landmarks == tuple(map(tuple, first.landmarks[0].tolist()))
    assert first.face.width == first.boxes[0, 2]


def test_bad_emotion_and_split_are_refused() -> None:
    with pytest.raises(EmotionError, match="bored"):
        make_clip(PERSON, "bored", 1.0, None, seed=0)
    with pytest.raises(SettingError, match="dev"):
        next(plan_clips("dev", 0))
    with pytest.raises(SettingError, match="2 emotions, 1 sentences"):
        make_changing_clip(PERSON, ("happy", "sad"), 1.0, LINES[:1], seed=0)


def test_plan_is_half_neutral_and_stays_in_its_split() -> None:
    plans = {split: list(itertools.islice(plan_clips(split, 7), 600)) for split in ("train", "test")}
    for split, planned in plans.items():
        assert sum(plan.emotion == "neutral" for plan in planned) == 300
        assert {plan.identity_seed for plan in planned} <= set(identity_seeds(split))
        assert {plan.sentence for plan in planned} <= {None, *sentences(split)}
        assert {plan.intensity for plan in planned if plan.emotion != "neutral"} == set(INTENSITIES)
        assert {plan.emotion for plan in planned} == set(PRESET_NAMES)
        assert 0.02 < np.mean([plan.sentence is None for plan in planned]) < 0.12
    assert plans["train"] == list(itertools.islice(plan_clips("train", 7), 600))
    assert plans["train"] != list(itertools.islice(plan_clips("train", 8), 600))


def test_takes_show_every_emotion_of_a_person_in_one_scene() -> None:
    plans = list(plan_takes("train", 3, people=40))
    assert plans == list(plan_takes("train", 3, people=40)) != list(plan_takes("train", 4, people=40))
    of_one = 8 + CHANGING_TAKES
    people = [plans[start : start + of_one] for start in range(0, len(plans), of_one)]
    assert [group[0].identity_seed for group in people] == list(identity_seeds("train")[:40])
    for group in people:
        assert tuple(plan.emotion for plan in group[:8]) == PRESET_NAMES
        assert len({(plan.identity_seed, plan.scene) for plan in group}) == 1
        assert [plan.then is None for plan in group] == [True] * 8 + [False] * CHANGING_TAKES
        assert all(plan.then[0] != plan.emotion and plan.then[1] != plan.sentence for plan in group[8:])
    assert {plan.then[0] for plan in plans if plan.then} == {plan.emotion for plan in plans if plan.then}
    levels = [plan.intensity for plan in plans if plan.then is None and plan.emotion != "neutral"]
    shares = [np.mean([level == intensity for level in levels]) for intensity in INTENSITIES]
    np.testing.assert_allclose(shares, TAKE_INTENSITIES, atol=0.08)


def test_pairs_are_of_one_person_emotion_and_intensity_and_say_different_things() -> None:
    plans = list(plan_pairs("train", 3, people=5))
    assert plans == list(plan_pairs("train", 3, people=5)) != list(plan_pairs("train", 4, people=5))
    groups = collections.Counter((plan.identity_seed, plan.emotion, plan.intensity) for plan in plans)
    assert set(groups.values()) == {2} and len(groups) == 5 * (1 + 7 * PAIRED_INTENSITIES)
    assert {intensity for _, _, intensity in groups} == {0.0, *INTENSITIES}
    assert all(one.sentence != other.sentence for one, other in zip(plans[::2], plans[1::2], strict=True))


def test_a_scene_and_a_portrait_do_not_depend_on_the_clip() -> None:
    one = make_clip(PERSON, "happy", 1.0, None, 1, 64, scene=2)
    other = make_clip(PERSON, "angry", 0.3, None, 5, 64, scene=2)
    np.testing.assert_array_equal(one.portrait, other.portrait)
    assert np.abs(one.frames.astype(int) - other.frames).mean() > 1
    assert (one.portrait != make_clip(PERSON, "happy", 1.0, None, 1, 64, scene=3).portrait).any()


@spoken
def test_takes_of_a_person_share_a_portrait_and_not_their_frames() -> None:
    made = [clip_of(plan, 32) for plan in itertools.islice(plan_takes("train", 0, people=1), 8)]
    assert all(len(clip.frames) == TAKE_FRAMES for clip in made)
    assert len({clip.portrait.tobytes() for clip in made}) == 1
    assert len({clip.frames.tobytes() for clip in made}) == 8
    assert tuple(clip.emotions[0] for clip in made) == PRESET_NAMES


@spoken
@pytest.mark.parametrize("seed", range(4))
def test_in_a_changing_take_one_emotion_passes_into_another(seed: int) -> None:
    plan = ClipPlan(PERSON, "happy", 1.0, LINES[0], seed, scene=2, longest=TAKE_FRAMES, then=("sad", LINES[1]))
    clip = clip_of(plan, 32)
    assert_consistent(clip, 32)
    assert len(clip.frames) == TAKE_FRAMES and clip.emotions == ("happy", "sad")
    happy, sad = clip.weights[:, PRESET_NAMES.index("happy")], clip.weights[:, PRESET_NAMES.index("sad")]
    np.testing.assert_allclose(happy + sad, 1, atol=1e-6)
    assert happy[0] > 0.5 > happy[-1] and (np.diff(sad) >= 0).all()
    np.testing.assert_array_equal(clip.portrait, make_clip(PERSON, "angry", 1.0, None, 9, 32, scene=2).portrait)


@spoken
def test_a_take_is_a_part_of_its_clip() -> None:
    whole = make_clip(PERSON, "sad", 1.0, LINES[0], 7, 32)
    parts = [make_clip(PERSON, "sad", 1.0, LINES[0], seed, 32, longest=TAKE_FRAMES) for seed in (7, 8, 9)]
    for part in parts:
        assert_consistent(part, 32)
        assert len(part.frames) == TAKE_FRAMES < len(whole.frames)
    at = np.flatnonzero(whole.sound == parts[0].sound[len(parts[0].sound) // 2])
    middle = len(parts[0].sound) // 2
    assert any((whole.sound[i - middle :][: len(parts[0].sound)] == parts[0].sound).all() for i in at if i >= middle)
    assert len(make_clip(PERSON, "sad", 1.0, None, 7, 32, longest=1000).frames) == 40


@spoken
@pytest.mark.parametrize("emotion", PRESET_NAMES)
def test_mouth_follows_the_speech_without_lag(emotion: str) -> None:
    for number in range(2):
        clip = make_clip(PERSON + number, emotion, 1.0, LINES[number], seed=number)
        assert_consistent(clip)
        measured = measure_mouth(clip.frames)
        assert np.corrcoef(measured, clip.mouth)[0, 1] > 0.97
        assert lag_of(measured, clip.mouth) == 0
        assert clip.mouth.max() > 0.4 and clip.mouth.std() > 0.1
        # The loudness of the sound itself, measured another way, rises and falls with the curve.
        loudness = librosa.feature.rms(y=clip.sound, frame_length=1764, hop_length=1764, center=False)[0]
        assert abs(lag_of(np.sqrt(loudness), clip.mouth)) <= 1
        assert not measured[clip.mouth == 0].max(initial=0) > 0.1


@spoken
def test_spoken_clips_are_deterministic() -> None:
    assert_same(make_clip(PERSON, "fear", 1.0, LINES[0], 2), make_clip(PERSON, "fear", 1.0, LINES[0], 2))


@spoken
def test_emotion_changes_smoothly_within_a_clip() -> None:
    clip = make_changing_clip(PERSON, ("happy", "sad"), 1.0, LINES[:2], seed=3)
    assert_consistent(clip)
    assert clip.emotions == ("happy", "sad") and clip.sentences == LINES[:2]
    happy, sad = (clip.weights[:, PRESET_NAMES.index(name)] for name in ("happy", "sad"))
    np.testing.assert_allclose(happy + sad, 1, atol=1e-6)
    assert happy[0] == 1 and sad[-1] == 1 and (np.diff(happy) <= 0).all()
    assert np.abs(np.diff(sad)).max() < 0.2
    corner = clip.coefficients[:, 8] - clip.coefficients[:, 9]
    assert corner[:8].mean() > 0.5 and corner[-8:].mean() < -0.5
    assert np.corrcoef(measure_mouth(clip.frames), clip.mouth)[0, 1] > 0.97
    # The change happens while nothing is said, between the sentences.
    assert clip.mouth[np.abs(happy - 0.5).argmin()] < 0.2


@spoken
def test_stream_of_clips_follows_its_plan() -> None:
    for plan, clip in itertools.islice(zip(plan_clips("train", 11), clips("train", 11, size=32), strict=False), 3):
        assert (clip.identity_seed, clip.emotions, clip.intensity) == (
            plan.identity_seed,
            (plan.emotion,),
            plan.intensity,
        )
        assert_consistent(clip, 32)
