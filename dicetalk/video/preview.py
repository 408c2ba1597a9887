"""Rough pictures of latents while they are being denoised, by one small matrix product."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


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
