"""Latents to frames, a chunk at a time, with Stable Video Diffusion's temporal decoder; and to rough previews."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from dicetalk.errors import SettingError, VideoError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.memory import smaller_batch
from dicetalk.residency import CPU, Residency

if TYPE_CHECKING:  # diffusers takes seconds to import, and nothing here needs more than the name
    from diffusers import AutoencoderKLTemporalDecoder


ACTIVATIONS_PER_PIXEL = 10
"""Upper bound of what lives at once in a pass, in multiples of the narrowest block's channels and for one output pixel:
8 in the released decoder, the rest is workspace."""


def decode_frames(
    vae: "AutoencoderKLTemporalDecoder",
    latents: Tensor,
    frames: int,
    *,
    chunk: int = 10,
    residency: Residency = CPU,
    hooks: Hooks = SILENT,
) -> Iterator[Tensor]:
    """Decode the first `frames` latents; at most one chunk of pictures exists at a time.

    The decoder mixes time inside a chunk, so the chunk length shapes the picture. For the same reason the last chunk is
    decoded together with the latents that follow `frames` (the sampler's padding), as the release does.

    Args:
        vae: used in the dtype of its weights.
        latents: (T, 4, h, w), scaled as the denoiser leaves them, on any device; T is at least `frames`.
        frames: how many to give out.
        chunk: frames decoded together; halved when memory runs out (``hooks.notice`` says so).
        residency: brings `vae` onto its device, for one chunk each time: between two chunks the device is free for the
            stages that follow.
        hooks: reports the stage "decode" in frames.

    Yields:
        (n, 3, 8h, 8w) float32 in 0..1 on the CPU, n at most `chunk`.

    Raises:
        SettingError: `chunk` is below 1.
        VideoError: there is no memory for one frame, or the latents or the pictures are not finite numbers.
    """
    if chunk < 1:
        raise SettingError(f"chunk must be at least 1, got {chunk}.")
    start = 0
    while start < frames:
        hooks.check()
        if not latents[start : start + chunk].isfinite().all():
            raise VideoError("The latents hold NaN or infinite values: what made them failed, not the decoder.")
        try:
            pictures = _decode(vae, latents[start : start + chunk], residency)
        except (RuntimeError, MemoryError) as error:
            chunk = smaller_batch(chunk, error, hooks, "decoding")
            continue
        pictures = pictures[: frames - start]
        if not pictures.isfinite().all():  # before the clamp, which would make white and black of infinities
            raise VideoError(
                f"Decoding gave values that are not finite, from frame {start} on, with a VAE in {vae.dtype}. "
                "Run it in float32, or in bfloat16 where memory is short."
            )
        start += len(pictures)
        hooks.report("decode", start, frames)
        yield pictures.clamp_(0, 1)


# Not around the generator: a `no_grad` that is open while a generator waits would also bind its caller.
@torch.no_grad()
def _decode(vae: "AutoencoderKLTemporalDecoder", latents: Tensor, residency: Residency) -> Tensor:
    with residency(vae, memory_required=_decode_bytes(vae, latents)) as device:
        latents = latents.to(device, vae.dtype) / vae.config.scaling_factor
        pictures = vae.decode(latents, num_frames=len(latents)).sample
        return pictures.float().cpu().div_(2).add_(0.5)


def _decode_bytes(vae: "AutoencoderKLTemporalDecoder", latents: Tensor) -> int:
    frames, _, height, width = latents.shape
    pixels = frames * height * width * 8**2
    return pixels * ACTIVATIONS_PER_PIXEL * vae.config.block_out_channels[0] * vae.dtype.itemsize


@dataclass(frozen=True, eq=False)
class LatentPreview:
    """An affine map from a latent pixel's channels to its colour.

    Args:
        weights: ``(channels + 1, 3)``, the last row is added.
    """

    weights: torch.Tensor

    @classmethod
    def fit(cls, image: torch.Tensor, latents: torch.Tensor) -> "LatentPreview":
        """The map that fits the portrait best, so that it suits any VAE without numbers of its own.

        Args:
            image: the portrait, ``(3, H, W)`` in -1..1.
            latents: its scaled latents, ``(channels, h, w)``.
        """
        colours = F.interpolate((image[None].float() + 1) / 2, latents.shape[-2:], mode="area")[0]
        return cls(torch.linalg.lstsq(_rows(latents), colours.flatten(1).T, driver="gelsd").solution)

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures ``(n, 3, h, w)`` in 0..1 of scaled latents ``(n, channels, h, w)``."""
        return torch.stack([(_rows(x) @ self.weights).T.unflatten(1, x.shape[-2:]) for x in latents]).clamp(0, 1)


def _rows(latents: torch.Tensor) -> torch.Tensor:
    """Latent pixels ``(h * w, channels + 1)``, the last column ones."""
    return F.pad(latents.float().flatten(1).T, (0, 1), value=1.0)
