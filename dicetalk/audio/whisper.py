"""Speech becomes log-mel features and these the hidden states of Whisper's encoder."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from dicetalk.audio.features import SpeechFeatures, join_states
from dicetalk.audio.speech import SAMPLE_RATE, SAMPLES_PER_FRAME
from dicetalk.errors import SpeechError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.residency import CPU, Residency

if TYPE_CHECKING:  # transformers takes seconds to import
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

CHUNK_SAMPLES = 480_000
"""Whisper hears 30 s at a time; the release cuts without overlap."""

SAMPLES_PER_STEP = 320
"""Whisper's states come at 50 Hz; the release takes them in pairs and drops a rest shorter than a pair."""


def log_mel_chunks(samples: np.ndarray) -> Iterator[torch.Tensor]:
    """Log-mel features of mono 16 kHz `samples` ``(n,)``: ``(1, 80, 3000)`` for every begun 30 s, the last padded."""
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=80, sampling_rate=SAMPLE_RATE)
    for start in range(0, len(samples), CHUNK_SAMPLES):
        chunk = samples[start : start + CHUNK_SAMPLES]
        yield extractor(chunk, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features


def hidden_states(encoder: "WhisperEncoder", features: torch.Tensor) -> torch.Tensor:
    """Every hidden state of `encoder` for log-mel `features` ``(1, 80, 3000)``.

    Returns:
        ``(1500, layers + 1, channels)``: the input of each layer, then the normalised output of the last.
    """
    output = encoder(features, output_hidden_states=True)
    # Versions of transformers differ in whether the last collected state is normalised; the output always is.
    return torch.stack((*output.hidden_states[:-1], output.last_hidden_state), dim=2)[0]


def speech_features(
    samples: np.ndarray, encoder: "WhisperEncoder", *, residency: Residency = CPU, hooks: Hooks = SILENT
) -> SpeechFeatures:
    """Run Whisper's encoder over a clip, 30 s at a time; only one chunk lies on the device.

    Args:
        samples: mono speech at 16 kHz, float32 ``(n,)``, at least one frame (1280 samples).
        encoder: Whisper's encoder; its dtype is the states' dtype.
        residency: brings the encoder onto a device.
        hooks: hears the stage ``speech``, in chunks.

    Raises:
        SpeechError: there is less than one frame.
        Cancelled: the caller asked to stop.
    """
    if len(samples) < SAMPLES_PER_FRAME:
        raise SpeechError(
            f"The speech has {len(samples)} samples at {SAMPLE_RATE} Hz; a frame of video needs {SAMPLES_PER_FRAME}."
        )
    steps = len(samples) // (2 * SAMPLES_PER_STEP) * 2
    chunks = math.ceil(steps * SAMPLES_PER_STEP / CHUNK_SAMPLES)

    def states(device: torch.device) -> Iterator[torch.Tensor]:
        dtype = encoder.conv1.weight.dtype
        for done, features in enumerate(log_mel_chunks(samples), start=1):
            hooks.check()
            chunk = hidden_states(encoder, features.to(device, dtype)).cpu()
            hooks.report("speech", done, chunks)
            yield chunk

    with residency(encoder) as device, torch.no_grad():
        joined = join_states(states(device), steps)
    return SpeechFeatures(joined, len(samples) // SAMPLES_PER_FRAME, len(samples) / SAMPLE_RATE)
