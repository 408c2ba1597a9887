"""A small judge that learns to tell made pictures from true ones, asked about people that it has not seen.

A classifier two-sample test (Lopez-Paz and Oquab, "Revisiting classifier two-sample tests", ICLR 2017): half of the
pictures are judged right where nothing distinguishes them, all where everything does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dicetalk.hooks import SILENT, Hooks

PART = 48
"""Side in pixels of the parts that are judged: faults of a decoder are local, and no face tells who it is by them."""

STEPS, BATCH, LEARNING_RATE = 150, 32, 3e-3
ASKED = 400
"""Parts of each kind that are asked about in each half."""

CHANNELS = (3, 12, 24, 32)


@dataclass(frozen=True, eq=False)
class Sample:
    """Pictures of one person, made and true.

    Args:
        person: number of the person.
        made: uint8 RGB ``(N, H, W, 3)``.
        true: likewise, as many.
    """

    person: int
    made: np.ndarray
    true: np.ndarray


def told_apart(samples: Sequence[Sample], seed: int = 0, hooks: Hooks = SILENT) -> float:
    """Part of the pictures of unseen people that a judge trained on the other people takes for what they are.

    Args:
        samples: of two people at least; halves of the people take turns to be learned from and asked about.
        seed: of the judge's weights and of the parts that it sees.
        hooks: asked to stop.

    Returns:
        0.5 where made and true pictures are alike, 1 where none is mistaken; NaN with fewer than two people.
    """
    people = sorted({sample.person for sample in samples})
    if len(people) < 2:
        return float("nan")
    halves = [[s for s in samples if (people.index(s.person) % 2) == half] for half in (0, 1)]
    right = [_trained_on(halves[half], halves[1 - half], seed + half, hooks) for half in (0, 1)]
    return float(np.mean(right))


def _trained_on(learned: Sequence[Sample], asked: Sequence[Sample], seed: int, hooks: Hooks) -> float:
    rng = np.random.default_rng([seed, 0xFA])
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        judge = _judge()
        optimizer = torch.optim.AdamW(judge.parameters(), LEARNING_RATE, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, STEPS)
        for _ in range(STEPS):
            hooks.check()
            parts, truth = _parts(learned, BATCH, rng)
            loss = F.binary_cross_entropy_with_logits(judge(parts)[:, 0], truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    judge.eval()
    with torch.no_grad():
        parts, truth = _parts(asked, ASKED, rng)
        found = torch.cat([judge(some)[:, 0] for some in parts.split(100)])
    return float(((found > 0) == (truth > 0.5)).float().mean())


def _judge() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in pairwise(CHANNELS):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(4, after), nn.SiLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS[-1], 1))


def _parts(samples: Sequence[Sample], count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Parts ``(2 count, 3, side, side)`` in -1..1, and 1 for true ones and 0 for made ones, ``(2 count,)``."""
    parts = []
    for kind in ("true", "made"):
        for _ in range(count):
            frames = getattr(samples[int(rng.integers(len(samples)))], kind)
            side = min(PART, *frames.shape[1:3])
            y, x = (int(rng.integers(size - side + 1)) for size in frames.shape[1:3])
            parts.append(frames[rng.integers(len(frames)), y : y + side, x : x + side])
    pictures = torch.from_numpy(np.stack(parts)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return pictures, torch.cat([torch.ones(count), torch.zeros(count)])
