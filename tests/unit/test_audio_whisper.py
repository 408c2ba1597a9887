"""From samples to windows of Whisper states, with small random encoders."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from dicetalk.audio.features import STEPS_BEFORE, WINDOW, SpeechFeatures, frame_windows, join_states
from dicetalk.audio.projection import AudioProjection
from dicetalk.audio.whisper import CHUNK_SAMPLES, hidden_states, log_mel_chunks, speech_features
from dicetalk.config import AudioConfig
from dicetalk.errors import Cancelled
from dicetalk.hooks import Hooks


@pytest.fixture(scope="module")
def encoder() -> WhisperEncoder:
    torch.manual_seed(0)
    config = WhisperConfig(d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=16, num_mel_bins=80)
    return WhisperEncoder(config).eval()


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(samples).astype(np.float32) * 0.1


# Windows


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.data())
def test_windows_are_the_steps_around_each_frame(lengths: list[int], data: st.DataObject) -> None:
    steps = 2 * data.draw(st.integers(1, max(sum(lengths) // 2, 1)))
    chunks = [torch.randn(n, 2, 3) for n in lengths]
    whole = torch.cat(chunks)[:steps]
    states = join_states(chunks, steps)
    frames = steps // 4
    windows = SpeechFeatures(states, frames, frames / 12.5).windows(slice(None))
    assert windows.shape == (frames, WINDOW, 2, 3)
    for frame in range(frames):
        for place in range(WINDOW):
            step = 4 * frame + place - STEPS_BEFORE
            expected = whole[step] if 0 <= step < len(whole) else torch.zeros(2, 3)
            assert torch.equal(windows[frame, place], expected)


def test_windows_by_index_and_without_copying() -> None:
    features = SpeechFeatures(torch.randn(4 + 100 + 6, 2, 3), 25, 2.0)
    index = torch.tensor([24, 0, 0, 7])
    assert torch.equal(features.windows(index), features.windows(slice(None))[index])
    view = features.windows(slice(5, 9))
    assert view.untyped_storage().data_ptr() == features.states.untyped_storage().data_ptr()
    assert frame_windows(features.states).untyped_storage().nbytes() == features.states.untyped_storage().nbytes()
    assert torch.equal(features.unconditional_window(), torch.zeros(WINDOW, 2, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_projection_in_half_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = AudioProjection(AudioConfig(layers=2, channels=3, intermediate_dim=16, output_dim=8, context_tokens=4))
    windows = torch.randn(2, 5, WINDOW, 2, 3)
    exact = model(windows)
    assert exact.shape == (2, 5, 4, 8)
    assert (model.to(dtype)(windows.to(dtype)) - exact).abs().max() < 0.1


# Whisper


@pytest.mark.parametrize("samples", [1600, 16_000, 16_640, CHUNK_SAMPLES, CHUNK_SAMPLES + 1, CHUNK_SAMPLES + 1280])
def test_lengths_and_progress(encoder: WhisperEncoder, samples: int) -> None:
    reports: list[tuple[str, int, int]] = []
    features = speech_features(
        noise(samples),
        encoder,
        hooks=Hooks(progress=lambda stage, done, total, _: reports.append((stage, done, total))),
    )
    assert features.frames == samples // 1280
    assert features.seconds == samples / 16_000
    assert features.states.shape == (4 + samples // 640 * 2 + 6, 3, 16)
    assert len(features.windows(slice(None))) == features.frames
    assert features.states[4:-6].abs().amin(dim=(1, 2)).isfinite().all()
    assert features.states[4:-6].flatten(1).any(dim=1).all()
    heard = -(-(samples // 640 * 640) // CHUNK_SAMPLES)
    assert reports == [("speech", i + 1, heard) for i in range(heard)]


@torch.no_grad()
def test_states_are_layer_inputs_and_the_normalised_output(encoder: WhisperEncoder) -> None:
    (features,) = log_mel_chunks(noise(16_000))
    seen: list[torch.Tensor] = []
    handles = [
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append((*args, *kwargs.values())[0]), with_kwargs=True
        )
        for layer in encoder.layers
    ]
    handles.append(encoder.layer_norm.register_forward_hook(lambda _, args, output: seen.append(output)))
    states = hidden_states(encoder, features)
    for handle in handles:
        handle.remove()
    assert states.shape == (1500, 3, 16)
    assert torch.equal(states, torch.stack([state[0] for state in seen], dim=1))


def test_chunks_are_heard_alone(encoder: WhisperEncoder) -> None:
    samples = noise(CHUNK_SAMPLES + 32_000)
    whole = speech_features(samples, encoder).states[4:-6]
    second = speech_features(samples[CHUNK_SAMPLES:], encoder).states[4:-6]
    assert torch.equal(whole[1500:], second)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_states_keep_the_encoders_dtype(encoder: WhisperEncoder, dtype: torch.dtype) -> None:
    exact = speech_features(noise(16_000), encoder).states
    try:
        states = speech_features(noise(16_000), encoder.to(dtype)).states
    finally:
        encoder.float()
    assert states.dtype == dtype and states.device.type == "cpu"
    assert (states - exact).abs().max() < 0.2


def test_cancelling(encoder: WhisperEncoder) -> None:
    done: list[int] = []
    hooks = Hooks(progress=lambda stage, i, n, preview: done.append(i), cancelled=lambda: len(done) == 1)
    with pytest.raises(Cancelled):
        speech_features(noise(3 * CHUNK_SAMPLES), encoder, hooks=hooks)
    assert done == [1]


def test_silence_gives_finite_states(encoder: WhisperEncoder) -> None:
    assert speech_features(np.zeros(16_000, np.float32), encoder).states.isfinite().all()
