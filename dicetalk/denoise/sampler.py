"""The sampling loop over windows of a clip, its solvers and its noise levels.

``euler`` is algorithm 1 of Karras et al. 2022 without churn, as released. ``dpmpp_2m`` is algorithm 2 of Lu et al. 2022
(DPM-Solver++, second-order multistep) with the noise level for its time. Noise levels and the preconditioning of the
v-prediction are those of EDM (Karras et al. 2022; Salimans and Ho 2022).
"""

from collections.abc import Callable

import torch

from dicetalk.config import SIGMA_MAX, SIGMA_MIN
from dicetalk.denoise.windows import WindowSchedule
from dicetalk.errors import VideoError
from dicetalk.hooks import SILENT, Hooks


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


PredictV = Callable[[torch.Tensor, torch.Tensor, list[int], int], torch.Tensor]
"""``predict(x, sigma, frames, step)``: v ``(frames, 4, h, w)`` for the scaled latents `x` of the frames `frames`, in
which a frame may stand several times."""

UPDATE_FRAMES = 64


def sample_clip(
    predict: PredictV,
    x: torch.Tensor,
    sigmas: torch.Tensor,
    schedule: WindowSchedule,
    hooks: Hooks = SILENT,
    solver: str = "euler",
) -> torch.Tensor:
    """Denoise a clip.

    The clip stays where `x` is; only windows travel to the network, so a device never holds more than one of them.
    Beside `x` there is one tensor of its size: it collects v, and then holds the denoised latents. For ``dpmpp_2m``
    there is one more: the denoised latents of the step before.

    Args:
        predict: the guided network.
        x: noisy latents at ``sigmas[0]``, float32 ``(frames, 4, h, w)``; changed in place.
        sigmas: falling noise levels, ``(steps + 1,)``.
        schedule: windows of each step.
        hooks: asked before every network call; `sample` reports windows done, and after each step the denoised
            latents as preview, which are only valid during the call.
        solver: one of :data:`dicetalk.settings.SOLVERS`.

    Returns:
        `x`, denoised.

    Raises:
        VideoError: the network gave NaN or infinite values.
        Cancelled: the caller asked to stop.
    """
    steps = len(sigmas) - 1
    total, done = sum(len(schedule(step)) for step in range(steps)), 0
    v = torch.empty_like(x)
    earlier: torch.Tensor | None = None
    for step in range(steps):
        windows = schedule(step)
        v.zero_()
        covered = torch.zeros(len(x), 1, 1, 1, dtype=x.dtype, device=x.device)
        for frames in windows:
            hooks.check()
            predicted = predict(scale_input(x[frames], sigmas[step]), sigmas[step], frames, step)
            # Not `v[frames] +=`, which keeps one of the predictions of a frame that stands in the window several times.
            places = torch.tensor(frames, device=x.device)
            v.index_add_(0, places, predicted.to(v))
            covered.index_add_(0, places, x.new_ones(len(frames), 1, 1, 1))
            done += 1
            if frames is not windows[-1]:
                hooks.report("sample", done, total)
        v /= covered
        if not all(part.isfinite().all() for part in v.split(UPDATE_FRAMES)):  # a clip's length of booleans is much
            raise VideoError(
                f"Step {step + 1} of {steps}: the network gave values that are not finite. Run it in bfloat16 or "
                "float32 if it ran in float16, check its files, or lower guidance and adapter scales."
            )
        if solver == "euler":
            _euler_step(x, v, sigmas[step], sigmas[step + 1])
        else:
            _multistep_step(x, v, earlier, sigmas[max(step - 1, 0)], sigmas[step], sigmas[step + 1])
        hooks.report("sample", done, total, v)
        if solver == "dpmpp_2m" and step + 1 < steps:
            earlier, v = v, torch.empty_like(x) if earlier is None else earlier
    return x


def _euler_step(x: torch.Tensor, v: torch.Tensor, sigma: torch.Tensor, sigma_next: torch.Tensor) -> None:
    """Move `x` to `sigma_next`; `v` becomes the denoised latents. Both in place, a few frames at a time."""
    for part, denoised in zip(x.split(UPDATE_FRAMES), v.split(UPDATE_FRAMES), strict=True):
        denoised.copy_(v_to_denoised(denoised, part, sigma))
        slope = (part - denoised) / sigma
        part += slope * (sigma_next - sigma)


def _multistep_step(
    x: torch.Tensor,
    v: torch.Tensor,
    earlier: torch.Tensor | None,
    sigma_before: torch.Tensor,
    sigma: torch.Tensor,
    sigma_next: torch.Tensor,
) -> None:
    """As :func:`_euler_step`, along the line through the denoised latents at `sigma` and `earlier` at `sigma_before`.

    The first step, which has no earlier one, and the last, which ends at the denoised latents, are Euler steps.
    """
    slope = 0.0
    if earlier is not None and sigma_next > 0:
        # h / (2 h_before), where h are steps of -log(sigma).
        slope = float((sigma / sigma_next).log() / (2 * (sigma_before / sigma).log()))
    left = float(sigma_next / sigma)
    befores = v.split(UPDATE_FRAMES) if earlier is None else earlier.split(UPDATE_FRAMES)
    for part, denoised, before in zip(x.split(UPDATE_FRAMES), v.split(UPDATE_FRAMES), befores, strict=True):
        denoised.copy_(v_to_denoised(denoised, part, sigma))
        part *= left
        part += (1 - left) * (denoised + slope * (denoised - before) if slope else denoised)
