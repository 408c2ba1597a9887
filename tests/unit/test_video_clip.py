"""Lengths and streams of frames."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dicetalk.errors import SettingError, VideoError
from dicetalk.video import collect, exact_fps, frames_to_cover, hold_last_frame


def numbered(count):
    return torch.arange(count, dtype=torch.float32)[:, None, None, None].expand(count, 3, 2, 2)


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=5), total=st.integers(1, 30))
def test_clip_is_cut_or_its_last_frame_held(lengths, total):
    frames = numbered(sum(lengths))
    clip = collect(hold_last_frame(frames.split(lengths), total), total)
    assert clip[:, 0, 0, 0].tolist() == [min(i, len(frames) - 1) for i in range(total)]


def test_no_more_is_made_than_needed():
    asked = []
    chunks = (asked.append(i) or numbered(2) for i in range(9))
    assert sum(map(len, hold_last_frame(chunks, 4))) == 4
    assert asked == [0, 1]


def test_there_is_nothing_to_hold():
    with pytest.raises(VideoError, match="empty"):
        list(hold_last_frame([], 3))


@pytest.mark.parametrize("expected", [0, 4, 6])
def test_collect_refuses_another_length(expected):
    with pytest.raises(VideoError, match=f"5 frames, expected {expected}"):
        collect([numbered(3), numbered(2)], expected)


def test_collect_refuses_nothing():
    with pytest.raises(VideoError, match="0 frames"):
        collect([], 0)


@given(
    samples=st.integers(1, 10**9),
    sample_rate=st.sampled_from([8000, 16000, 44100, 48000, 96000]),
    fps=st.sampled_from([12.5, 24, 25, 29.97, Fraction(30000, 1001), 60]),
)
def test_frames_cover_the_sound_and_not_a_frame_more(samples, sample_rate, fps):
    frames = frames_to_cover(samples, sample_rate, fps)
    seconds, fps = Fraction(samples, sample_rate), exact_fps(fps)
    assert (frames - 1) / fps < seconds <= frames / fps


@pytest.mark.parametrize(
    ("fps", "exact"),
    [(25, 25), (12.5, Fraction(25, 2)), (29.97, Fraction(2997, 100)), (30000 / 1001, Fraction(30000, 1001))],
)
def test_frame_rates_keep_their_value(fps, exact):
    assert exact_fps(fps) == exact


@pytest.mark.parametrize("fps", [0, -25, 1e6, math.nan, math.inf])
def test_frame_rate_out_of_range(fps):
    with pytest.raises(SettingError, match="fps"):
        exact_fps(fps)
