"""Trains the expression reader on drawn faces, whose coefficients are known.

``python -m dicetalk.drawn.train.expression_reader OUT.safetensors`` takes about five minutes on one core.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from dicetalk.checkpoints.single import save_expression_reader
from dicetalk.drawn.clips import FPS, SIZE
from dicetalk.drawn.faces.expression import ACTION_UNITS, UNIT, express
from dicetalk.drawn.faces.identity import Split, identity_seeds, sample_identity
from dicetalk.drawn.faces.motion import head_motion
from dicetalk.drawn.faces.render import FaceRenderer
from dicetalk.drawn.faces.scene import sample_scene
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.emotion.reference.expressions import (
    ExpressionReader,
    ExpressionReaderConfig,
    ReadExpressions,
    crop_of,
    reader_input,
)
from dicetalk.emotion.reference.face_track import FaceCrop
from dicetalk.hooks import SILENT, Hooks
from dicetalk.portrait.faces import FaceBox
from dicetalk.progress import Bars
from dicetalk.train.initial import seeded

FACES_EACH = 16
"""Frames that are drawn of one person in one scene."""

BLINKING = 0.2
"""Part of the frames whose lids are on their way; in time it would be a twentieth."""

OPEN_MOUTHS = 0.6

DETECTOR_BOX = ((0.0, 0.041, 0.995, 0.894), (0.02, 0.03, 0.055, 0.06))
"""Mean and deviation of a detector's box of a drawn face against the true one: shift of its middle in widths and
heights, and its width and height. Measured with CenterFace; the deviations are widened."""

BATCH = 128
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.02
SHIFT = 2
"""Pixels by which a crop is moved each time that it is shown."""


@dataclass(frozen=True, eq=False)
class DrawnFaces:
    """Face crops and their truth.

    Args:
        crops: uint8 RGB ``(N, size, size, 3)``.
        coefficients: float32 ``(N, 17)``.
    """

    crops: np.ndarray
    coefficients: np.ndarray


def draw_faces(split: Split, count: int, seed: int, crop: FaceCrop, hooks: Hooks = SILENT) -> DrawnFaces:
    """Faces of many people with every expression, cut out as a detector would see them.

    Frames of a clip resemble each other, so single frames are drawn: random emotions and intensities, mouths, lids.

    Args:
        split: whose faces.
        count: how many, in whole dozens and more: each person is drawn 16 times.
        seed: of everything.
        crop: how they are cut out.
        hooks: hears the stage ``draw``, in people.
    """
    rng = np.random.default_rng([seed, 0xE5])
    seeds = identity_seeds(split)
    crops, truth = [], []
    people = -(-count // FACES_EACH)
    for number in range(people):
        hooks.check()
        person = sample_identity(seeds[rng.integers(len(seeds))])
        weights = np.zeros((FACES_EACH, len(PRESET_NAMES)), np.float32)
        for row, two in enumerate(rng.integers(1, len(PRESET_NAMES), (FACES_EACH, 2))):
            weights[row, two] = rng.uniform(0, (1.0, 0.3))  # a little of a second one
        jaw = rng.uniform(0, 1, FACES_EACH) * (rng.random(FACES_EACH) < OPEN_MOUTHS)
        units = express(person.manner, weights, jaw, rng.uniform(0, 1, FACES_EACH), FPS, rng)
        units[:, UNIT["blink"]] = rng.uniform(0, 1.2, FACES_EACH).clip(0, 1) * (rng.random(FACES_EACH) < BLINKING)
        poses = head_motion(weights, rng.uniform(0, 1, FACES_EACH), FPS, rng)
        frames = FaceRenderer(person, sample_scene(rng), SIZE).draw_clip(units, poses)
        crops += [crop(frame.pixels, seen_box(frame.box, rng)) for frame in frames]
        truth.append(units)
        hooks.report("draw", number + 1, people)
    return DrawnFaces(np.stack(crops), np.concatenate(truth).astype(np.float32))


def seen_box(box: np.ndarray, rng: np.random.Generator) -> FaceBox:
    """Where a detector would see the face whose true box is `box` ``(4,)``; see :data:`DETECTOR_BOX`."""
    shift_x, shift_y, wide, high = rng.normal(*DETECTOR_BOX)
    x, y, width, height = box.tolist()
    middle_x, middle_y = x + (0.5 + shift_x) * width, y + (0.5 + shift_y) * height
    return FaceBox(middle_x - wide * width / 2, middle_y - high * height / 2, wide * width, high * height)


def train_expression_reader(
    faces: DrawnFaces, config: ExpressionReaderConfig, epochs: int, seed: int = 0, hooks: Hooks = SILENT
) -> ExpressionReader:
    """Train a reader on the CPU; equal arguments give equal readers.

    Args:
        faces: to learn from.
        config: sizes; ``config.coefficients`` is 17.
        epochs: how often each is shown.
        seed: of weights and order.
        hooks: hears the stage ``train``, in steps.
    """
    reader = seeded(lambda: ExpressionReader(config), seed)
    reader.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types leave it out
    generator = torch.Generator().manual_seed(seed)
    steps = len(faces.crops) // BATCH * epochs
    optimizer = torch.optim.AdamW(reader.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    crops, truth = torch.from_numpy(faces.crops), torch.from_numpy(faces.coefficients)
    # A rare unit counts as much as a busy one.
    scale = truth.std(dim=0).clamp(min=0.05)
    for step in range(steps):
        hooks.check()
        place = step % (steps // epochs)
        if place == 0:
            order = torch.randperm(len(truth), generator=generator)
        rows = order[place * BATCH : (place + 1) * BATCH]
        shown = _varied(reader_input(crops[rows]), generator)
        loss = F.smooth_l1_loss(reader(shown) / scale, truth[rows] / scale, beta=0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        hooks.report("train", step + 1, steps)
    return reader.requires_grad_(False).eval()


def correlations(reader: ExpressionReader, faces: DrawnFaces) -> dict[str, float]:
    """Pearson correlation of what is read and what is true, of each action unit."""
    read = ReadExpressions(reader)(faces.crops)
    pairs = zip(ACTION_UNITS, read.T, faces.coefficients.T, strict=True)
    return {name: float(np.corrcoef(seen, true)[0, 1]) for name, seen, true in pairs}


def _varied(faces: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Half of a batch mirrored, which no coefficient tells; moved; in another light."""
    if torch.rand((), generator=generator) < 0.5:
        faces = faces.flip(-1)
    down, right = torch.randint(2 * SHIFT + 1, (2,), generator=generator).tolist()
    size = faces.shape[-1]
    moved = F.pad(faces, [SHIFT] * 4, mode="replicate")[..., down : down + size, right : right + size]
    light = 1 + 0.1 * torch.randn(len(faces), 3, 1, 1, generator=generator)
    return (moved + 1) * light - 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw, train, measure on unseen people, and write the file."""
    parser = argparse.ArgumentParser(prog="python -m dicetalk.drawn.train.expression_reader", description=__doc__)
    parser.add_argument("out", type=Path, help="file to write, expression_reader.safetensors")
    parser.add_argument("--faces", type=int, default=16_000, help="to draw (default: 16000)")
    parser.add_argument("--epochs", type=int, default=16, help="how often each is shown (default: 16)")
    parser.add_argument("--seed", type=int, default=0, help="of everything (default: 0)")
    options = parser.parse_args(arguments)
    config = ExpressionReaderConfig(coefficients=len(ACTION_UNITS))
    crop = crop_of(config)
    with Bars() as bars:
        faces = draw_faces("train", options.faces, options.seed, crop, bars.hooks)
        reader = train_expression_reader(faces, config, options.epochs, options.seed, bars.hooks)
        found = correlations(reader, draw_faces("test", 1600, options.seed, crop, bars.hooks))
    save_expression_reader(reader, options.out)
    for name, value in found.items():
        print(f"{name:18} {value:.3f}")
    print(f"{'mean':18} {np.mean(list(found.values())):.3f}")


if __name__ == "__main__":
    main()
