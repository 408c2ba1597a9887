"""The disentangled emotion embedder: a clip's expression and speech become a Gaussian emotion prior (paper 3.1)."""

from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from dicetalk.denoise.blocks import sinusoidal
from dicetalk.errors import EmotionError, SettingError

AUDIO_RATE = 50.0
"""Whisper's encoder steps per second."""

MIN_VARIANCE = 1e-8
"""Below it sigma stays at 1e-4 and passes no gradient on: that of a square root at zero is infinite."""


@dataclass(frozen=True)
class EmbedderConfig:
    """Sizes of the embedder.

    Args:
        visual_dim: expression coefficients per frame (StyleTalk's face model has 64).
        audio_dim: Whisper layers x channels per step.
        dim: width of every layer and of the prior (d_s).
        layers: how often both sequences are updated and the audio attends to the visual sequence.
        heads: attention heads, each an equal part of `dim`.
        hidden_dim: width inside the feed-forward networks.
        fusion_weight: lambda of eq. 3.
        visual_fps: frame rate of the visual sequences.

    Raises:
        SettingError: `dim` cannot be split into heads and pairs of sines and cosines, or `visual_fps` is not positive.
    """

    visual_dim: int = 64
    audio_dim: int = 5 * 384
    dim: int = 256
    layers: int = 3
    heads: int = 8
    hidden_dim: int = 1024
    fusion_weight: float = 1.0
    visual_fps: float = 25.0

    def __post_init__(self) -> None:
        if self.dim % 2 or self.dim % self.heads:
            raise SettingError(
                f"The embedder's dim is {self.dim}; expected an even multiple of its {self.heads} heads."
            )
        if not self.visual_fps > 0:
            raise SettingError(f"The embedder's visual_fps is {self.visual_fps:g}; expected a positive number, as 25.")


class PriorDistribution(NamedTuple):
    """Emotion priors as Gaussians: mean `mu` and standard deviation `sigma`, each float32 ``(B, dim)``."""

    mu: torch.Tensor
    sigma: torch.Tensor

    def sample(self, generator: torch.Generator) -> torch.Tensor:
        """One prior of each, ``mu + sigma * eps`` (eq. 6). Drawn on `generator`'s device, returned on `mu`'s."""
        eps = torch.randn(self.mu.shape, generator=generator, device=generator.device)
        return self.mu + self.sigma * eps.to(self.mu)


def attention_pool(hidden: torch.Tensor, scores: torch.Tensor, mask: torch.Tensor) -> PriorDistribution:
    """Mean and standard deviation over time, weighted by the softmax of `scores` (eq. 4-5).

    Args:
        hidden: ``(B, M, dim)``.
        scores: ``(B, M)``.
        mask: true where there is a step, ``(B, M)``; at least one in each row.
    """
    hidden, scores = hidden.float(), scores.float()
    weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=1)[..., None]
    mu = (weights * hidden).sum(dim=1)
    variance = (weights * (hidden - mu[:, None]).square()).sum(dim=1)
    return PriorDistribution(mu, variance.clamp(min=MIN_VARIANCE).sqrt())


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, mask: torch.Tensor) -> torch.Tensor:
    """Multi-head attention to the keys where `mask` ``(B, keys)`` is true."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None]).transpose(1, 2).flatten(2)


class EncoderBlock(nn.Module):
    """Self-attention and a feed-forward network, each normalised before and added after."""

    def __init__(self, dim: int, heads: int, hidden_dim: int, operations: ModuleType):
        super().__init__()
        self.heads = heads
        self.norm1 = operations.LayerNorm(dim)
        self.to_qkv = operations.Linear(dim, 3 * dim)
        self.to_out = operations.Linear(dim, dim)
        self.norm2 = operations.LayerNorm(dim)
        self.expand = operations.Linear(dim, hidden_dim)
        self.reduce = operations.Linear(hidden_dim, dim)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Update `x` ``(B, M, dim)``; `mask` ``(B, M)`` is true where there is a step."""
        q, k, v = self.to_qkv(self.norm1(x)).chunk(3, dim=-1)
        x = x + self.to_out(_attend(q, k, v, self.heads, mask))
        return x + self.reduce(F.gelu(self.expand(self.norm2(x))))


class FusionLayer(nn.Module):
    """Updates both sequences; then the audio attends to the visual one (eq. 2-3)."""

    def __init__(self, config: EmbedderConfig, operations: ModuleType):
        super().__init__()
        dim, heads, hidden_dim = config.dim, config.heads, config.hidden_dim
        self.heads = heads
        self.fusion_weight = config.fusion_weight
        self.visual_block = EncoderBlock(dim, heads, hidden_dim, operations)
        self.audio_block = EncoderBlock(dim, heads, hidden_dim, operations)
        self.visual_norm = operations.LayerNorm(dim)
        self.audio_norm = operations.LayerNorm(dim)
        self.to_q = operations.Linear(dim, dim)
        self.to_k = operations.Linear(dim, dim)
        self.to_v = operations.Linear(dim, dim)

    def forward(
        self, visual: torch.Tensor, audio: torch.Tensor, visual_mask: torch.Tensor, audio_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Update both sequences, ``(B, N, dim)`` and ``(B, M, dim)``; masks are true where there is a step."""
        visual = self.visual_block(visual, visual_mask)
        audio = self.audio_block(audio, audio_mask)
        context = self.visual_norm(visual)
        q, k, v = self.to_q(self.audio_norm(audio)), self.to_k(context), self.to_v(context)
        return visual, audio + self.fusion_weight * _attend(q, k, v, self.heads, visual_mask)


class EmotionEmbedder(nn.Module):
    """Expression coefficients and Whisper states to a Gaussian emotion prior; either may be missing.

    Both sequences carry their positions in time, so they need not have the same rate, and a missing one, which is zeros
    everywhere, still has an order.

    Args:
        config: sizes.
        operations: namespace of the layers (``Linear``, ``LayerNorm``).
    """

    def __init__(self, config: EmbedderConfig, operations: ModuleType = nn):
        super().__init__()
        self.config = config
        self.visual_in = operations.Linear(config.visual_dim, config.dim)
        self.audio_in = operations.Linear(config.audio_dim, config.dim)
        self.layers = nn.ModuleList([FusionLayer(config, operations) for _ in range(config.layers)])
        self.norm = operations.LayerNorm(config.dim)
        self.score = operations.Linear(config.dim, 1, bias=False)  # W_s of eq. 4

    def forward(
        self,
        visual: torch.Tensor | None = None,
        audio: torch.Tensor | None = None,
        visual_lengths: torch.Tensor | None = None,
        audio_lengths: torch.Tensor | None = None,
    ) -> PriorDistribution:
        """Embed a batch of clips.

        What lies behind a clip's length has no influence. A missing sequence is taken as zeros of the other's duration,
        which is what modality dropout trains for.

        Args:
            visual: expression coefficients at ``config.visual_fps``, ``(B, N, visual_dim)``.
            audio: Whisper states at 50 Hz, ``(B, M, layers, channels)`` or ``(B, M, audio_dim)``.
            visual_lengths: frames of each clip, int64 ``(B,)``, on the CPU at best; N if none.
            audio_lengths: steps of each clip, likewise; M if none.

        Raises:
            EmotionError: both are missing, or a clip has no frames or steps, or more than its tensor.
        """
        steps_per_frame = AUDIO_RATE / self.config.visual_fps
        seen = None if visual is None else (visual, _checked_lengths(visual, visual_lengths, "face video"))
        heard = None if audio is None else (audio.flatten(2), _checked_lengths(audio, audio_lengths, "speech"))
        if seen is None and heard is not None:
            seen = _zeros(heard[0], heard[1] / steps_per_frame, self.config.visual_dim)
        elif heard is None and seen is not None:
            heard = _zeros(seen[0], seen[1] * steps_per_frame, self.config.audio_dim)
        if seen is None or heard is None:
            raise EmotionError("An emotion prior needs a face video, speech, or both; neither was given.")

        visual_mask, audio_mask = _mask(*seen), _mask(*heard)
        visual = self._entered(self.visual_in, seen[0], visual_mask, steps_per_frame)
        audio = self._entered(self.audio_in, heard[0], audio_mask, 1.0)
        for layer in self.layers:
            visual, audio = layer(visual, audio, visual_mask, audio_mask)
        audio = self.norm(audio)
        return attention_pool(audio, self.score(audio)[..., 0], audio_mask)

    def _entered(self, layer: nn.Module, x: torch.Tensor, mask: torch.Tensor, spacing: float) -> torch.Tensor:
        """`x` projected to the common width, with its positions in time, `spacing` audio steps apart."""
        hidden = layer(x.masked_fill(~mask[..., None], 0))
        positions = torch.arange(x.shape[1], device=x.device) * spacing
        return hidden + sinusoidal(positions, self.config.dim).to(hidden)


def _checked_lengths(x: torch.Tensor, lengths: torch.Tensor | None, what: str) -> torch.Tensor:
    if lengths is None:
        lengths = torch.full((len(x),), x.shape[1])
    if lengths.min() < 1 or lengths.max() > x.shape[1]:
        raise EmotionError(
            f"The lengths of the {what} are {lengths.tolist()[:8]}; expected 1 to {x.shape[1]} for each clip. "
            "Leave out clips without any, or give the other of video and speech alone."
        )
    return lengths


def _zeros(like: torch.Tensor, lengths: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Zeros ``(B, longest, dim)`` in place of a missing sequence, and its `lengths` in whole steps, at least one."""
    lengths = lengths.round().long().clamp(min=1)
    return like.new_zeros(len(like), int(lengths.max()), dim), lengths


def _mask(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return torch.arange(x.shape[1], device=x.device) < lengths.to(x.device)[:, None]
