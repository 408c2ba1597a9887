"""Smoothing, resampling and sampling of emotion tracks."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dicetalk.emotion.algebra import resample, sample, smooth
from dicetalk.emotion.prior import EmotionPrior
from dicetalk.emotion.track import EmotionTrack, Keyframe
from dicetalk.errors import EmotionError

A = EmotionPrior(torch.zeros(256), torch.full((256,), 0.5), "a")
B = EmotionPrior(torch.ones(256), torch.full((256,), 1.0), "b")
STEP = EmotionTrack((Keyframe(0, A, "hold"), Keyframe(2, B)))
CONSTANT = EmotionTrack.constant(B)


def level(track: EmotionTrack, seconds: float) -> float:
    return float(track.at([seconds]).mu[0, 0])


# Smoothing


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 1.0))
def test_a_step_becomes_a_gaussian_slope(seconds: float) -> None:
    track = smooth(STEP, seconds)
    # The step is between the frames 1.92 s and 2 s; a Gaussian has 84 % of its mass below one standard deviation.
    assert level(track, 1.96) == pytest.approx(0.5, abs=0.02)
    assert level(track, 1.96 + seconds) == pytest.approx(0.841, abs=0.04)
    frames = [level(track, i / 12.5) for i in range(90)]
    assert all(later >= earlier - 1e-6 for earlier, later in itertools.pairwise(frames)), "no overshoot"
    assert max(b - a for a, b in itertools.pairwise(frames)) < 0.08 / seconds
    assert frames[-1] == pytest.approx(1, abs=1e-4)


def test_smoothing_leaves_what_does_not_change() -> None:
    assert smooth(STEP, 0) is STEP and smooth(CONSTANT, 1) is CONSTANT
    flat = EmotionTrack.curve([B] * 30)
    assert torch.equal(smooth(flat, 0.4).at([0, 1, 2]).mu, flat.at([0, 1, 2]).mu)


def test_smoothing_twice_is_smoothing_by_the_root_of_squares() -> None:
    moments = [i / 12.5 for i in range(60)]
    twice = smooth(smooth(STEP, 0.3), 0.4).at(moments).mu
    torch.testing.assert_close(twice, smooth(STEP, 0.5).at(moments).mu, atol=5e-3, rtol=0)


def test_smoothing_averages_variances() -> None:
    sigma = smooth(STEP, 0.3).at([0, 1.96, 5]).sigma[:, 0]
    assert sigma.square().tolist() == pytest.approx([0.25, 0.625, 1.0], abs=0.02)


# Resampling


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([3.0, 10.0, 12.5, 25.0]), st.floats(0, 1.5), st.floats(0.1, 1.5))
def test_resampling(fps: float, start: float, length: float) -> None:
    track = EmotionTrack((Keyframe(start, A, "smooth"), Keyframe(start + length, B)))
    once = resample(track, fps)
    moments = [i / fps for i in range(len(once.keyframes))]
    assert [k.seconds for k in once.keyframes] == moments and moments[-1] >= track.end - 1e-6
    assert torch.equal(once.at(moments).mu, track.at(moments).mu)
    again = resample(once, fps)
    assert [k.seconds for k in again.keyframes] == moments
    assert torch.equal(again.at(moments).mu, once.at(moments).mu)


def test_resampling_to_a_length() -> None:
    assert len(resample(CONSTANT, 10, 2).keyframes) == 21
    for fps, seconds in ((0, 1), (-1, 1), (float("nan"), 1), (2000, 1), (10, -1), (10, 1e9)):
        with pytest.raises(EmotionError):
            resample(CONSTANT, fps, seconds)


# Sampling


def test_a_sample_is_the_same_throughout_and_of_the_right_size() -> None:
    drawn = sample(CONSTANT, 2.0, seed=4)
    assert drawn.is_constant
    eps = (drawn.keyframes[0].prior.mu - 1) / 2
    assert abs(float(eps.mean())) < 0.2 and float(eps.std()) == pytest.approx(1, abs=0.15)
    expected = torch.randn(1, 256, generator=torch.Generator().manual_seed(4))[0]
    torch.testing.assert_close(eps, expected)
    assert drawn.at([0]).sigma is None
    assert torch.equal(sample(CONSTANT, 2.0, seed=4).at([0]).mu, drawn.at([0]).mu)
    assert not torch.equal(sample(CONSTANT, 2.0, seed=5).at([0]).mu, drawn.at([0]).mu)
    global_state = torch.random.get_rng_state()
    sample(CONSTANT, 1.0, seed=1, drift_seconds=1, seconds=3)
    assert torch.equal(torch.random.get_rng_state(), global_state)


def test_a_sample_of_a_track_has_one_eps() -> None:
    moments = [i / 12.5 for i in range(40)]
    values, drawn = STEP.at(moments), sample(STEP, 1.0, seed=2).at(moments).mu
    eps = (drawn - values.mu) / values.sigma
    torch.testing.assert_close(eps, eps[:1].expand(len(eps), -1), atol=1e-5, rtol=0)


def test_temperature_zero_is_the_mean() -> None:
    torch.testing.assert_close(sample(STEP, 0, seed=1).at([0, 1, 3]).mu, STEP.at([0, 1, 3]).mu)
    unknown = EmotionTrack.constant(EmotionPrior(torch.ones(256)))
    assert torch.equal(sample(unknown, 0, seed=1).at([0]).mu, unknown.at([0]).mu)
    with pytest.raises(EmotionError, match="no known spread"):
        sample(unknown, 1, seed=1)


@pytest.mark.parametrize("drift", [0.4, 1.0])
def test_drift_has_the_promised_correlation(drift: float) -> None:
    eps = sample(CONSTANT, 1.0, seed=7, drift_seconds=drift, seconds=60).at([i / 12.5 for i in range(750)]).mu - 1
    assert float(eps.std()) == pytest.approx(1, abs=0.05)
    for lag in (1, 5, 12, 25):
        seconds = lag / 12.5
        measured = float((eps[lag:] * eps[:-lag]).mean())
        assert measured == pytest.approx(float(torch.exp(torch.tensor(-(seconds**2) / (2 * drift**2)))), abs=0.06)


def test_the_beginning_of_a_drift_does_not_depend_on_the_length() -> None:
    short, long = (sample(CONSTANT, 1.0, 3, drift_seconds=1, seconds=s).at([0, 1, 4]).mu for s in (4, 31.4))
    torch.testing.assert_close(short, long, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": 4}, "temperature is 4"),
        ({"temperature": 1, "drift_seconds": 0.01}, "drift is 0.01"),
        ({"temperature": 1, "drift_seconds": float("nan")}, "drift is nan"),
        ({"temperature": 1, "drift_seconds": 1, "seconds": 1e9}, "1e.09 s"),
    ],
)
def test_sample_errors(options: dict, message: str) -> None:
    with pytest.raises(EmotionError, match=message):
        sample(CONSTANT, seed=0, **options)
    with pytest.raises(EmotionError, match="smoothing is 11"):
        smooth(STEP, 11)
