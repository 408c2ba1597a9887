"""Where a training's random numbers come from: everything that is drawn has a seed that the config's decides."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

Made = TypeVar("Made")


def seed_for(*numbers: int) -> int:
    """One seed of several numbers, 63 bits, as torch's generators take it."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1


def seeded(build: Callable[[], Made], seed: int) -> Made:
    """What `build` makes with torch's global generator, such as untrained networks.

    Equal seeds make equal ones, and the generator is as before.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
