"""Mixing priors, and tracks over time."""

import itertools
import json
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dicetalk.emotion.files import MAX_FILE_BYTES, mix_from_json, parse_track, read_track, track_from_json
from dicetalk.emotion.mix import MAX_WEIGHT, mix, parse_weights
from dicetalk.emotion.prior import ALIASES, PRESET_NAMES, EmotionPrior, find_prior
from dicetalk.emotion.track import EASINGS, EmotionTrack, Keyframe
from dicetalk.errors import EmotionError


def made_up(seed: int, name: str, sigma: bool = False) -> EmotionPrior:
    generator = torch.Generator().manual_seed(seed)
    spread = torch.rand(256, generator=generator) if sigma else None
    return EmotionPrior(torch.randn(256, generator=generator), spread, name)


PRIORS = {name: made_up(i, name) for i, name in enumerate(PRESET_NAMES)}
SPREAD = {name: made_up(i, name, sigma=True) for i, name in enumerate(PRESET_NAMES)}
NEUTRAL, HAPPY, SAD = (PRIORS[name] for name in ("neutral", "happy", "sad"))


# Mixing


def test_intensity_acts_on_the_difference_to_neutral() -> None:
    assert torch.equal(mix({"happy": 0.0}, PRIORS).mu, NEUTRAL.mu)
    assert torch.equal(mix({}, PRIORS).mu, NEUTRAL.mu)
    assert torch.equal(mix({"neutral": 0.7}, PRIORS).mu, NEUTRAL.mu)
    torch.testing.assert_close(mix({"happy": 1.0}, PRIORS).mu, HAPPY.mu)
    torch.testing.assert_close(mix({"happy": 0.5}, PRIORS).mu, (HAPPY.mu + NEUTRAL.mu) / 2)
    torch.testing.assert_close(mix({"happy": 1.0}, PRIORS, 2.0).mu, 2 * HAPPY.mu - NEUTRAL.mu)


@given(st.dictionaries(st.sampled_from(PRESET_NAMES), st.floats(0, MAX_WEIGHT)), st.floats(0, MAX_WEIGHT))
def test_mix_is_linear(weights: dict[str, float], intensity: float) -> None:
    expected = NEUTRAL.mu + sum(intensity * w * (PRIORS[name].mu - NEUTRAL.mu) for name, w in weights.items())
    torch.testing.assert_close(mix(weights, PRIORS, intensity).mu, expected, atol=1e-4, rtol=0)


@given(st.dictionaries(st.sampled_from(PRESET_NAMES), st.floats(0, MAX_WEIGHT)))
def test_spread_of_a_mix_lies_between_those_of_its_parts(weights: dict[str, float]) -> None:
    sigma = mix(weights, SPREAD).sigma
    parts = torch.stack([SPREAD[name].sigma for name in {*weights, "neutral"}])
    assert (sigma >= parts.amin(0) - 1e-6).all() and (sigma <= parts.amax(0) + 1e-6).all()


def test_spread_of_pure_and_unknown() -> None:
    torch.testing.assert_close(mix({"happy": 1.0}, SPREAD).sigma, SPREAD["happy"].sigma)
    torch.testing.assert_close(mix({}, SPREAD).sigma, SPREAD["neutral"].sigma)
    half = mix({"happy": 0.5}, SPREAD).sigma.square()
    torch.testing.assert_close(half, (SPREAD["happy"].sigma.square() + SPREAD["neutral"].sigma.square()) / 2)
    assert mix({"happy": 0.5}, SPREAD | {"happy": HAPPY}).sigma is None
    assert mix({"sad": 1.0}, SPREAD | {"happy": HAPPY}).sigma is not None


def test_names_and_aliases() -> None:
    assert find_prior("Happy", PRIORS) is HAPPY
    assert {find_prior(alias, PRIORS).name for alias in ALIASES} == set(PRESET_NAMES) - {"neutral"}
    mine = made_up(9, "mine")
    assert find_prior("Fearful", PRIORS | {"Fearful": mine}) is mine
    with pytest.raises(EmotionError, match=r"'bored'.*happy"):
        find_prior("bored", PRIORS)
    with pytest.raises(EmotionError, match="neutral"):
        mix({"happy": 1.0}, {"happy": HAPPY})


def test_parse_emotion() -> None:
    assert parse_weights("happy") == {"happy": 1.0}
    assert parse_weights("happy:0.8") == {"happy": 0.8}
    assert parse_weights(" happy : 0.5 + sad:0.3 ") == {"happy": 0.5, "sad": 0.3}
    for spec in (
        "",
        ":1",
        "happy:",
        "happy:x",
        "happy:-1",
        "happy:2.1",
        "happy:nan",
        "happy:inf",
        "a+",
        "a+a",
        "a:1:2",
    ):
        with pytest.raises(EmotionError):
            parse_weights(spec)


@pytest.mark.parametrize("value", [-0.1, 2.1, float("nan"), float("inf")])
def test_weights_out_of_range(value: float) -> None:
    with pytest.raises(EmotionError, match="happy"):
        mix({"happy": value}, PRIORS)
    with pytest.raises(EmotionError, match="intensity"):
        mix({"happy": 1.0}, PRIORS, value)


# Tracks


def shown(track: EmotionTrack, frames: int, fps: float = 12.5) -> torch.Tensor:
    """The prior of every frame, after checking the form."""
    rows, index = track.priors(frames, fps)
    assert rows.dtype == torch.float32 and index.dtype == torch.long and index.shape == (frames,)
    assert len(rows.unique(dim=0)) == len(rows), "rows must be distinct"
    assert torch.equal(index.unique(), torch.arange(len(rows))), "every row is used"
    return rows[index]


def test_constant() -> None:
    rows, index = EmotionTrack.constant(HAPPY).priors(45_000)
    assert torch.equal(rows, HAPPY.mu[None]) and not index.any()


def test_curve_shows_each_value_at_its_frame() -> None:
    values = [HAPPY, HAPPY, SAD, NEUTRAL, HAPPY]
    track = EmotionTrack.curve(values)
    rows, index = track.priors(7)
    assert len(rows) == 3
    assert index.tolist() == [0, 0, 1, 2, 0, 0, 0]
    for fps in (12.5, 25.0, 24.0, 29.97):
        got = shown(EmotionTrack.curve(values, fps), 5, fps)
        assert torch.equal(got, torch.stack([value.mu for value in values]))
    half = shown(EmotionTrack.curve(values, 6.25), 9)
    torch.testing.assert_close(half[3], (HAPPY.mu + SAD.mu) / 2)


def test_keyframes_are_held_before_and_after() -> None:
    track = EmotionTrack((Keyframe(0.16, HAPPY), Keyframe(0.32, SAD)))
    got = shown(track, 8)
    assert torch.equal(got[:3], HAPPY.mu.expand(3, -1))
    torch.testing.assert_close(got[3], (HAPPY.mu + SAD.mu) / 2)
    assert torch.equal(got[4:], SAD.mu.expand(4, -1))
    assert torch.equal(shown(EmotionTrack((Keyframe(0, HAPPY), Keyframe(60, SAD, "hold"))), 3)[0], HAPPY.mu)


@pytest.mark.parametrize(
    ("easing", "quarter", "half"),
    [
        ("linear", 0.25, 0.5),
        ("smooth", 0.15625, 0.5),
        ("ease-in", 0.0625, 0.25),
        ("ease-out", 0.4375, 0.75),
        ("hold", 0, 0),
    ],
)
def test_easings(easing: str, quarter: float, half: float) -> None:
    track = EmotionTrack((Keyframe(0, NEUTRAL, easing), Keyframe(0.64, HAPPY)))
    got = shown(track, 9)
    way = HAPPY.mu - NEUTRAL.mu
    torch.testing.assert_close(got[2], NEUTRAL.mu + quarter * way)
    torch.testing.assert_close(got[4], NEUTRAL.mu + half * way)
    assert torch.equal(got[0], NEUTRAL.mu) and torch.equal(got[8], HAPPY.mu)


@given(st.sampled_from(sorted(set(EASINGS) - {"hold"})), st.floats(0, 1), st.floats(0, 1))
def test_easings_are_monotonic_and_continuous(easing: str, a: float, b: float) -> None:
    ease = EASINGS[easing]
    low, high = sorted((a, b))
    assert 0 <= ease(low) <= ease(high) <= 1
    assert ease(high) - ease(low) <= 2 * (high - low) + 1e-12
    assert (ease(0.0), ease(1.0)) == (0.0, 1.0)


times = st.lists(st.floats(0, 5), min_size=1, max_size=6, unique=True).map(sorted)


@settings(max_examples=60, deadline=None)
@given(times, st.data())
def test_any_track_stays_between_its_keyframes(seconds: list[float], data: st.DataObject) -> None:
    keyframes = tuple(
        Keyframe(t, PRIORS[data.draw(st.sampled_from(PRESET_NAMES))], data.draw(st.sampled_from(sorted(EASINGS))))
        for t in seconds
    )
    frames = data.draw(st.integers(1, 80))
    got = shown(EmotionTrack(keyframes), frames)
    mus = torch.stack([keyframe.prior.mu for keyframe in keyframes])
    assert (got >= mus.amin(0) - 1e-5).all() and (got <= mus.amax(0) + 1e-5).all()
    for keyframe in keyframes:
        if keyframe.seconds * 12.5 == int(keyframe.seconds * 12.5) < frames:
            assert torch.equal(got[int(keyframe.seconds * 12.5)], keyframe.prior.mu)


def test_repeated_emotions_share_a_row() -> None:
    same = EmotionPrior(HAPPY.mu.clone(), name="again")
    track = EmotionTrack(tuple(Keyframe(i, p, "hold") for i, p in enumerate([HAPPY, SAD, same, SAD, HAPPY])))
    assert len(track.priors(60)[0]) == 2
    assert len(EmotionTrack((Keyframe(0, HAPPY), Keyframe(2, same))).priors(60)[0]) == 1


def test_moments_that_differ_by_less_than_float32_share_a_row() -> None:
    keyframes = (Keyframe(0.0, PRIORS["neutral"], "ease-out"), Keyframe(2.8802842527959083, PRIORS["happy"]))
    assert shown(EmotionTrack(keyframes), 38).shape == (38, 256)


def test_an_hour_costs_its_frames() -> None:
    priors = [made_up(i % 500, "x") for i in range(1000)]
    track = EmotionTrack.curve(list(itertools.islice(itertools.cycle(priors), 45_000)))
    started = time.perf_counter()
    rows, index = track.priors(45_000)
    assert time.perf_counter() - started < 5
    assert len(rows) == 500 and len(index) == 45_000


def test_track_errors() -> None:
    with pytest.raises(EmotionError, match="at least one"):
        EmotionTrack(())
    with pytest.raises(EmotionError, match="1 s follows 2 s"):
        EmotionTrack((Keyframe(2, HAPPY), Keyframe(1, SAD)))
    with pytest.raises(EmotionError, match="2 s follows 2 s"):
        EmotionTrack((Keyframe(2, HAPPY), Keyframe(2, SAD)))
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(EmotionError, match="time"):
            Keyframe(seconds, HAPPY)
    with pytest.raises(EmotionError, match=r"'bounce'.*smooth"):
        Keyframe(0, HAPPY, "bounce")
    for fps in (0, -1, float("nan")):
        with pytest.raises(EmotionError, match="fps"):
            EmotionTrack.curve([HAPPY], fps)


# Track files


def test_keyframe_file(tmp_path: Path) -> None:
    path = tmp_path / "track.json"
    path.write_text(
        '{"keyframes": [{"time": 0, "emotion": "happy", "intensity": 0.5, "easing": "hold"},'
        ' {"time": 0.08, "emotion": {"fearful": 0.5, "sad": 0.25}}, {"time": 0.24, "emotion": "neutral"}]}'
    )
    got = shown(read_track(path, PRIORS), 4)
    torch.testing.assert_close(got[0], (HAPPY.mu + NEUTRAL.mu) / 2)
    mixed = 0.25 * NEUTRAL.mu + 0.5 * PRIORS["fear"].mu + 0.25 * SAD.mu
    torch.testing.assert_close(got[1], mixed)
    torch.testing.assert_close(got[2], (mixed + NEUTRAL.mu) / 2)
    torch.testing.assert_close(got[3], NEUTRAL.mu)


def test_value_file(tmp_path: Path) -> None:
    path = tmp_path / "track.json"
    path.write_text(json.dumps({"values": [{"happy": 1}, "sad", {}], "fps": 12.5}))
    got = shown(read_track(path, PRIORS), 3)
    torch.testing.assert_close(got, torch.stack([HAPPY.mu, SAD.mu, NEUTRAL.mu]))


def key(**entries: object) -> dict[str, object]:
    return {"keyframes": [{"time": 0, "emotion": "sad"}, {"time": 1, "emotion": "happy"} | entries]}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], r"'keyframes' or 'values', not \[\]"),
        ({}, "'keyframes' or 'values'"),
        ({"keyframes": [], "values": []}, "'keyframes' or 'values'"),
        ({"keyframes": []}, r"'keyframes'.*got \[\]"),
        ({"values": {"happy": 1}}, "'values'.*happy"),
        ({"values": ["happy"], "loop": True}, "'loop'"),
        ({"values": ["happy"], "fps": "25"}, "'fps'.*'25'"),
        ({"values": ["happy"], "fps": 0}, "fps is 0"),
        ({"values": ["happy", 3]}, r"values\[1\].*3"),
        ({"values": [{"happy": "much"}]}, r"values\[0\].*'happy'.*'much'"),
        ({"values": [{"happy": True}]}, r"values\[0\].*True"),
        ({"values": [{"happy": 10**400}]}, r"values\[0\].*too large"),
        ({"values": [{"happy": 3}]}, r"values\[0\].*happy.*3"),
        ({"values": [{"bored": 1}]}, r"values\[0\].*'bored'.*contempt"),
        ({"keyframes": ["happy"]}, r"keyframes\[0\].*'happy'"),
        ({"keyframes": [{"emotion": "happy"}]}, r"keyframes\[0\].*'time' is missing"),
        ({"keyframes": [{"time": 0}]}, r"keyframes\[0\].*'emotion' is missing"),
        (key(time=0), "0 s follows 0 s"),
        (key(time=-1), r"keyframes\[1\].*-1"),
        (key(time="1"), r"keyframes\[1\].*'time'.*'1'"),
        (key(easing="bounce"), r"keyframes\[1\].*'bounce'"),
        (key(easing=1), r"keyframes\[1\].*'easing'.*1"),
        (key(intensity=9), r"keyframes\[1\].*intensity.*9"),
        (key(intensity=None), r"keyframes\[1\].*'intensity'.*None"),
        (key(emotion="happy:x"), r"keyframes\[1\].*'x'"),
        (key(speed=1), r"keyframes\[1\].*'speed'"),
    ],
)
def test_track_file_errors_name_entry_and_value(tmp_path: Path, value: object, message: str) -> None:
    path = tmp_path / "track.json"
    path.write_text(json.dumps(value))
    with pytest.raises(EmotionError, match=rf"track\.json: .*{message}") as caught:
        read_track(path, PRIORS)
    assert len(str(caught.value)) < 500
    with pytest.raises(EmotionError, match=message):
        parse_track(value, PRIORS)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\xff",
        b"[" * 200_000,
        b'{"values": [NaN]}',
        b'{"values": [{"happy": Infinity}]}',
        b'{"values": [{"happy": 1, "happy": 0}]}',
        b'{"values": [{"happy": ' + b"9" * 5000 + b"}]}",
        b" " * (MAX_FILE_BYTES + 1),
    ],
    ids=lambda content: content[:24],
)
def test_files_that_are_no_track(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "track.json"
    path.write_bytes(content)
    with pytest.raises(EmotionError, match=r"track\.json"):
        read_track(path, PRIORS)


def test_missing_track_file(tmp_path: Path) -> None:
    with pytest.raises(EmotionError, match=r"none\.json"):
        read_track(tmp_path / "none.json", PRIORS)


def test_weights_are_another_name_of_emotion() -> None:
    text = '{"keyframes": [{"time": 0.0, "%s": {"happy": 0.8}, "intensity": 1.0, "easing": "smooth"}]}'
    first, second = (track_from_json(text % name, PRIORS).keyframes[0] for name in ("weights", "emotion"))
    assert torch.equal(first.prior.mu, second.prior.mu) and first.easing == "smooth"
    with pytest.raises(EmotionError, match=r"keyframes\[0\].*two names"):
        parse_track({"keyframes": [{"time": 0, "emotion": "happy", "weights": {"sad": 1}}]}, PRIORS)


def test_a_mix_from_json() -> None:
    read = mix_from_json('{"weights": {"happy": 0.5, "sad": 1}, "intensity": 1.5}')
    assert read.weights == {"happy": 0.5, "sad": 1.0} and read.intensity == 1.5
    assert mix_from_json(b'{"weights": "happy:0.5+fear"}').weights == {"happy": 0.5, "fear": 1.0}
    assert mix_from_json('{"weights": {}}').intensity == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("happy", "not JSON"),
        ("{" * 5000, "not JSON"),
        ("[]", "A mix of emotions is a table"),
        ('{"intensity": 1}', "A mix of emotions is a table"),
        ('{"weights": {"happy": 1}, "mood": 2}', "mood"),
        ('{"weights": {"happy": 1, "happy": 2}}', "twice"),
        ('{"weights": {"happy": NaN}}', "NaN"),
        ('{"weights": [1]}', "expected an emotion"),
        ('{"weights": {"happy": null}}', "number"),
        ('{"weights": {}, "intensity": "much"}', "intensity"),
    ],
)
def test_text_that_is_no_mix(text: str, message: str) -> None:
    with pytest.raises(EmotionError, match=message):
        mix_from_json(text)


def test_variances_move_as_the_means_do() -> None:
    narrow, wide = (
        EmotionPrior(torch.full((256,), mu), torch.full((256,), sigma)) for mu, sigma in ((0.0, 1.0), (2.0, 3.0))
    )
    mu, sigma = EmotionTrack((Keyframe(0.0, narrow), Keyframe(1.0, wide))).at([0.25])
    assert torch.allclose(mu, torch.tensor(0.5))
    assert torch.allclose(sigma, torch.tensor((0.75 * 1 + 0.25 * 9) ** 0.5))
