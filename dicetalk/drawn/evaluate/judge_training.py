"""Training of the judges on drawn faces, and their file, so that a second evaluation need not train them again."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dicetalk.checkpoints.single import SingleFile
from dicetalk.drawn.evaluate.judges import JudgeConfig, Judges, judge_input
from dicetalk.drawn.evaluate.snapshots import Snapshots, draw_snapshots
from dicetalk.drawn.faces.identity import identity_seeds
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.hooks import SILENT, Hooks
from dicetalk.train.initial import seeded

BATCH = 64
LEARNING_RATE = 2e-3
STRENGTH_WEIGHT = 4.0
COSINE_SCALE = 16.0
"""Of the cosines between a face and the people in training."""

MAX_BLUR = 1.2
"""Standard deviation in pixels of a judge's picture: about what a small VAE loses."""

MAX_NOISE, MAX_TINT, MAX_SHIFT, MAX_ZOOM = 0.06, 0.08, 0.06, 0.05

SMALL_JUDGES = JudgeConfig()

JUDGES = SingleFile("dicetalk.judges", "`evaluate`", JudgeConfig, Judges, {}, torch.float16)
"""Trained judges."""

save_judges, load_judges = JUDGES.save, JUDGES.load


@dataclass(frozen=True)
class JudgeTraining:
    """How long the judges learn, and from how many faces.

    Args:
        people: training identities.
        scenes: of each of them.
        per_scene: faces in each scene.
        epochs: how often each face is seen.
        seed: of everything.
    """

    people: int = 1000
    scenes: int = 2
    per_scene: int = 6
    epochs: int = 14
    seed: int = 0


def train_judges(
    faces: Snapshots, training: JudgeTraining, config: JudgeConfig = SMALL_JUDGES, hooks: Hooks = SILENT
) -> Judges:
    """Train both judges on `faces`; on the CPU, ready for use.

    Args:
        faces: of training identities.
        training: its `epochs` and `seed` count here.
        config: sizes of the networks.
        hooks: progress of `judges` in epochs.
    """
    generator = torch.Generator().manual_seed(training.seed)
    people = int(faces.people.max()) + 1
    judges, directions = seeded(
        lambda: (Judges(config), nn.Parameter(torch.randn(people, config.embedding))), training.seed
    )
    emotions, who = torch.from_numpy(faces.emotions), torch.from_numpy(faces.people)
    strengths = F.one_hot(emotions, len(PRESET_NAMES)) * torch.from_numpy(faces.intensities)[:, None]

    optimizer = torch.optim.AdamW([*judges.parameters(), directions], LEARNING_RATE, weight_decay=0.02)
    steps = training.epochs * (len(faces.crops) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    for epoch in range(training.epochs):
        order = torch.randperm(len(faces.crops), generator=generator)
        for rows in order[: len(order) // BATCH * BATCH].split(BATCH):
            hooks.check()
            seen = disturbed(judge_input(faces.crops[rows]), generator)
            judged, strength = judges.emotions(seen)
            cosines = judges.who(seen) @ F.normalize(directions, dim=1).T
            loss = (
                F.nll_loss(judged, emotions[rows])
                + STRENGTH_WEIGHT * F.mse_loss(strength, strengths[rows])
                + F.cross_entropy(COSINE_SCALE * cosines, who[rows])
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        hooks.report("judges", epoch + 1, training.epochs)
    return judges.eval().requires_grad_(False)


def disturbed(crops: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Crops as a network might generate them: softer, noisier, a little elsewhere, in slightly other colours."""

    def uniform(*shape: int) -> torch.Tensor:
        return 2 * torch.rand(*shape, generator=generator) - 1

    count = len(crops)
    zoom = 1 + MAX_ZOOM * uniform(count)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = zoom
    theta[:, :, 2] = 2 * MAX_SHIFT * uniform(count, 2)
    grid = F.affine_grid(theta, list(crops.shape), align_corners=False)
    crops = F.grid_sample(crops, grid, padding_mode="border", align_corners=False)
    # One blur for a whole batch: there are enough batches.
    crops = blurred(crops, max(float(uniform(1)), 0) * MAX_BLUR)
    noise = MAX_NOISE * torch.rand(count, 1, 1, 1, generator=generator) * torch.randn(crops.shape, generator=generator)
    gain = 1 + MAX_TINT * uniform(count, 3, 1, 1)
    return crops * gain + MAX_TINT * uniform(count, 1, 1, 1) + noise


def blurred(crops: torch.Tensor, deviation: float) -> torch.Tensor:
    """Crops behind a Gaussian blur of so many pixels; as they are for 0."""
    if deviation < 0.2:
        return crops
    x = torch.arange(-3, 4, dtype=torch.float32)
    weights = torch.exp(-0.5 * (x / deviation) ** 2)
    kernel = (weights / weights.sum()).expand(3, 1, 1, 7)
    crops = F.conv2d(F.pad(crops, (3, 3, 0, 0), mode="replicate"), kernel, groups=3)
    return F.conv2d(F.pad(crops, (0, 0, 3, 3), mode="replicate"), kernel.transpose(2, 3), groups=3)


def judges_of(path: Path, training: JudgeTraining, size: int, hooks: Hooks = SILENT) -> Judges:
    """The judges in the file `path`, which are trained and written first if there is no such file.

    Args:
        path: of the file.
        training: how they are trained.
        size: of the pictures that they learn from, in pixels.
        hooks: progress of `draw` and `judges`.

    Raises:
        CheckpointError: what is there is damaged.
        OutputError: the file cannot be written.
    """
    if not path.exists():
        people = np.random.default_rng(training.seed).choice(identity_seeds("train"), training.people, replace=False)
        faces = draw_snapshots(people.tolist(), training.scenes, training.per_scene, size, training.seed, hooks=hooks)
        save_judges(train_judges(faces, training, hooks=hooks), path)
    return load_judges(path)
