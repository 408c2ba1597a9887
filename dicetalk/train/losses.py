"""Objectives of the embedder (paper eq. 7-8) and of the diffusion model with its emotion bank (eq. 15-17).

Pure functions of tensors and generators. The bank's own loss (eq. 17) comes from
:meth:`dicetalk.emotion.bank.EmotionBank.nearest`.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec

import torch
import torch.nn.functional as F

P_MEAN = 0.7
P_STD = 1.6
"""Mean and standard deviation of log sigma in training (Blattmann et al. 2023, image to video)."""

P = ParamSpec("P")

UNLABELLED = -1
"""The label of a clip whose emotion is not known."""


def group_ids(keys: Sequence[Hashable]) -> torch.Tensor:
    """Number clips by `keys`, equal keys alike, int64 ``(B,)``.

    :func:`dicetalk.train.embedder.group_key` gives a clip's key: who is seen and with which emotion, or the
    video's name.
    """
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys])


def exactly(loss: Callable[Concatenate[torch.Tensor, P], torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Compute `loss` of its first argument in float32 where networks compute in bfloat16, too.

    Autocast would round the products in it to three digits.
    """

    @wraps(loss)
    def exact(values: torch.Tensor, *others: P.args, **named: P.kwargs) -> torch.Tensor:
        with torch.autocast(values.device.type, enabled=False):
            return loss(values.float(), *others, **named)

    return exact


@exactly
def info_nce(priors: torch.Tensor, groups: torch.Tensor, temperature: float = 0.1) -> torch.Tensor:
    """Contrastive loss of sampled priors on cosine similarity (eq. 7-8).

    Each other clip of its group is a positive of a clip, each clip of another group a negative. A clip's loss is the
    mean over its positives, each against all negatives; clips without a positive are skipped.

    The constant that the paper adds to the similarity to keep its exponentials in range stands above and below the
    fraction line and cancels; here the fraction is computed from logarithms, which is exact and in range without it.

    Args:
        priors: ``(B, dim)``.
        groups: equal for clips of one group, int64 ``(B,)``; see :func:`group_ids`.
        temperature: tau.
    """
    unit = F.normalize(priors, dim=-1)
    logits = unit @ unit.T / temperature
    same = groups[:, None] == groups
    positive = (same & ~torch.eye(len(groups), dtype=torch.bool, device=groups.device)).to(logits)
    negatives = logits.masked_fill(same, -torch.inf).logsumexp(dim=1, keepdim=True)
    # -log(p / (p + n)) = log(1 + n / p)
    losses = F.softplus(negatives - logits)
    count = positive.sum(dim=1)
    per_clip = (losses * positive).sum(dim=1) / count.clamp(min=1)
    return per_clip.sum() / (count > 0).sum().clamp(min=1)


@exactly
def anchor_loss(mu: torch.Tensor, labels: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Mean squared distance from each emotion's mean in the batch to its anchor.

    Only the class means are drawn: where a clip lies around its emotion's mean stays free. Anchors that lie close
    together, as the released priors do, leave raw cosine similarity nothing to tell emotions by; contrast the
    differences to the anchors' mean then, ``info_nce(priors - anchors.mean(dim=0), ...)``.

    Args:
        mu: means of the priors, ``(B, dim)``.
        labels: rows of `anchors`, int64 ``(B,)``; :data:`UNLABELLED` clips are left out.
        anchors: ``(classes, dim)``, for instance the eight released priors.
    """
    members = (labels[:, None] == torch.arange(len(anchors), device=labels.device)).to(mu)
    count = members.sum(dim=0)
    means = members.T @ mu / count.clamp(min=1)[:, None]
    distances = (means - anchors.to(mu)).square().mean(dim=-1)
    present = (count > 0).to(mu)
    return (distances * present).sum() / present.sum().clamp(min=1)


def sample_sigmas(count: int, generator: torch.Generator, mean: float = P_MEAN, std: float = P_STD) -> torch.Tensor:
    """Noise levels for training, log-normal, float32 ``(count,)`` on `generator`'s device."""
    return (mean + std * torch.randn(count, generator=generator, device=generator.device)).exp()


def add_noise(latents: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Noisy latents ``z + sigma * eps``; `sigma` ``(B,)`` holds one level for each clip."""
    return latents + _like(sigma, latents) * noise


def v_target(latents: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Target of the network's prediction, ``(eps - sigma * z) / sqrt(sigma^2 + 1)``.

    It is the v that :func:`dicetalk.denoise.sampler.v_to_denoised` turns back into `latents`.

    Args:
        latents: clean latents z, ``(B, ...)``.
        noise: eps, of the shape of `latents`.
        sigma: one level for each clip, ``(B,)``.
    """
    sigma = _like(sigma, latents)
    return (noise - sigma * latents) / (sigma**2 + 1).sqrt()


def denoising_loss(
    v: torch.Tensor,
    latents: torch.Tensor,
    noise: torch.Tensor,
    sigma: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean squared error of the predicted `v` (eq. 1 with v-prediction).

    EDM weighs the error of the denoised latents by ``(sigma^2 + 1) / sigma^2`` = 1 / c_out^2, so that v itself has the
    weight 1 at every noise level. Arguments as for :func:`v_target`; `weights`, if any, of the places of the picture,
    ``(B, 1, 1, h, w)`` with the mean 1, see :func:`place_weights`.
    """
    target = v_target(latents, noise, sigma).float()
    if weights is None:
        return F.mse_loss(v.float(), target)
    return ((v.float() - target).square() * weights).mean()


MOUTH = (0.2, 0.58, 0.8, 0.95)
"""Where the mouth is in a face box, also while it is open: left, top, right, bottom as parts of the box."""


def place_weights(
    box: torch.Tensor, picture: tuple[int, int], size: tuple[int, int], face: float, mouth: float
) -> torch.Tensor:
    """How much the places of a picture count for the denoising loss, ``(1, 1, h, w)`` with the mean 1.

    Args:
        box: x, y, width and height of the face in pixels, ``(4,)``.
        picture: height and width in pixels.
        size: h and w of the latents.
        face: how much a place in the box counts against one outside.
        mouth: how much one counts where the mouth is in the box.
    """
    x, y, width, height = (box.double() / torch.tensor([picture[1], picture[0]] * 2)).tolist()
    rows, columns = ((torch.arange(count, dtype=torch.float64) + 0.5) / count for count in size)
    down, across = ((rows - y) / height)[:, None], ((columns - x) / width)[None]
    left, top, right, bottom = MOUTH
    in_face = (across >= 0) & (across < 1) & (down >= 0) & (down < 1)
    at_mouth = (across >= left) & (across < right) & (down >= top) & (down < bottom)
    weights = torch.ones(size, dtype=torch.float64)
    weights[in_face] = face
    weights[at_mouth] = mouth
    return (weights / weights.mean()).float()[None, None]


def pool_features(features: torch.Tensor, frames: int) -> torch.Tensor:
    """One vector for each clip, ``(B, channels)``: the mean of UNet features ``(B * frames, channels, h, w)``."""
    return features.float().unflatten(0, (-1, frames)).mean(dim=(1, 3, 4))


def classification_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy over emotions (eq. 16), a mean over the clips of the batch, each at a noise level of its own.

    Args:
        logits: ``(B, classes)``.
        labels: int64 ``(B,)``; :data:`UNLABELLED` clips are left out, and without any other the loss is zero.
    """
    total = F.cross_entropy(logits.float(), labels, ignore_index=UNLABELLED, reduction="sum")
    return total / (labels != UNLABELLED).sum().clamp(min=1)


def drop_conditions(
    count: int, generator: torch.Generator, rate: float = 0.05, portrait_only_rate: float = 0.0
) -> torch.Tensor:
    """Conditions dropped from each clip: audio, image, emotion, as booleans ``(count, 3)``.

    Of all clips a part `rate` loses audio alone, as many the image alone, as many the emotion alone, and as many all
    three (paper 4.1), so that each condition is dropped in twice `rate`.

    Args:
        count: number of clips.
        generator: draws them.
        rate: at most 1/4.
        portrait_only_rate: part of the clips that keep nothing but the image. The paper has none; guidance's middle
            branch is such a clip, and a network that never saw one has to guess it. At most ``1 - 4 * rate``.
    """
    draw = torch.rand(count, 1, generator=generator, device=generator.device)
    case = (draw / rate).floor()
    image = torch.arange(3, device=case.device) == 1
    portrait_only = (draw >= 4 * rate) & (draw < 4 * rate + portrait_only_rate) & ~image
    return (case == torch.arange(3, device=case.device)) | (case == 3) | portrait_only


def drop_modalities(count: int, generator: torch.Generator, rate: float = 0.5) -> torch.Tensor:
    """Sequences dropped from each clip's embedding: visual, audio, as booleans ``(count, 2)``; never both.

    Args:
        count: number of clips.
        generator: draws them.
        rate: part of the clips that lose one; each sequence is lost as often.
    """
    draw = torch.rand(count, 1, generator=generator, device=generator.device)
    return torch.cat([draw < rate / 2, (draw >= rate / 2) & (draw < rate)], dim=1)


def _like(sigma: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """`sigma` ``(B,)`` shaped to multiply `latents` ``(B, ...)``; its square overflows in half precision."""
    return sigma.to(latents.device).reshape(-1, *[1] * (latents.ndim - 1))
