"""Another frame rate: moments, positions of what moves, chunk borders, memory."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dicetalk.errors import SettingError, VideoError
from dicetalk.hooks import SILENT
from dicetalk.video import FlowNet, hold_frames, interpolate_frames, retime_frames, retimed_length
from dicetalk.video.rife import FlowEstimate, backward_warp

RATES = {fps: Fraction(25, 2 * fps) for fps in (24, 25, 30, 50, 60)}
STEPS = [*RATES.values(), Fraction(25, 24) / 2, Fraction(24, 25), Fraction(5, 6), Fraction(1001, 2400)]


@pytest.fixture(scope="module")
def flownet():
    torch.manual_seed(0)
    return FlowNet(width=8).eval().requires_grad_(False)


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(2))


def retimed(flownet, chunks, total, step, **options):
    return torch.cat(list(retime_frames(flownet, chunks, total, step, **options)))


def spots(times, velocity=(7.0, -3.0), height=48, width=96):
    """A soft spot on black that is at ``(20, 36) + velocity * time``, and the frames (n, 3, H, W)."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    squares = [(x - 20 - velocity[0] * t) ** 2 + (y - 36 - velocity[1] * t) ** 2 for t in times]
    return torch.stack([torch.exp(-square / (2 * 3.0**2)) for square in squares])[:, None].repeat(1, 3, 1, 1)


def centres(frames):
    """Where the spot is, (n, 2)."""
    weight = frames.mean(dim=1) / frames.mean(dim=1).sum(dim=(1, 2), keepdim=True)
    x = (weight.sum(dim=1) * torch.arange(frames.shape[3])).sum(dim=1)
    y = (weight.sum(dim=2) * torch.arange(frames.shape[2])).sum(dim=1)
    return torch.stack([x, y], dim=1)


class Seeing(FlowNet):
    """A network that is always right about a spot: its flow is how far the spot is from one picture to the other."""

    def estimates(self, first, second, scale=1.0):
        half = ((centres(second) - centres(first)) / 2)[:, :, None, None].expand(-1, -1, *first.shape[2:])
        flow = torch.cat([-half, half], dim=1)
        warped = backward_warp(first, flow[:, :2]), backward_warp(second, flow[:, 2:])
        yield FlowEstimate(flow, torch.zeros_like(first[:, :1]), *warped)


@pytest.mark.parametrize("fps", RATES)
def test_what_moves_evenly_is_where_it_is_at_each_moment(fps):
    times = range(8)
    out = retimed(Seeing(width=8), spots(times).split([3, 1, 4]), 8, RATES[fps])
    moments = torch.tensor([min(i * 12.5 / fps, 7) for i in range(len(out))], dtype=torch.float32)
    right = torch.tensor([20.0, 36.0]) + moments[:, None] * torch.tensor([7.0, -3.0])
    assert (centres(out) - right).abs().max() < 0.05  # of 7 pixels from frame to frame
    assert out.flatten(1).amax(dim=1).min() > 0.9  # one spot, and not two fainter ones


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_moments_on_a_frame_are_that_frame_and_the_last_is_the_last(flownet, step):
    frames = noise(9, 3, 20, 24)
    out = retimed(flownet, frames.split(4), 9, step)
    assert len(out) == retimed_length(9, step)
    assert torch.equal(out[-1], frames[-1])
    on_a_frame = [i for i in range(len(out) - 1) if (i * step).denominator == 1]
    assert 0 in on_a_frame
    for i in on_a_frame:
        assert torch.equal(out[i], frames[int(i * step)])
    for i in set(range(len(out) - 1)) - set(on_a_frame):
        assert (out[i] - frames).abs().flatten(1).amax(dim=1).min() > 0  # a picture of its own


def test_twice_and_four_times_the_frames_are_those_of_halving(flownet):
    frames = noise(6, 3, 20, 24)
    twice = torch.cat(list(interpolate_frames(flownet, frames.split(4), 6)))
    assert torch.equal(retimed(flownet, frames.split(4), 6, Fraction(1, 2)), twice)
    four = torch.cat(list(interpolate_frames(flownet, twice.split(4), 11)))
    torch.testing.assert_close(retimed(flownet, frames.split(4), 6, Fraction(1, 4)), four, rtol=0, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 7), max_size=4),
    batch=st.integers(1, 6),
    step=st.fractions(Fraction(1, 10), 1, max_denominator=100),
)
def test_any_chunks_and_batches_give_the_same_clip(flownet, lengths, batch, step):
    frames = noise(sum(lengths), 3, 17, 13)
    out = torch.cat([frames[:0], *retime_frames(flownet, frames.split(lengths), len(frames), step, batch=batch)])
    assert len(out) == retimed_length(len(frames), step)
    whole = torch.cat([frames[:0], *retime_frames(flownet, [frames], len(frames), step, batch=3)])
    torch.testing.assert_close(out, whole, rtol=0, atol=1e-4)
    assert len(torch.cat([frames[:0], *hold_frames(frames.split(lengths), step)])) == len(out)


def test_the_middle_by_time_is_the_middle(flownet):
    first, second = noise(2, 2, 3, 32, 32)
    torch.testing.assert_close(flownet.at(first, second, torch.full((2,), 0.5)), flownet(first, second))


def test_time_may_run_backwards(flownet):
    first, second = noise(2, 2, 3, 32, 32)
    time = torch.tensor([0.2, 0.7])
    there, back = flownet.at(first, second, time), flownet.at(second, first, 1 - time)
    torch.testing.assert_close(there, back, rtol=0, atol=1e-4)


def test_streams(flownet):
    """Frames are given out before the chunk after them is asked for, and no more of them than a few."""
    asked = []

    def chunks():
        for i in range(40):
            asked.append(i)
            yield noise(2, 3, 16, 16)

    shown = 0
    for piece in retime_frames(flownet, chunks(), 80, RATES[60], batch=2):
        assert len(piece) <= 2 * 4.8 + 1
        shown += len(piece)
        assert shown >= (2 * len(asked) - 1) * 4.8 - 5
    assert shown == retimed_length(80, RATES[60])


class Limited(torch.nn.Module):
    """A network that has memory for `limit` pairs."""

    def __init__(self, flownet, limit):
        super().__init__()
        self.flownet, self.limit = flownet, limit
        self.size_multiple = flownet.size_multiple

    def forward(self, first, second):
        self._take(first)
        return self.flownet(first, second)

    def at(self, first, second, time):
        self._take(first)
        return self.flownet.at(first, second, time)

    def _take(self, first):
        if len(first) > self.limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")


def test_out_of_memory_halves_the_batch(flownet):
    frames, notices = noise(7, 3, 16, 16), []
    hooks = replace(SILENT, notice=notices.append)
    out = retimed(Limited(flownet, 1), [frames], 7, RATES[30], batch=4, hooks=hooks)
    assert len(notices) == 2
    torch.testing.assert_close(out, retimed(flownet, [frames], 7, RATES[30]), rtol=0, atol=1e-4)
    with pytest.raises(VideoError, match="interpolating one frame at a time"):
        retimed(Limited(flownet, 0), [frames], 7, RATES[30])


def test_frames_are_held_until_the_next_one(flownet):
    frames = noise(5, 3, 2, 2)
    out = torch.cat(list(hold_frames(frames.split(2), RATES[30])))
    shown = [int((out[i] == frames).flatten(1).all(dim=1).nonzero()) for i in range(len(out))]
    assert shown == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4]  # 0, 5/12, 10/12, 15/12, ...


@pytest.mark.parametrize("step", [0, -1, Fraction(3, 2)])
def test_steps_out_of_range(flownet, step):
    with pytest.raises(SettingError, match="step must be above 0"):
        retimed(flownet, [noise(2, 3, 8, 8)], 2, step)
    with pytest.raises(SettingError, match="step must be above 0"):
        list(hold_frames([noise(2, 3, 8, 8)], step))
