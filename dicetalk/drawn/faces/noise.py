"""Slow random motion."""

import numpy as np


def smooth_noise(rng: np.random.Generator, frames: int, fps: float, seconds: float, channels: int) -> np.ndarray:
    """Band-limited noise of mean 0 and deviation about 1: random values every `seconds`, joined by a smooth curve.

    Returns:
        ``(frames, channels)``.
    """
    at = np.arange(frames) / (fps * seconds)
    knots = rng.normal(0, 1, (int(at[-1]) + 2, channels))
    left = at.astype(int)
    done = (0.5 - 0.5 * np.cos(np.pi * (at - left)))[:, None]
    # The curve lies nearer to 0 between knots than at them; the divisor makes up for that on average.
    return (knots[left] * (1 - done) + knots[left + 1] * done) / np.sqrt((1 - done) ** 2 + done**2)
