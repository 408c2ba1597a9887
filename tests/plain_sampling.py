"""Sampling written out as the method states it, for tests to compare the library with.

One guidance branch at a time, one frame at a time, softmax and sums as they stand in the equations: v-prediction and
noise levels of Karras et al. 2022, eq. 14 of the paper for the adapters, three-way guidance, overlapping windows
averaged. Of the library only the networks' layers are used: no projected rows, no masks kept, no batches, no schedules.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from dicetalk.audio.features import SpeechFeatures
from dicetalk.checkpoints.load import DiceModel
from dicetalk.denoise.attention import CrossAttention
from dicetalk.denoise.conditioning import EncodedPortrait
from dicetalk.denoise.unet import UNet

Windows = Callable[[int], list[list[int]]]


@dataclass(frozen=True)
class PlainClip:
    """What a clip is made from; N frames count the padding.

    Args:
        noise: standard normal ``(N, channels, h, w)``.
        clip_token: image embedding of the portrait, ``(1, context_dim)``.
        image_latents: the portrait as extra input channels, ``(channels, h, w)``.
        start_latents: the portrait under the first noise, ``(channels, h, w)``.
        mask: face mask, ``(1, 1, H, W)``.
        pose: pose features, ``(N, pose_channels, h, w)``; `None` for a model without.
        audio: tokens of each frame, ``(N, tokens, context_dim)``.
        no_audio: tokens of each frame in the branches without speech.
        emotion: as `audio`; `None` for a model without an emotion adapter.
        no_emotion: as `no_audio`.
        buckets: motion bucket and expression bucket of each frame, ``(N, 2)``; `None`: those of the settings.
    """

    noise: torch.Tensor
    clip_token: torch.Tensor
    image_latents: torch.Tensor
    start_latents: torch.Tensor
    mask: torch.Tensor
    pose: torch.Tensor | None
    audio: torch.Tensor
    no_audio: torch.Tensor
    emotion: torch.Tensor | None = None
    no_emotion: torch.Tensor | None = None
    buckets: torch.Tensor | None = None


@dataclass(frozen=True)
class PlainSettings:
    """Numbers of one run; guidance scales are their values at the first and the last step that is run."""

    steps: int
    steps_run: int
    windows: Windows
    portrait_guidance: tuple[float, float] = (3.0, 3.0)
    expression_guidance: tuple[float, float] = (6.0, 6.0)
    audio_scale: float = 1.0
    emotion_scale: float = 1.0
    motion_bucket: float = 8.0
    expression_bucket: float = 16.0
    sigma_min: float = 0.002
    sigma_max: float = 700.0
    solver: str = "euler"
    guidance_low: float = 0.0
    guidance_high: float = 1000.0
    guidance_every: int = 1


@dataclass(frozen=True)
class Conditions:
    """What cross-attention sees of one window in one branch: tokens of each of its frames."""

    clip_token: torch.Tensor
    audio: torch.Tensor
    emotion: torch.Tensor | None
    mask: torch.Tensor
    audio_scale: float
    emotion_scale: float


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int) -> torch.Tensor:
    """``softmax(q k^T / sqrt(d)) v`` of ``(n, channels)`` queries for each head."""
    parts = []
    for q, k, v in zip(query.chunk(heads, -1), key.chunk(heads, -1), value.chunk(heads, -1), strict=True):
        weights = (q @ k.T / math.sqrt(q.shape[-1])).exp()
        parts.append(weights / weights.sum(dim=-1, keepdim=True) @ v)
    return torch.cat(parts, dim=-1)


class PlainAttention(nn.Module):
    """``z + CA(z, clip) + audio_scale * m CA(z, audio) + emotion_scale * m CA(z, emotion)`` (eq. 14)."""

    def __init__(self, trained: CrossAttention):
        super().__init__()
        self.trained = trained

    def spatial(self, hidden: torch.Tensor, size: tuple[int, int], given: Conditions) -> torch.Tensor:
        """Each frame to its own tokens, the adapters inside the face mask only."""
        mask = F.interpolate(given.mask, size=size, mode="bicubic").flatten()[:, None]
        emotions = [None] * len(hidden) if given.emotion is None else given.emotion
        frames = zip(hidden, given.audio, emotions, strict=True)
        return torch.stack([self._sum(pixels, given, audio, emotion, mask) for pixels, audio, emotion in frames])

    def temporal(self, hidden: torch.Tensor, batch: int, given: Conditions) -> torch.Tensor:
        """Each pixel to the mean of the window's tokens, everywhere."""
        assert batch == 1
        audio, emotion = given.audio.mean(dim=0), None if given.emotion is None else given.emotion.mean(dim=0)
        return self._sum(hidden.flatten(0, 1), given, audio, emotion, 1.0).reshape(hidden.shape)

    def _sum(
        self,
        z: torch.Tensor,
        given: Conditions,
        audio: torch.Tensor,
        emotion: torch.Tensor | None,
        mask: torch.Tensor | float,
    ) -> torch.Tensor:
        net, query = self.trained, self.trained.to_q(z)
        total = attend(query, net.to_k(given.clip_token), net.to_v(given.clip_token), net.heads)
        for i, (tokens, scale) in enumerate(((audio, given.audio_scale), (emotion, given.emotion_scale))):
            if tokens is None:
                continue
            key, value = net.processor.to_k_ip[i](tokens), net.processor.to_v_ip[i](tokens)
            total = total + scale * mask * attend(query, key, value, net.heads)
        return net.to_out[0](total)


def plain_unet(unet: UNet) -> UNet:
    """A copy of `unet` whose cross-attention is :class:`PlainAttention`."""
    plain = copy.deepcopy(unet)
    for module in list(plain.modules()):
        if isinstance(getattr(module, "attn2", None), CrossAttention):
            module.attn2 = PlainAttention(module.attn2)
    return plain


def noise_levels(settings: PlainSettings) -> list[float]:
    """Karras et al. 2022, eq. 5, then zero; a strength below 1 leaves the *last* steps, which start lower."""
    low, high = settings.sigma_min ** (1 / 7), settings.sigma_max ** (1 / 7)
    last = max(settings.steps - 1, 1)
    levels = [(high + i / last * (low - high)) ** 7 for i in range(settings.steps)]
    return [*levels[len(levels) - settings.steps_run :], 0.0]


@torch.no_grad()
def plain_latents(unet: UNet, clip: PlainClip, settings: PlainSettings) -> torch.Tensor:
    """Denoised latents ``(N, channels, h, w)``, padding included."""
    network, sigmas = plain_unet(unet), noise_levels(settings)
    x = clip.start_latents.double() + sigmas[0] * clip.noise.double()
    guided = [step for step, sigma in enumerate(sigmas[:-1]) if within(sigma, settings)]
    kept: list[torch.Tensor] = []
    past: list[tuple[float, torch.Tensor]] = []
    for step, (sigma, after) in enumerate(pairwise(sigmas)):
        way = step / (settings.steps_run - 1) if settings.steps_run > 1 else 0.0
        p, e = (a + way * (b - a) for a, b in (settings.portrait_guidance, settings.expression_guidance))
        v, times = torch.zeros_like(x), torch.zeros(len(x))
        whole = step in guided and (step - guided[0]) % settings.guidance_every == 0
        made: list[list[torch.Tensor]] = [[] for _ in x]
        for frames in settings.windows(step):
            scaled = (x[frames] / math.sqrt(sigma**2 + 1)).float()
            branches = ((False, False), (True, False), (True, True))
            v0, v1, v2 = (_predict(network, clip, settings, scaled, sigma, frames, *seen) for seen in branches)
            for place, frame in enumerate(frames):
                made[frame].append(p * (v1[place] - v0[place]) + e * (v2[place] - v1[place]) + v0[place] - v2[place])
                v[frame] += v2[place]
                if whole:
                    v[frame] += made[frame][-1]
                elif step in guided:
                    v[frame] += kept[frame]
                times[frame] += 1
        if whole:
            kept = [torch.stack(each).mean(dim=0) for each in made]
        v /= times.double()[:, None, None, None]
        denoised = x / (sigma**2 + 1) - sigma / math.sqrt(sigma**2 + 1) * v
        towards = denoised
        if settings.solver == "dpmpp_2m" and past and after > 0:
            # Where the line through both denoised latents over log(sigma) is in the middle of the step.
            (sigma_before, before) = past[-1]
            slope = (denoised - before) / math.log(sigma_before / sigma)
            towards = denoised + slope * math.log(sigma / after) / 2
        past.append((sigma, denoised))
        x = after / sigma * x + (1 - after / sigma) * towards
    return x


def within(sigma: float, settings: PlainSettings) -> bool:
    """Whether there is guidance at a noise level."""
    return settings.guidance_low <= sigma <= settings.guidance_high


def _predict(
    network: UNet,
    clip: PlainClip,
    settings: PlainSettings,
    scaled: torch.Tensor,
    sigma: float,
    frames: list[int],
    portrait: bool,
    expression: bool,
) -> torch.Tensor:
    """v ``(frames, channels, h, w)`` of one window, float64, seeing the portrait or speech and emotion or not."""
    image = clip.image_latents if portrait else torch.zeros_like(clip.image_latents)
    sample = torch.stack([torch.cat([frame, image]) for frame in scaled])
    emotion = clip.emotion if expression else clip.no_emotion
    given = Conditions(
        clip.clip_token if portrait else torch.zeros_like(clip.clip_token),
        (clip.audio if expression else clip.no_audio)[frames],
        None if emotion is None else emotion[frames],
        clip.mask,
        settings.audio_scale,
        settings.emotion_scale,
    )
    buckets = [settings.motion_bucket, settings.expression_bucket]
    if clip.buckets is not None:
        buckets = [sum(float(clip.buckets[frame, kind]) for frame in frames) / len(frames) for kind in (0, 1)]
    ids = torch.tensor([[12.5, *buckets]])
    timestep = torch.tensor(0.25 * math.log(sigma))
    v, _ = network(sample[None], timestep, ids, given, None if clip.pose is None else clip.pose[frames])
    return v[0].double()


def ring(total: int, window: int, overlap: int, shift: int) -> Windows:
    """DICE-Talk's windows: they tile a ring of `total` frames that turns by `shift` frames a step.

    Every start is `window - overlap` frames after the one before, so long as it lies on the clip.
    """

    def windows(step: int) -> list[list[int]]:
        turned = [(frame - step * shift % window) % total for frame in range(total + window)]
        return [turned[first : first + window] for first in range(0, total, window - overlap)]

    return windows


@torch.no_grad()
def plain_clip(
    model: DiceModel,
    portrait: EncodedPortrait,
    features: SpeechFeatures,
    means: torch.Tensor,
    noise: torch.Tensor,
    *,
    retrieval: bool = False,
) -> PlainClip:
    """A clip of `model`, each frame's tokens made alone; padding has neither speech nor emotion.

    Args:
        model: its token networks are used as they are.
        portrait: encoded, of the clip.
        features: of the speech; frame i hears the ten steps from 4i, the first four before it.
        means: the emotion prior of each frame, ``(frames, prior_dim)``.
        noise: standard normal, padding included.
        retrieval: attend to the bank's entry that is nearest to the prior, instead of to all entries.
    """
    total, frames = len(noise), len(means)

    def hear(states: torch.Tensor) -> torch.Tensor:
        return model.audio_projection(states[None])[0]

    def feel(mean: torch.Tensor) -> torch.Tensor:
        network = model.emotion_model
        if not retrieval:
            return network.tokens(mean[None])[0]
        place, entries = network.codebook.fc(mean), network.codebook.codebook.weight
        nearest = min(entries, key=lambda entry: float((entry - place).square().sum()))
        context = network.attention.context(network.kv_tokens_linear(nearest[None]))
        return network.attention(network.emo_linear(mean[None]), context)[0]

    silence, nothing = hear(torch.zeros_like(features.states[:10])), feel(torch.zeros_like(means[0]))
    speech = [hear(features.states[4 * frame :][:10]) for frame in range(frames)]
    rest = total - frames
    return PlainClip(
        noise,
        portrait.clip_token[0],
        portrait.image_latents,
        portrait.start_latents,
        portrait.mask,
        portrait.pose.expand(total, -1, -1, -1),
        torch.stack(speech + [silence] * rest),
        torch.stack([silence] * total),
        torch.stack([feel(mean) for mean in means] + [nothing] * rest),
        torch.stack([nothing] * total),
    )
