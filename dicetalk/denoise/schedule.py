"""Noise levels and the v-prediction preconditioning of EDM (Karras et al. 2022; Salimans and Ho 2022)."""

import torch

from dicetalk.config import SIGMA_MAX, SIGMA_MIN


def karras_sigmas(
    steps: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, rho: float = 7.0
) -> torch.Tensor:
    """Falling noise levels, float32 ``(steps + 1,)``, the last one zero (Karras et al. 2022, eq. 5)."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas = (high + ramp * (low - high)) ** rho
    return torch.cat([sigmas, sigmas.new_zeros(1)]).float()


def sigma_to_timestep(sigma: torch.Tensor) -> torch.Tensor:
    """Timestep that the UNet is given for a noise level: ``0.25 * log(sigma)``."""
    return 0.25 * sigma.log()


def scale_input(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Noisy latents to unit variance: ``c_in * x``."""
    return x / (sigma**2 + 1).sqrt()


def v_to_denoised(v: torch.Tensor, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Denoised latents from the predicted v: ``c_skip * x + c_out * v``."""
    c_skip = 1 / (sigma**2 + 1)
    c_out = -sigma / (sigma**2 + 1).sqrt()
    return c_skip * x + c_out * v
