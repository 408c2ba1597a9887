"""Trains a small encoder of Whisper's kind: what the mouth does, how words are stressed, and what the voice feels."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from dicetalk.audio.speech import SAMPLE_RATE, load_speech
from dicetalk.audio.whisper import CHUNK_SAMPLES, SAMPLES_PER_STEP, log_mel_chunks
from dicetalk.checkpoints.files import WHISPER, WHISPER_CONFIG
from dicetalk.checkpoints.write import save_half
from dicetalk.drawn.clips import INTENSITIES
from dicetalk.drawn.faces.identity import Split, identity_seeds, sample_identity
from dicetalk.drawn.voices import sample_voice, sentences, speak
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.evaluate.mouth import mouth_curve
from dicetalk.files import explained, replacing
from dicetalk.hooks import Hooks
from dicetalk.train.config import LoopConfig
from dicetalk.train.data import Batch
from dicetalk.train.initial import seeded
from dicetalk.train.loop import PlainTask, make_accelerator, run_training
from dicetalk.train.losses import UNLABELLED

STEPS = CHUNK_SAMPLES // SAMPLES_PER_STEP
STEP_HZ = SAMPLE_RATE / SAMPLES_PER_STEP
CHUNKS = 2
UTTERANCES = 8
"""Most of them that fit into a chunk."""

GAP_SECONDS = (0.1, 1.2)
EMOTION_WEIGHT = 0.3
CURVE_VARIANCE = 0.05
"""About that of the curves, so that each has a loss of about 1 at first."""

QUIET = Hooks(notice=lambda _: None)


@dataclass(frozen=True)
class VoiceBatches:
    """Batches of 30 s chunks, each of a few people who say something one after another.

    Args:
        split: whose voices and sentences.
        chunks: in a batch.
    """

    split: Split
    chunks: int = CHUNKS

    def __call__(self, rng: np.random.Generator, number: int) -> Batch:
        """Draw a batch of speech.

        `mel` ``(B, 80, 3000)``; `curves`, opening of the mouth and stress at 50 Hz, ``(B, 1500, 2)``; `steps`, where
        each utterance begins and ends, int64 ``(B, 8, 2)``; and its `emotions` ``(B, 8)``.
        """
        chunks = [self._chunk(rng) for _ in range(self.chunks)]
        return {name: torch.stack([chunk[name] for chunk in chunks]) for name in chunks[0]}

    def _chunk(self, rng: np.random.Generator) -> Batch:
        seeds, lines = identity_seeds(self.split), sentences(self.split)
        samples, curves = np.zeros(CHUNK_SAMPLES, np.float32), np.zeros((STEPS, 2), np.float32)
        steps, emotions = np.zeros((UTTERANCES, 2), np.int64), np.full(UTTERANCES, UNLABELLED)
        at = 0
        for place in range(int(rng.integers(2, UTTERANCES + 1))):
            who = seeds[rng.integers(len(seeds))]
            emotion = str(rng.choice(PRESET_NAMES))
            voice = sample_voice(who, sample_identity(who).high_voice)
            sound, rate = speak(
                str(rng.choice(lines)), voice, emotion, float(rng.choice(INTENSITIES)), int(rng.integers(1 << 31))
            )
            heard = load_speech((sound, rate), hooks=QUIET).samples
            begin = at + int(rng.uniform(*GAP_SECONDS) * STEP_HZ)
            end = begin + len(heard) // SAMPLES_PER_STEP
            if end > STEPS:
                break
            samples[begin * SAMPLES_PER_STEP :][: len(heard)] = heard
            curves[begin:end] = np.stack(mouth_curve(sound, rate, end - begin, STEP_HZ), axis=1)
            steps[place], emotions[place], at = (begin, end), PRESET_NAMES.index(emotion), end
        (mel,) = log_mel_chunks(samples)
        return {
            "mel": mel[0],
            "curves": torch.from_numpy(curves),
            "steps": torch.from_numpy(steps),
            "emotions": torch.from_numpy(emotions),
        }


class HearingObjective(nn.Module):
    """The encoder with two linear heads that only training has."""

    def __init__(self, encoder: WhisperEncoder):
        super().__init__()
        self.encoder = encoder
        width = encoder.config.d_model
        self.curves = nn.Linear(width, 2)
        self.emotions = nn.Linear(width, len(PRESET_NAMES))

    def forward(
        self, mel: torch.Tensor, curves: torch.Tensor, steps: torch.Tensor, emotions: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Losses of a batch of :class:`VoiceBatches`."""
        states = self.encoder(mel).last_hidden_state
        error = F.mse_loss(self.curves(states).float(), curves)
        place = torch.arange(states.shape[1], device=states.device)
        inside = (place >= steps[..., :1]) & (place < steps[..., 1:])  # (B, 8, 1500)
        means = inside.to(states) @ states / inside.sum(dim=-1, keepdim=True).clamp(min=1)
        logits = self.emotions(means).float().flatten(0, 1)
        feeling = F.cross_entropy(logits, emotions.flatten(), ignore_index=UNLABELLED)
        right = (logits.argmax(dim=-1) == emotions.flatten()).sum() / (emotions != UNLABELLED).sum()
        return {
            "loss": error / CURVE_VARIANCE + EMOTION_WEIGHT * feeling,
            "curves": error,
            "emotion": feeling,
            "accuracy": right,
        }


class HearingTask(PlainTask):
    """See :class:`dicetalk.train.loop.Task`; the trained encoder goes to where a model folder has it."""

    def __init__(self, objective: HearingObjective, folder: Path):
        # Sines and cosines; Whisper does not train them either.
        objective.encoder.embed_positions.requires_grad_(False)
        self.module = objective
        self.folder = folder
        self.batches = {"train": VoiceBatches("train"), "validation": VoiceBatches("test")}

    def inputs(self, batch: Batch, generator: torch.Generator) -> dict[str, Any]:
        """The batch as it is."""
        return batch

    def export(self, folder: Path) -> list[Path]:
        """Write the encoder in half precision, and its config, into the model folder."""
        encoder = self.module.encoder.cpu()
        weights = save_half(encoder, self.folder / WHISPER.name, "encoder.")
        config = self.folder / WHISPER_CONFIG.name
        with replacing(config) as partial, explained(config):  # the stage is done when this file is there
            encoder.config.to_json_file(partial)
        return [weights, config]


def train_hearing(
    build: Callable[[], WhisperEncoder], folder: Path, out: Path, config: LoopConfig, hooks: Hooks
) -> list[Path]:
    """Train what `build` makes and write it into the model folder `folder`.

    All that is random comes from the seed of `config`; checkpoints and curves go to `out`.

    Raises:
        DiceTalkError: see :func:`dicetalk.train.loop.run_training`.
    """
    objective = seeded(lambda: HearingObjective(build()), config.seed)
    return run_training(HearingTask(objective, folder), config, out, make_accelerator(config), hooks)
