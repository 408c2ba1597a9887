"""The sampling loop: Euler steps (Karras et al. 2022, algorithm 1 without churn) over windows of a clip."""

from collections.abc import Callable

import torch

from dicetalk.denoise.schedule import scale_input, v_to_denoised
from dicetalk.denoise.windows import WindowSchedule
from dicetalk.hooks import SILENT, Hooks

PredictV = Callable[[torch.Tensor, torch.Tensor, list[int], int], torch.Tensor]
"""``predict(x, sigma, frames, step)``: v ``(frames, 4, h, w)`` for the scaled latents `x` of the frames `frames`."""


def sample_euler(
    predict: PredictV,
    x: torch.Tensor,
    sigmas: torch.Tensor,
    schedule: WindowSchedule,
    hooks: Hooks = SILENT,
) -> torch.Tensor:
    """Denoise a clip.

    The clip stays where `x` is; only windows travel to the network, so a device never holds more than one of them.

    Args:
        predict: the guided network.
        x: noisy latents at ``sigmas[0]``, float32 ``(frames, 4, h, w)``.
        sigmas: falling noise levels, ``(steps + 1,)``.
        schedule: windows of each step.
        hooks: asked before every network call; `sample` reports windows done, with the denoised latents as preview.

    Returns:
        Latents of the shape of `x`.
    """
    steps = len(sigmas) - 1
    plan = [schedule(step) for step in range(steps)]
    total, done = sum(map(len, plan)), 0
    for step, windows in enumerate(plan):
        sigma, sigma_next = sigmas[step], sigmas[step + 1]
        scaled = scale_input(x, sigma)
        v = torch.zeros_like(x)
        covered = torch.zeros(len(x), 1, 1, 1, dtype=x.dtype, device=x.device)
        for frames in windows:
            hooks.check()
            v[frames] += predict(scaled[frames], sigma, frames, step).to(v)
            covered[frames] += 1
            done += 1
            if frames is not windows[-1]:
                hooks.report("sample", done, total)
        denoised = v_to_denoised(v / covered, x, sigma)
        slope = (x - denoised) / sigma
        x = x + slope * (sigma_next - sigma)
        hooks.report("sample", done, total, denoised)
    return x
