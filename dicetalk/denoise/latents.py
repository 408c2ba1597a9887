"""Latents of a clip: the noise that they start from, and the sampled clip before decoding."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Noise:
    """The random numbers of one clip.

    Args:
        portrait: added to the portrait before encoding, ``(1, 3, H, W)``.
        latents: start of the clip, ``(frames, 4, h, w)``, padding included.
    """

    portrait: torch.Tensor
    latents: torch.Tensor


def draw_noise(seed: int, frames: int, image_size: tuple[int, int], latent_channels: int = 4) -> Noise:
    """Draw a clip's noise on the CPU in the released order, so that one seed gives one result on every device.

    Args:
        seed: of a local generator; the global ones are not touched.
        frames: of the clip, padding included.
        image_size: height and width of the portrait, multiples of 8.
        latent_channels: channels of the VAE's latents.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    height, width = image_size
    portrait = torch.randn(1, 3, height, width, generator=generator)
    latents = torch.randn(1, frames, latent_channels, height // 8, width // 8, generator=generator)[0]
    return Noise(portrait, latents)


@dataclass(frozen=True)
class Latents:
    """A sampled clip before decoding.

    Args:
        values: scaled latents, float32 ``(frames or more, 4, h, w)`` on the CPU. What is beyond `frames` is the
            schedule's padding: the last decoder chunk reads it, nobody sees it.
        frames: length of the clip.
    """

    values: torch.Tensor
    frames: int
