"""Beginning of a training: a seed for everything that is drawn, and untrained networks that learn fast.

Runs of one config begin alike: no random number comes from the process or the clock.
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import nn

Made = TypeVar("Made")


def seed_for(*numbers: int) -> int:
    """One seed of several numbers, 63 bits, as torch's generators take it."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1


def seeded(build: Callable[[], Made], seed: int) -> Made:
    """Result of `build` under a seed of torch's global generator, such as untrained networks.

    Equal seeds make equal ones, and the generator is as before.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def quieten_residuals(network: nn.Module) -> None:
    """Let every residual block of a network add nothing at first.

    Deep networks then start as shallow ones, and learn several times faster (zero-initialised last layers as in
    Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", NeurIPS 2021).
    """
    for module in network.modules():
        for last in (getattr(module, "conv2", None), getattr(module, "proj_out", None)):
            if isinstance(last, (nn.Conv2d, nn.Conv3d, nn.Linear)):
                nn.init.zeros_(last.weight)
                if last.bias is not None:
                    nn.init.zeros_(last.bias)
