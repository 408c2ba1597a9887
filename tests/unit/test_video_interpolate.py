"""Twice as many frames: order, chunk borders, sizes, and the flow network's own laws."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dicetalk.errors import Cancelled, SettingError, VideoError
from dicetalk.hooks import SILENT
from dicetalk.video import FlowNet, interpolate_frames, interpolated_length
from dicetalk.video.rife import backward_warp


@pytest.fixture(scope="module")
def flownet():
    torch.manual_seed(0)
    return FlowNet(width=8).eval().requires_grad_(False)


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(2))


class Limited(torch.nn.Module):
    """A network that has memory for `limit` pairs."""

    def __init__(self, flownet, limit):
        super().__init__()
        self.flownet, self.limit, self.calls = flownet, limit, []
        self.size_multiple = flownet.size_multiple

    def forward(self, first, second):
        self.calls.append(len(first))
        if len(first) > self.limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return self.flownet(first, second)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 7), max_size=4),
    batch=st.integers(1, 6),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_any_chunks_sizes_and_batches_give_the_same_clip(flownet, lengths, batch, height, width):
    frames = noise(sum(lengths), 3, height, width)
    pieces = list(interpolate_frames(flownet, frames.split(lengths), len(frames), batch=batch))
    assert all(len(piece) <= 2 * batch for piece in pieces)
    clip = torch.cat([frames[:0], *pieces])
    assert clip.shape == (interpolated_length(len(frames)), 3, height, width)
    assert torch.equal(clip[::2], frames)
    assert len(clip) == 0 or (clip.min() >= 0 and clip.max() <= 1)
    pairs = [frames[i : i + 2] for i in range(len(frames) - 1)]
    alone = [torch.cat(list(interpolate_frames(flownet, [pair], 2)))[1:2] for pair in pairs]
    torch.testing.assert_close(clip[1::2], torch.cat([frames[:0], *alone]), rtol=0, atol=1e-5)


def test_four_times_the_frames(flownet):
    frames = noise(3, 3, 16, 16)
    twice = torch.cat(list(interpolate_frames(flownet, [frames], 3)))
    again = torch.cat(list(interpolate_frames(flownet, interpolate_frames(flownet, [frames], 3), 5)))
    assert len(again) == 9
    assert torch.equal(again[::2], twice)


def test_out_of_memory_halves_the_batch_for_good(flownet):
    frames, notices = noise(13, 3, 16, 16), []
    limited = Limited(flownet, 2)
    hooks = replace(SILENT, notice=notices.append)
    clip = torch.cat(list(interpolate_frames(limited, frames.split(6), 13, batch=5, hooks=hooks)))
    assert limited.calls == [5, 2, 2, 1, 2, 2, 2, 1]
    assert len(notices) == 1
    torch.testing.assert_close(clip, torch.cat(list(interpolate_frames(flownet, [frames], 13))), rtol=0, atol=1e-5)


def test_no_memory_for_one_pair(flownet):
    with pytest.raises(VideoError, match="interpolating one frame at a time"):
        list(interpolate_frames(Limited(flownet, 0), [noise(2, 3, 16, 16)], 2, batch=1))


def test_streams(flownet):
    """A frame is given out before the chunk after it is asked for."""
    asked = []

    def chunks():
        for i in range(3):
            asked.append(i)
            yield noise(2, 3, 16, 16)

    stream = interpolate_frames(flownet, chunks(), 6)
    assert len(next(stream)) == 1 and asked == [0]
    assert len(next(stream)) == 2 and asked == [0]
    assert len(next(stream)) == 4 and asked == [0, 1]


def test_cancelled_and_progress(flownet):
    seen, stop = [], []
    hooks = replace(
        SILENT,
        progress=lambda stage, done, total, preview: seen.append((stage, done, total)),
        cancelled=lambda: bool(stop),
    )
    stream = interpolate_frames(flownet, [noise(5, 3, 16, 16)], 5, batch=2, hooks=hooks)
    next(stream), next(stream), stop.append(1)
    with pytest.raises(Cancelled):
        next(stream)
    assert seen == [("interpolate", 2, 4)]
    assert torch.is_grad_enabled()


def test_batch_out_of_range(flownet):
    with pytest.raises(SettingError, match=r"batch.*0"):
        next(interpolate_frames(flownet, [], 0, batch=0))


def test_flow_network_does_not_care_for_the_direction_of_time(flownet):
    first, second = noise(2, 2, 3, 32, 32)
    torch.testing.assert_close(flownet(first, second), flownet(second, first), rtol=0, atol=1e-5)


def test_flow_network_leaves_equal_frames_almost_alone(flownet):
    frame = noise(1, 3, 1, 1).expand(1, 3, 32, 32)
    torch.testing.assert_close(flownet(frame, frame), frame)


def test_warp_fetches_from_where_the_flow_points():
    picture = noise(1, 3, 9, 12)
    flow = torch.zeros(1, 2, 9, 12)
    flow[:, 0], flow[:, 1] = 2, -1
    warped = backward_warp(picture, flow)
    torch.testing.assert_close(warped[..., 1:, :-2], picture[..., :-1, 2:])
    torch.testing.assert_close(warped[..., 1:, -1], picture[..., :-1, -1])  # outside: the border


def test_half_scale_searches_larger_motion(flownet):
    first, second = noise(2, 1, 3, 64, 64)
    assert flownet.size_multiple(0.5) == 2 * flownet.size_multiple()
    assert not torch.allclose(flownet(first, second, 0.5), flownet(first, second))


class Mean(torch.nn.Module):
    """Puts the mean of a pair between them."""

    def size_multiple(self):
        return 1

    def forward(self, first, second):
        return (first + second) / 2


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_each_new_frame_is_made_of_its_two_neighbours(batch):
    frames = noise(8, 3, 5, 7)
    clip = torch.cat(list(interpolate_frames(Mean(), frames.split([3, 1, 4]), 8, batch=batch)))
    torch.testing.assert_close(clip[1::2], (frames[:-1] + frames[1:]) / 2)
