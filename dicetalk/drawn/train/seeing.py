"""Trains a small image encoder of CLIP's kind to tell people apart, whatever their face does and wherever they are."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import CLIPVisionModelWithProjection

from dicetalk.checkpoints.files import IMAGE_ENCODER
from dicetalk.checkpoints.write import save_half
from dicetalk.drawn.clips import FPS, INTENSITIES
from dicetalk.drawn.faces.expression import emotion_weights, express
from dicetalk.drawn.faces.identity import Split, identity_seeds, sample_identity
from dicetalk.drawn.faces.motion import head_motion
from dicetalk.drawn.faces.render import FaceRenderer
from dicetalk.drawn.faces.scene import sample_scene
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.hooks import Hooks
from dicetalk.portrait.prepare import to_clip_pixels
from dicetalk.train.config import LoopConfig
from dicetalk.train.data import Batch
from dicetalk.train.initial import seeded
from dicetalk.train.loop import PlainTask, make_accelerator, run_training
from dicetalk.train.losses import info_nce

PEOPLE, PICTURES = 24, 2
TEMPERATURE = 0.1


@dataclass(frozen=True)
class PeopleBatches:
    """Batches of several pictures of several people, each in a scene and with an emotion of its own.

    Args:
        split: whose identities.
        size: of the pictures, in pixels.
    """

    split: Split
    size: int

    def __call__(self, rng: np.random.Generator, number: int) -> Batch:
        """`pixels` ``(B, 3, size, size)`` as CLIP takes them, and `people`, int64 ``(B,)``."""
        seeds = rng.choice(np.array(identity_seeds(self.split)), PEOPLE, replace=False)
        pictures = [self._picture(int(seed), rng) for seed in seeds for _ in range(PICTURES)]
        return {
            "pixels": torch.stack([to_clip_pixels(picture, self.size) for picture in pictures]),
            "people": torch.arange(PEOPLE).repeat_interleave(PICTURES),
        }

    def _picture(self, seed: int, rng: np.random.Generator) -> np.ndarray:
        person = sample_identity(seed)
        weights = emotion_weights(str(rng.choice(PRESET_NAMES)), float(rng.choice(INTENSITIES)), 1)
        jaw, stress = rng.uniform(0, 1, 1).astype(np.float32), rng.uniform(0, 1, 1)
        coefficients = express(person.manner, weights, jaw, stress, FPS, rng)
        (frame,) = FaceRenderer(person, sample_scene(rng), self.size).draw_clip(
            coefficients, head_motion(weights, stress, FPS, rng)
        )
        return frame.pixels


class SeeingObjective(nn.Module):
    """The encoder with its contrastive loss."""

    def __init__(self, encoder: CLIPVisionModelWithProjection):
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: torch.Tensor, people: torch.Tensor) -> dict[str, torch.Tensor]:
        """Losses of a batch of :class:`PeopleBatches`.

        ``accuracy`` is how often the nearest other picture shows the same person.
        """
        embeds = self.encoder(pixels).image_embeds.float()
        unit = nn.functional.normalize(embeds.detach(), dim=-1)
        nearest = (unit @ unit.T).fill_diagonal_(-1).argmax(dim=1)
        return {
            "loss": info_nce(embeds, people, TEMPERATURE),
            "accuracy": (people[nearest] == people).float().mean(),
        }


class SeeingTask(PlainTask):
    """See :class:`dicetalk.train.loop.Task`; the trained encoder goes to where a model folder has it."""

    def __init__(self, objective: SeeingObjective, folder: Path):
        size = objective.encoder.config.image_size
        self.module = objective
        self.folder = folder
        self.batches = {"train": PeopleBatches("train", size), "validation": PeopleBatches("test", size)}

    def inputs(self, batch: Batch, generator: torch.Generator) -> dict[str, Any]:
        """The batch as it is."""
        return batch

    def export(self, folder: Path) -> list[Path]:
        """Write the image encoder in half precision into the model folder."""
        return [save_half(self.module.encoder.cpu(), self.folder / IMAGE_ENCODER.name)]


def train_seeing(
    build: Callable[[], CLIPVisionModelWithProjection], folder: Path, out: Path, config: LoopConfig, hooks: Hooks
) -> list[Path]:
    """Train what `build` makes and write it into the model folder `folder`.

    All that is random comes from the seed of `config`; checkpoints and curves go to `out`.

    Raises:
        DiceTalkError: see :func:`dicetalk.train.loop.run_training`.
    """
    objective = seeded(lambda: SeeingObjective(build()), config.seed)
    return run_training(SeeingTask(objective, folder), config, out, make_accelerator(config), hooks)
