"""Rough pictures of latents."""

import torch

from dicetalk.video.decode import LatentPreview


def test_an_affine_map_is_found_again() -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(4, 12, 10, generator=generator)
    true = 0.1 * torch.randn(3, 4, generator=generator)
    colours = torch.einsum("rc,chw->rhw", true, latents) + 0.5
    image = colours.clamp(0, 1).repeat_interleave(8, dim=1).repeat_interleave(8, dim=2) * 2 - 1
    preview = LatentPreview.fit(image, latents)
    other = 0.5 * torch.randn(3, 4, 5, 7, generator=generator)
    expected = (torch.einsum("rc,nchw->nrhw", true, other) + 0.5).clamp(0, 1)
    assert (preview(other) - expected).abs().max() < 0.02


def test_latents_that_say_nothing_still_give_the_mean_colour() -> None:
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    pictures = LatentPreview.fit(image, torch.zeros(4, 4, 4))(torch.zeros(2, 4, 4, 4))
    assert pictures.shape == (2, 3, 4, 4)
    assert torch.allclose(pictures[0].mean(dim=(1, 2)), (image.mean(dim=(1, 2)) + 1) / 2, atol=1e-4)
