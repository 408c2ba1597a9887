"""The sampling loop: Euler steps (Karras et al. 2022, algorithm 1 without churn) over windows of a clip."""

from collections.abc import Callable

import torch

from dicetalk.denoise.schedule import scale_input, v_to_denoised
from dicetalk.denoise.windows import WindowSchedule
from dicetalk.errors import VideoError
from dicetalk.hooks import SILENT, Hooks

PredictV = Callable[[torch.Tensor, torch.Tensor, list[int], int], torch.Tensor]
"""``predict(x, sigma, frames, step)``: v ``(frames, 4, h, w)`` for the scaled latents `x` of the frames `frames`, in
which a frame may stand several times."""

UPDATE_FRAMES = 64


def sample_euler(
    predict: PredictV,
    x: torch.Tensor,
    sigmas: torch.Tensor,
    schedule: WindowSchedule,
    hooks: Hooks = SILENT,
) -> torch.Tensor:
    """Denoise a clip.

    The clip stays where `x` is; only windows travel to the network, so a device never holds more than one of them.
    Beside `x` there is one tensor of its size: it collects v, and then holds the denoised latents.

    Args:
        predict: the guided network.
        x: noisy latents at ``sigmas[0]``, float32 ``(frames, 4, h, w)``; changed in place.
        sigmas: falling noise levels, ``(steps + 1,)``.
        schedule: windows of each step.
        hooks: asked before every network call; `sample` reports windows done, and after each step the denoised
            latents as preview, which are only valid during the call.

    Returns:
        `x`, denoised.

    Raises:
        VideoError: the network gave NaN or infinite values.
        Cancelled: the caller asked to stop.
    """
    steps = len(sigmas) - 1
    total, done = sum(len(schedule(step)) for step in range(steps)), 0
    v = torch.empty_like(x)
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
        _euler_step(x, v, sigmas[step], sigmas[step + 1])
        hooks.report("sample", done, total, v)
    return x


def _euler_step(x: torch.Tensor, v: torch.Tensor, sigma: torch.Tensor, sigma_next: torch.Tensor) -> None:
    """Move `x` to `sigma_next`; `v` becomes the denoised latents. Both in place, a few frames at a time."""
    for part, denoised in zip(x.split(UPDATE_FRAMES), v.split(UPDATE_FRAMES), strict=True):
        denoised.copy_(v_to_denoised(denoised, part, sigma))
        slope = (part - denoised) / sigma
        part += slope * (sigma_next - sigma)
