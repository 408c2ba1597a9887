"""Arithmetic of emotion tracks: laws that must hold for all of them, and tracks whose values are kept."""

import json

import numpy as np
import pytest
import torch
from emotion_tracks import BENT, PRIORS, RECIPES, STORED, constant, values
from emotion_tracks import NEUTRAL as NEAT_NEUTRAL
from hypothesis import given, settings
from hypothesis import strategies as st

from dicetalk.emotion.algebra import PATHS, add, interpolate, limit, preset_radius, scale, weighted_mix
from dicetalk.emotion.prior import EmotionPrior
from dicetalk.emotion.track import EASINGS, MAX_SECONDS, Curve, EmotionTrack, Keyframe
from dicetalk.errors import EmotionError

FRAMES = 40
CLOSE = {"atol": 3e-5, "rtol": 0.0}


def made_up(seed: int, spread: bool = True) -> EmotionPrior:
    generator = torch.Generator().manual_seed(seed)
    sigma = torch.rand(256, generator=generator) if spread else None
    return EmotionPrior(torch.randn(256, generator=generator), sigma, f"p{seed}")


POOL = [made_up(seed) for seed in range(6)]
NEUTRAL = made_up(99)
easings = st.sampled_from(sorted(EASINGS))
weights = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.floats(0, 2))


@st.composite
def tracks(draw: st.DrawFn) -> EmotionTrack:
    times = sorted(draw(st.lists(st.integers(0, 240), min_size=1, max_size=4, unique=True)))
    return EmotionTrack(tuple(Keyframe(t / 80, POOL[draw(st.integers(0, 5))], draw(easings)) for t in times))


@st.composite
def curves(draw: st.DrawFn, most: float = 2.0) -> Curve:
    times = sorted(draw(st.lists(st.integers(0, 240), min_size=1, max_size=4, unique=True)))
    return Curve([t / 80 for t in times], [draw(st.floats(0, most)) for _ in times])


def shown(track: EmotionTrack) -> torch.Tensor:
    rows, index = track.priors(FRAMES)
    assert rows.isfinite().all()
    return rows[index]


def spread(track: EmotionTrack) -> torch.Tensor | None:
    return track.at([i / 12.5 for i in range(FRAMES)]).sigma


def same(one: EmotionTrack, other: EmotionTrack) -> None:
    torch.testing.assert_close(shown(one), shown(other), **CLOSE)
    torch.testing.assert_close(spread(one), spread(other), atol=1e-3, rtol=0)


# Every frame is what the formula says


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(tracks(), st.one_of(weights, curves())), max_size=3))
def test_weighted_mix_is_the_sum_in_every_frame(parts: list) -> None:
    moments = np.arange(FRAMES) / 12.5
    expected = NEUTRAL.mu.expand(FRAMES, -1)
    for track, weight in parts:
        at = weight.at(moments) if isinstance(weight, Curve) else np.full(FRAMES, weight)
        expected = expected + torch.from_numpy(at).float()[:, None] * (shown(track) - NEUTRAL.mu)
    torch.testing.assert_close(shown(weighted_mix(parts, NEUTRAL)), expected, **CLOSE)


# Weights 0 and 1


@settings(max_examples=40, deadline=None)
@given(tracks(), tracks())
def test_weights_zero_and_one(a: EmotionTrack, b: EmotionTrack) -> None:
    neutral = EmotionTrack.constant(NEUTRAL)
    assert torch.equal(shown(scale(a, 0.0, NEUTRAL)), shown(neutral))
    same(scale(a, 0.0, NEUTRAL), neutral)
    assert torch.equal(shown(scale(a, 1.0, NEUTRAL)), shown(a))
    same(scale(a, 1.0, NEUTRAL), a)
    same(weighted_mix([(a, 1.0), (b, 0.0)], NEUTRAL), a)
    torch.testing.assert_close(shown(add(a, neutral, NEUTRAL)), shown(a), **CLOSE)
    for path in PATHS:
        same(interpolate(a, b, 0.0, NEUTRAL, path), a)
        same(interpolate(a, b, 1.0, NEUTRAL, path), b)


# Idempotence and composition


@settings(max_examples=40, deadline=None)
@given(tracks(), st.floats(0, 40), weights)
def test_limit(a: EmotionTrack, radius: float, factor: float) -> None:
    once = limit(a, radius, NEUTRAL)
    distances = (shown(once) - NEUTRAL.mu).norm(dim=1)
    assert (distances <= radius * (1 + 1e-5) + 1e-5).all()
    same(limit(once, radius, NEUTRAL), once)
    before = shown(a) - NEUTRAL.mu
    inside = before.norm(dim=1) <= radius
    torch.testing.assert_close(shown(once)[inside], shown(a)[inside], **CLOSE)
    along = torch.nn.functional.cosine_similarity(before, shown(once) - NEUTRAL.mu, dim=1)
    assert (along[distances > 1e-3] > 0.999).all(), "only the length changes"


@settings(max_examples=40, deadline=None)
@given(tracks(), st.floats(0, 1.4), st.floats(0, 1.4))
def test_scaling_twice_is_scaling_by_the_product(a: EmotionTrack, k: float, m: float) -> None:
    torch.testing.assert_close(shown(scale(scale(a, k, NEUTRAL), m, NEUTRAL)), shown(scale(a, k * m, NEUTRAL)), **CLOSE)


@settings(max_examples=40, deadline=None)
@given(tracks(), st.floats(0, 1), st.sampled_from(["linear", "sphere"]))
def test_nothing_lies_between_a_track_and_itself(a: EmotionTrack, amount: float, path: str) -> None:
    same(interpolate(a, a, amount, NEUTRAL, path), a)


# Commutation


@settings(max_examples=40, deadline=None)
@given(tracks(), tracks(), tracks(), weights, weights, st.floats(0, 1), st.sampled_from(PATHS))
def test_order_does_not_matter(
    a: EmotionTrack, b: EmotionTrack, c: EmotionTrack, v: float, w: float, amount: float, path: str
) -> None:
    same(weighted_mix([(a, v), (b, w)], NEUTRAL), weighted_mix([(b, w), (a, v)], NEUTRAL))
    same(interpolate(a, b, amount, NEUTRAL, path), interpolate(b, a, 1 - amount, NEUTRAL, path))
    left, right = add(add(a, b, NEUTRAL), c, NEUTRAL), add(a, add(b, c, NEUTRAL), NEUTRAL)
    torch.testing.assert_close(shown(left), shown(right), **CLOSE)
    torch.testing.assert_close(
        shown(scale(add(a, b, NEUTRAL), w, NEUTRAL)),
        shown(add(scale(a, w, NEUTRAL), scale(b, w, NEUTRAL), NEUTRAL)),
        **CLOSE,
    )


# Continuity


@settings(max_examples=40, deadline=None)
@given(tracks(), tracks(), st.floats(0, 1), st.sampled_from(PATHS))
def test_a_little_more_changes_little(a: EmotionTrack, b: EmotionTrack, amount: float, path: str) -> None:
    other = min(amount + 1e-4, 1.0)
    for make in (lambda t: interpolate(a, b, t, NEUTRAL, path), lambda t: weighted_mix([(a, t), (b, 1 - t)], NEUTRAL)):
        near, far = make(amount), make(other)
        assert (shown(near) - shown(far)).norm(dim=1).max() < 0.02
    close = limit(a, 10.0, NEUTRAL), limit(a, 10.001, NEUTRAL)
    assert (shown(close[0]) - shown(close[1])).norm(dim=1).max() < 0.002


@given(st.floats(0, 1), st.floats(1e-9, 1e-3))
@settings(max_examples=60, deadline=None)
def test_the_sphere_is_continuous_where_it_degenerates(amount: float, step: float) -> None:
    """Equal, and nearly equal, directions; one end at neutral."""
    direction, side = torch.eye(256)[0], torch.eye(256)[1]

    def track(difference: torch.Tensor) -> EmotionTrack:
        return EmotionTrack.constant(EmotionPrior(NEUTRAL.mu + difference))

    for first, second in ((direction, direction), (direction, 0 * direction), (0 * direction, direction)):
        exact = interpolate(track(first), track(second), amount, NEUTRAL, "sphere")
        for nearby in ((first + step * side, second), (first, second + step * side)):
            near = interpolate(*map(track, nearby), amount, NEUTRAL, "sphere")
            assert (shown(exact) - shown(near)).norm(dim=1).max() < 3 * step + 1e-5


# The ways


def test_straight_way_fades_and_sphere_keeps_strength() -> None:
    happy, sad = constant(happy=1.0), constant(sad=1.0)
    straight = values(interpolate(happy, sad, 0.5, NEAT_NEUTRAL))[0]
    around = values(interpolate(happy, sad, 0.5, NEAT_NEUTRAL, "sphere"))[0]
    assert straight[:2] == pytest.approx([0.5, 0.5])
    assert around[:2] == pytest.approx([2**-0.5, 2**-0.5])
    third = values(interpolate(happy, constant(sad=2.0), 1 / 3, NEAT_NEUTRAL, "sphere"))[0][:2]
    assert np.linalg.norm(third) == pytest.approx(4 / 3), "lengths change evenly"
    assert np.degrees(np.arctan2(third[1], third[0])) == pytest.approx(45), "half of this length is the second's"


def test_through_neutral_one_emotion_goes_before_the_other_comes() -> None:
    happy, sad = constant(happy=1.0), constant(sad=0.5)
    for amount, shares in ((0.25, (0.5, 0.0)), (0.5, (0.0, 0.0)), (0.75, (0.0, 0.25))):
        assert values(interpolate(happy, sad, amount, NEAT_NEUTRAL, "neutral"))[0][:2] == pytest.approx(shares)
    passing = values(interpolate(happy, sad, Curve([0, 1.7], [0, 1]), NEAT_NEUTRAL, "neutral"))
    assert (passing[:, 0] * passing[:, 1] == 0).all(), "also where the middle lies between two frames"
    assert passing[5][0] == pytest.approx(1 - 2 * 0.4 / 1.7) and passing[15][1] == pytest.approx(1.2 / 1.7 - 0.5)


def test_opposite_emotions_meet_at_neutral() -> None:
    there = EmotionTrack.constant(PRIORS["happy"])
    back = EmotionTrack.constant(EmotionPrior(2 * NEAT_NEUTRAL.mu - PRIORS["happy"].mu))
    middle = interpolate(there, back, 0.5, NEAT_NEUTRAL, "sphere")
    torch.testing.assert_close(shown(middle)[0], NEAT_NEUTRAL.mu)


# Spread


def test_spread_of_a_mix() -> None:
    a, b = (EmotionTrack.constant(prior) for prior in POOL[:2])
    unknown = EmotionTrack.constant(made_up(3, spread=False))
    square = [prior.sigma.square() for prior in (*POOL[:2], NEUTRAL)]
    mixed = spread(weighted_mix([(a, 0.5), (b, 0.25)], NEUTRAL))[0].square()
    torch.testing.assert_close(mixed, 0.5 * square[0] + 0.25 * square[1] + 0.25 * square[2])
    torch.testing.assert_close(spread(add(a, b, NEUTRAL))[0].square(), (square[0] + square[1]) / 2)
    assert spread(weighted_mix([(a, 0.5), (unknown, 0.5)], NEUTRAL)) is None
    assert spread(weighted_mix([(a, 0.5), (unknown, 0.0)], NEUTRAL)) is not None
    point = made_up(98, spread=False)
    torch.testing.assert_close(spread(scale(a, 0.25, point))[0].square(), 0.25 * square[0])
    assert spread(weighted_mix([], point)) is None


# Form


def test_what_can_stay_short_stays_short() -> None:
    a = EmotionTrack((Keyframe(0.1, POOL[0], "smooth"), Keyframe(3, POOL[1])))
    scaled = weighted_mix([(a, 0.5), (EmotionTrack.constant(POOL[2]), 0.2)], NEUTRAL)
    assert [(k.seconds, k.easing) for k in scaled.keyframes] == [(0.1, "smooth"), (3, "linear")]
    assert scale(EmotionTrack.constant(POOL[0]), 0.3, NEUTRAL).is_constant
    assert limit(a, 1000, NEUTRAL) is a


def test_far_keyframes_are_no_reason_to_fill_memory() -> None:
    far = EmotionTrack((Keyframe(0, POOL[0]), Keyframe(1e15, POOL[1])))
    assert len(scale(far, 0.5, NEUTRAL).keyframes) == 2
    with pytest.raises(EmotionError, match=f"1e\\+15 s.*{MAX_SECONDS:g} s"):
        scale(far, Curve([0, 1], [0, 1]), NEUTRAL)
    with pytest.raises(EmotionError, match="1e\\+15"):
        limit(far, 0.1, NEUTRAL)


@pytest.mark.parametrize("value", [-0.1, 2.1, float("nan"), float("inf")])
def test_out_of_range(value: float) -> None:
    a = EmotionTrack.constant(POOL[0])
    with pytest.raises(EmotionError, match="weight is"):
        scale(a, value, NEUTRAL)
    with pytest.raises(EmotionError, match="amount is"):
        interpolate(a, a, value, NEUTRAL)
    if not value > 0:
        with pytest.raises(EmotionError, match="limit is"):
            limit(a, value, NEUTRAL)
    with pytest.raises(EmotionError, match=r"'around'.*linear, sphere"):
        interpolate(a, a, 0.5, NEUTRAL, "around")


def test_curves() -> None:
    curve = Curve([1, 2], [0, 1])
    assert curve.at([0, 1, 1.25, 2, 9]).tolist() == [0, 0, 0.25, 1, 1]
    assert curve.end == 2 and not curve.is_constant and Curve.constant(0.3).is_constant
    assert Curve.uniform([0, 1], 12.5).at([0.04]) == pytest.approx(0.5)
    for seconds, numbers in (([], []), ([0], [1, 2]), ([0, 0], [1, 2]), ([-1], [1]), ([0], [np.nan]), ([np.inf], [1])):
        with pytest.raises(EmotionError, match="curve"):
            Curve(seconds, numbers)
    with pytest.raises(EmotionError, match="fps"):
        Curve.uniform([1], 0)


def test_radius_of_the_presets() -> None:
    assert preset_radius(PRIORS) == pytest.approx(2.0)


# Kept tracks


@pytest.mark.parametrize("name", RECIPES)
def test_kept_tracks(name: str) -> None:
    stored = json.loads(STORED.read_text())
    assert set(stored) == set(RECIPES)
    np.testing.assert_allclose(values(RECIPES[name]()), stored[name], atol=2e-5)


def test_kept_tracks_by_hand() -> None:
    """What the stored numbers must be, worked out without the library."""
    stored = json.loads(STORED.read_text())
    assert stored["weight that changes"][10][0] == pytest.approx(0.2 + 1.6 * (0.8 - 0.4) / 1.2, abs=1e-4)
    eased = (0.8 - 0.3) / 0.8
    assert stored["easings"][10][0] == pytest.approx(1 - eased**2 * (3 - 2 * eased), abs=1e-4)
    assert stored["straight"][5][:2] == pytest.approx([0.8, 0.1], abs=1e-4)
    turn, length = np.pi / 2 * 0.1 / 0.9, 0.9
    assert stored["sphere"][5][:2] == pytest.approx([length * np.cos(turn), length * np.sin(turn)], abs=1e-4)
    assert max(np.linalg.norm(row) for row in stored["limit"]) == pytest.approx(1, abs=1e-4)
    assert BENT.end == 2.0
