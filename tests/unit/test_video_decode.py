"""Latents to frames: chunks, the sampler's padding, and less memory than asked for."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder

from dicetalk.errors import Cancelled, SettingError, VideoError
from dicetalk.hooks import SILENT
from dicetalk.memory import is_out_of_memory
from dicetalk.video import decode_frames


@pytest.fixture(scope="module")
def small_vae():
    torch.manual_seed(0)
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32, 32, 32), layers_per_block=1, down_block_types=("DownEncoderBlock2D",) * 4
    )
    with torch.no_grad():  # a fresh decoder ignores the other frames: its learned mix starts on the side of one frame
        for name, parameter in vae.named_parameters():
            if name.endswith("mix_factor"):
                parameter.fill_(0.0)
            elif "temporal_res_block" in name and name.endswith("weight"):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return vae.eval()


@pytest.fixture
def vae(small_vae, monkeypatch):
    """The small VAE; ``vae.calls`` lists the number of frames of each call, ``vae.limit`` makes more frames fail."""
    decode = small_vae.decode

    def counted(z, num_frames):
        small_vae.calls.append(num_frames)
        if num_frames > small_vae.limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return decode(z, num_frames=num_frames)

    monkeypatch.setattr(small_vae, "decode", counted)
    monkeypatch.setattr(small_vae, "calls", [], raising=False)
    monkeypatch.setattr(small_vae, "limit", 1000, raising=False)
    return small_vae


def noise(frames, height=2, width=3):
    return torch.randn(frames, 4, height, width, generator=torch.Generator().manual_seed(1))


def plainly(vae, latents):
    with torch.no_grad():
        return (vae.decode(latents / vae.config.scaling_factor, num_frames=len(latents)).sample / 2 + 0.5).clamp(0, 1)


def test_frames_of_each_chunk_are_decoded_together(vae):
    latents = noise(7)
    chunks = list(decode_frames(vae, latents, 7, chunk=3))
    assert [len(c) for c in chunks] == [3, 3, 1]
    assert vae.calls == [3, 3, 1]
    for chunk, part in zip(chunks, latents.split(3), strict=True):
        assert chunk.dtype == torch.float32 and chunk.shape[1:] == (3, 16, 24)
        assert torch.equal(chunk, plainly(vae, part))
    assert not torch.allclose(chunks[0][:1], plainly(vae, latents[:1]), atol=1e-3), "this decoder mixes no time"


def test_last_chunk_reads_the_padding_and_the_rest_of_it_is_not_decoded(vae):
    latents = noise(15)
    frames = torch.cat(list(decode_frames(vae, latents, 6, chunk=4)))
    assert vae.calls == [4, 4]
    assert len(frames) == 6
    expected = plainly(vae, latents[4:8])[:2]
    assert torch.equal(frames[4:], expected)
    assert not torch.allclose(plainly(vae, latents[4:6]), expected, atol=1e-3)


def test_out_of_memory_halves_the_chunk_and_goes_on_at_the_frame_that_failed(vae):
    latents, notices = noise(11), []
    vae.limit = 3
    frames = decode_frames(vae, latents, 9, chunk=8, hooks=replace(SILENT, notice=notices.append))
    frames = torch.cat(list(frames))
    assert vae.calls == [8, 4, 2, 2, 2, 2, 2]
    assert len(frames) == 9
    assert torch.equal(frames[2:4], plainly(vae, latents[2:4]))
    assert len(notices) == 2 and "8" in notices[0] and "2" in notices[1]


def test_out_of_memory_in_the_middle_loses_and_repeats_nothing(vae):
    latents = noise(8)
    stream = decode_frames(vae, latents, 8, chunk=4, hooks=replace(SILENT, notice=lambda _: None))
    first = next(stream)
    vae.limit = 2
    rest = list(stream)
    assert [len(first), *map(len, rest)] == [4, 2, 2]
    assert torch.equal(torch.cat(rest), torch.cat([plainly(vae, latents[4:6]), plainly(vae, latents[6:8])]))


def test_no_memory_for_one_frame(vae):
    vae.limit = 0
    with pytest.raises(VideoError, match=r"decoding one frame at a time.*2\.00 GiB.*smaller picture"):
        list(decode_frames(vae, noise(4), 4, chunk=2, hooks=replace(SILENT, notice=lambda _: None)))


def test_other_errors_are_not_retried(vae, monkeypatch):
    def broken(z, num_frames):
        vae.calls.append(num_frames)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(vae, "decode", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        list(decode_frames(vae, noise(4), 4))
    assert len(vae.calls) == 1


def test_out_of_memory_is_recognised():
    with pytest.raises(RuntimeError) as host:
        torch.empty(1 << 55)
    assert is_out_of_memory(host.value)
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("x"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_half_precision_overflow_is_an_error_not_a_black_frame(vae, monkeypatch, value):
    decode = vae.decode

    def overflow(z, num_frames):
        result = decode(z, num_frames=num_frames)
        result.sample[-1, 0, 0, 0] = float(value)
        return result

    monkeypatch.setattr(vae, "decode", overflow)
    with pytest.raises(VideoError, match=r"not finite.*float32"):
        list(decode_frames(vae, noise(2), 2))


def test_latents_that_are_not_finite_are_not_the_decoders_fault(vae):
    latents = noise(2)
    latents[1, 0, 0, 0] = float("nan")
    with pytest.raises(VideoError, match="what made them failed"):
        list(decode_frames(vae, latents, 2))


def test_cancelled_between_chunks(vae):
    stop = []
    stream = decode_frames(vae, noise(6), 6, chunk=2, hooks=replace(SILENT, cancelled=lambda: bool(stop)))
    next(stream)
    stop.append(1)
    with pytest.raises(Cancelled):
        next(stream)
    assert vae.calls == [2]


def test_progress_counts_frames_and_not_padding(vae):
    seen = []
    hooks = replace(SILENT, progress=lambda stage, done, total, preview: seen.append((stage, done, total)))
    list(decode_frames(vae, noise(9), 5, chunk=4, hooks=hooks))
    assert seen == [("decode", 4, 5), ("decode", 5, 5)]


def test_a_waiting_stream_holds_neither_the_device_nor_the_gradient_mode(vae):
    inside = []

    @contextmanager
    def residency(*modules, memory_required=0):
        assert modules == (vae,)
        assert memory_required > 0
        inside.append(1)
        yield torch.device("cpu")
        inside.pop()

    for _ in decode_frames(vae, noise(4), 4, chunk=2, residency=residency):
        assert not inside
        assert torch.is_grad_enabled()


def test_chunk_out_of_range(vae):
    with pytest.raises(SettingError, match=r"chunk.*0"):
        next(decode_frames(vae, noise(2), 2, chunk=0))


def test_pictures_that_overshoot_are_cut_to_black_and_white(vae, monkeypatch):
    decode = vae.decode
    monkeypatch.setattr(vae, "decode", lambda z, num_frames: replace_sample(decode(z, num_frames=num_frames), 10))
    (frames,) = decode_frames(vae, noise(3), 3)
    assert frames.min() == 0 and frames.max() == 1
    torch.testing.assert_close(frames, plainly(vae, noise(3)))


def replace_sample(output, factor):
    return replace(output, sample=factor * output.sample)
