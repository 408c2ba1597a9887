"""Trains a small VAE of Stable Video Diffusion's kind.

Pictures are for the encoder and the spatial layers of the decoder, short strips for its temporal layers.

Its loss sees more than pixels, or it would learn brightness alone, by which nine tenths of their differences go. A deep
network learns one direction of its data after another, the largest first (Saxe et al., "Exact solutions to the
nonlinear dynamics of learning in deep linear neural networks", ICLR 2014), and in the time there is it never came to
the difference of green and magenta.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLTemporalDecoder
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import TemporalDecoder
from torch import nn

from dicetalk.checkpoints.files import VAE
from dicetalk.checkpoints.write import save_half
from dicetalk.drawn.train.pictures import FaceBatches, draw_strip
from dicetalk.hooks import Hooks
from dicetalk.train.config import LoopConfig
from dicetalk.train.data import Batch
from dicetalk.train.initial import quieten_residuals, seeded
from dicetalk.train.loop import PlainTask, make_accelerator, run_training
from dicetalk.train.losses import exactly

PARTS, PART_SIZE = 16, 48
CLIP_FRAMES, CLIP_EVERY = 4, 10
POOL = 3000
"""Pictures that parts are taken from."""

KL_WEIGHT = 3e-5
EDGE_WEIGHT = 0.5
AXIS_WEIGHTS = (1.0, 1.5, 3.0)
"""Of errors along the opponent colours."""

COARSE_WEIGHT = 0.3
"""Of what the first channels of the latents differ by from :func:`dicetalk.drawn.train.vae.coarse_code`."""

GAINS = (1.0, 3.0, 4.0)
"""Of the opponent colours where pictures enter the encoder."""

QUIET_LOGVAR = -6.0
"""Logarithm of the latents' variance at first: at 0 the noise drowns all but the largest differences."""

DETAIL_WEIGHT = 6.0
"""How much more the eyes and the mouth count than the rest: a twentieth of the picture and most of the story."""

DETAIL_RADIUS = 0.16
"""Of the spots that count more, in widths of the face."""

MEASURED_PICTURES = 64

OPPONENT = torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]]) / torch.tensor([[3.0], [2], [6]]).sqrt()
"""Brightness, orange less blue, and magenta less green of RGB: rows of a rotation."""

MIDDLE = (0.07, 0.14, 0.02)
SPREAD = (0.67, 0.23, 0.075)
"""Means and standard deviations along :data:`OPPONENT` of drawn pictures in -1..1."""

CELL = 8
"""Pixels across a place of the latents."""

COARSE = 6
"""Channels of :func:`coarse_code`."""

QUARTERS = 6.0
"""Evens out the last three of them with the rest: within eight pixels brightness changes less than between them."""


@exactly
def opponent(pictures: torch.Tensor) -> torch.Tensor:
    """RGB pictures ``(B, 3, H, W)`` along the axes of :data:`OPPONENT`."""
    return torch.einsum("bchw,oc->bohw", pictures, OPPONENT.to(pictures))


def coarse_code(pictures: torch.Tensor) -> torch.Tensor:
    """Basic contents of any code of pictures: the colour of each place and how brightness changes across it.

    Args:
        pictures: RGB in -1..1, ``(B, 3, H, W)``.

    Returns:
        Mean opponent colours, and the brightness to the right less that to the left, below less above, and along one
        diagonal less along the other, all of about unit deviation, ``(B, 6, H / 8, W / 8)``.
    """
    middle, spread = (torch.tensor(x).to(pictures)[:, None, None] for x in (MIDDLE, SPREAD))
    quarters = F.avg_pool2d((opponent(pictures) - middle) / spread, CELL // 2)
    colours = F.avg_pool2d(quarters, 2)
    a, b, c, d = (quarters[:, :1, y::2, x::2] for y in (0, 1) for x in (0, 1))
    changes = torch.cat([b + d - a - c, c + d - a - b, a + d - b - c], dim=1) / 4  # of the Haar transform
    return torch.cat([colours, QUARTERS * changes], dim=1)


def decode_pictures(decoder: TemporalDecoder, latents: torch.Tensor) -> torch.Tensor:
    """Decode single pictures ``(B, 4, h, w)`` without the decoder's temporal layers.

    Equal to the whole decoder while these do nothing, at half the cost.
    """
    x = decoder.conv_in(latents)
    mid = decoder.mid_block
    x = mid.resnets[0].spatial_res_block(x, None)
    for attention, block in zip(mid.attentions, mid.resnets[1:], strict=False):
        x = block.spatial_res_block(attention(x), None)
    for up in decoder.up_blocks:
        for block in up.resnets:
            x = block.spatial_res_block(x, None)
        for upsampler in up.upsamplers or ():
            x = upsampler(x)
    return decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(x)))


def begin_evenly(vae: AutoencoderKLTemporalDecoder) -> None:
    """Initialise `vae` so that nothing about pictures is much louder than the rest.

    Layers are isometric, opponent colours of even size, and latents have little noise.
    """
    for half in (vae.encoder, vae.decoder):
        for layer in (m for m in half.modules() if isinstance(m, nn.Conv2d)):
            nn.init.orthogonal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    channels = vae.quant_conv.out_channels // 2
    louder = OPPONENT.T @ torch.diag(torch.tensor(GAINS)) @ OPPONENT
    with torch.no_grad():
        entry = vae.encoder.conv_in.weight
        entry.copy_(torch.einsum("oihw,ij->ojhw", entry, louder))
        nn.init.orthogonal_(vae.quant_conv.weight[:channels])
        vae.quant_conv.weight[channels:] = 0
        vae.quant_conv.bias[channels:] = QUIET_LOGVAR


def silence_time(decoder: TemporalDecoder) -> None:
    """Let the temporal layers of a decoder pass everything on as it is."""
    for block in (m for m in decoder.modules() if hasattr(m, "temporal_res_block")):
        nn.init.zeros_(block.temporal_res_block.conv2.weight)
        nn.init.zeros_(block.temporal_res_block.conv2.bias)
    nn.init.zeros_(decoder.time_conv_out.bias)
    nn.init.zeros_(decoder.time_conv_out.weight)
    with torch.no_grad():
        channels = range(decoder.time_conv_out.out_channels)
        decoder.time_conv_out.weight[channels, channels, 1] = 1


def detail_weights(landmarks: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Weights of pixels ``(B, 1, H, W)`` that are larger at the eyes and the mouth, with the mean 1.

    Args:
        landmarks: eyes, nose, corners of the mouth, ``(B, 5, 2)``, in pixels.
        boxes: of the face, ``(B, 4)``, in pixels.
        size: H and W.
    """
    eyes, mouth = landmarks[:, :2], landmarks[:, 3:].mean(dim=1, keepdim=True)
    spots = torch.cat([eyes, mouth], dim=1)  # (B, 3, 2)
    radius = boxes[:, 2, None, None, None] * DETAIL_RADIUS * torch.tensor([1.0, 1.0, 1.6])[:, None, None].to(boxes)
    y, x = torch.meshgrid(*(torch.arange(n, device=boxes.device) for n in size), indexing="ij")
    distance = (x - spots[..., 0, None, None]) ** 2 + (y - spots[..., 1, None, None]) ** 2
    weights = 1 + DETAIL_WEIGHT * (-0.5 * distance / radius**2).exp().amax(dim=1, keepdim=True)
    return weights / weights.mean(dim=(2, 3), keepdim=True)


def picture_loss(pictures: torch.Tensor, truth: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean absolute error of pixels' opponent colours, and of their differences to neighbours.

    The latter keeps edges sharp.
    """
    error = pictures - truth
    colours = opponent(error).abs() * torch.tensor(AXIS_WEIGHTS).to(error)[:, None, None]
    across, down = error.diff(dim=-1).abs(), error.diff(dim=-2).abs()
    edges = (across * weights[..., 1:]).mean() + (down * weights[..., 1:, :]).mean()
    return (colours * weights).mean() + EDGE_WEIGHT * edges


class VAEObjective(nn.Module):
    """The VAE with its losses, and with the weights that its training begins with."""

    def __init__(self, vae: AutoencoderKLTemporalDecoder):
        super().__init__()
        begin_evenly(vae)
        quieten_residuals(vae)
        silence_time(vae.decoder)
        self.vae = vae

    def forward(
        self, pictures: torch.Tensor, landmarks: torch.Tensor, boxes: torch.Tensor, eps: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Losses of `pictures` ``(B, T, 3, H, W)`` in -1..1.

        `eps` ``(B * T, channels, H / 8, W / 8)`` is the noise of the latents; `landmarks` and `boxes` are as in
        :func:`detail_weights`, ``(B * T, ...)``.
        """
        frames = pictures.shape[1]
        truth = pictures.flatten(0, 1)
        posterior = self.vae.encode(truth).latent_dist
        latents = posterior.mean + posterior.std * eps
        if frames == 1:
            made = decode_pictures(self.vae.decoder, latents)
        else:
            made = self.vae.decode(latents, num_frames=frames).sample
        height, width = truth.shape[-2:]
        weights = detail_weights(landmarks, boxes, (height, width))
        loss = picture_loss(made.float(), truth, weights)
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        coarse = (mean[:, :COARSE] - coarse_code(truth)).abs().mean()
        error = made.detach().float() - truth
        return {
            "loss": loss + KL_WEIGHT * kl + COARSE_WEIGHT * coarse,
            "error": error.abs().mean() / 2,
            "hue_error": (error - error.mean(dim=1, keepdim=True)).abs().mean() / 2,
            "coarse": coarse,
            "clip_loss" if frames > 1 else "picture_loss": loss.detach(),
            "kl": kl,
        }


class VAETask(PlainTask):
    """See :class:`dicetalk.train.loop.Task`.

    The VAE is trained on drawn faces, and its half-precision weights go to where a model folder has them.
    """

    def __init__(self, objective: VAEObjective, folder: Path):
        self.module = objective
        self.folder = folder
        self.batches = {
            "train": FaceBatches("train", PARTS, PART_SIZE, CLIP_FRAMES, CLIP_EVERY, pool=POOL),
            "validation": FaceBatches("test", PARTS, PART_SIZE, CLIP_FRAMES, 2),
        }

    def inputs(self, batch: Batch, generator: torch.Generator) -> dict[str, Any]:
        """Pictures in -1..1 with the noise of their latents."""
        pictures = batch["frames"].movedim(-1, 2).float() / 127.5 - 1
        batch_size, frames, _, height, width = pictures.shape
        latents = (batch_size * frames, self.module.vae.config.latent_channels, height // 8, width // 8)
        return {
            "pictures": pictures,
            "landmarks": batch["landmarks"].flatten(0, 1),
            "boxes": batch["boxes"].flatten(0, 1),
            "eps": torch.randn(latents, generator=generator).to(pictures),
        }

    def export(self, folder: Path) -> list[Path]:
        """Scale the latents to a deviation of 1 and write the VAE in half precision into the model folder."""
        vae = self.module.vae.cpu()
        normalise(vae, self._latents(vae))
        return [save_half(vae, self.folder / VAE.name)]

    @torch.no_grad()
    def _latents(self, vae: AutoencoderKLTemporalDecoder) -> torch.Tensor:
        drawn = [draw_strip("train", 1, np.random.default_rng([n]))[0].pixels for n in range(MEASURED_PICTURES)]
        pictures = torch.from_numpy(np.stack(drawn)).movedim(-1, 1).float() / 127.5 - 1
        return torch.cat([vae.encode(part).latent_dist.mode() for part in pictures.split(8)])


@torch.no_grad()
def normalise(vae: AutoencoderKLTemporalDecoder, latents: torch.Tensor) -> None:
    """Give the latents, which are `latents` now, the standard deviation 1, so that no scaling factor is needed."""
    std = latents.std().item()
    half = vae.quant_conv.out_channels // 2
    vae.quant_conv.weight[:half] /= std
    vae.quant_conv.bias[:half] /= std
    vae.quant_conv.bias[half:] -= 2 * math.log(std)
    vae.decoder.conv_in.weight *= std


def train_vae(
    build: Callable[[], AutoencoderKLTemporalDecoder], folder: Path, out: Path, config: LoopConfig, hooks: Hooks
) -> list[Path]:
    """Train what `build` makes and write it into the model folder `folder`.

    All that is random comes from the seed of `config`; checkpoints and curves go to `out`.

    Raises:
        DiceTalkError: see :func:`dicetalk.train.loop.run_training`.
    """
    objective = seeded(lambda: VAEObjective(build()), config.seed)
    return run_training(VAETask(objective, folder), config, out, make_accelerator(config), hooks)
