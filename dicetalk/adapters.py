"""Adapters of the UNet: what it attends to beside the portrait's clip token, and how a clip's tokens are made.

A model has a tuple of :class:`Adapter`, in the order of the UNet's projections. DICE-Talk has two, :data:`AUDIO` and
:data:`EMOTION` (eq. 14).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from dicetalk.audio.features import SpeechFeatures
from dicetalk.audio.projection import AudioProjection
from dicetalk.config import ModelConfig
from dicetalk.denoise.tokens import FrameTokens
from dicetalk.emotion.bank import BankContext, EmotionModel, PriorTokens
from dicetalk.emotion.track import EmotionTrack
from dicetalk.errors import SettingError
from dicetalk.settings import FPS, SamplerSettings


@dataclass(frozen=True, eq=False)
class Conditions:
    """Conditions of a clip beside its portrait.

    Args:
        features: speech.
        emotion: emotion over the clip; `None` for a model without an emotion adapter.
        settings: sampler settings.
    """

    features: SpeechFeatures
    emotion: EmotionTrack | None
    settings: SamplerSettings


@dataclass(frozen=True)
class Adapter:
    """One adapter.

    Args:
        name: its scale is the sampler setting of that name and ``_scale``, such as ``audio_scale``.
        network: field of the model that holds the network which makes its tokens.
        tokens: tokens of each frame of a clip, without padding. The network is not run before rows are asked for, so
            that it may still be moved to a device.
    """

    name: str
    network: str
    tokens: Callable[[Any, ModelConfig, Conditions], FrameTokens]

    def of(self, model: Any) -> nn.Module:
        """Its network in `model`, a :class:`dicetalk.checkpoints.load.DiceModel`."""
        return getattr(model, self.network)


@dataclass(frozen=True)
class AudioRows:
    """Audio tokens of each frame; row 0 has no speech, row ``1 + i`` is frame i."""

    features: SpeechFeatures
    projection: AudioProjection
    tokens: int

    def __len__(self) -> int:
        return 1 + self.features.frames

    def __call__(self, rows: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Audio tokens of `rows`, ``(len(rows), tokens, output_dim)``."""
        windows = self.features.windows((rows - 1).clamp(min=0))
        windows = windows * (rows > 0).to(windows)[:, None, None, None]
        # The projection may be kept in float32 beside a UNet in half precision.
        weight = next(self.projection.parameters(), None)
        return self.projection(windows.to(device, dtype if weight is None else weight.dtype)).to(dtype)


@dataclass(eq=False)
class EmotionRows:
    """Emotion tokens of each distinct prior; row 0 has no emotion, row ``1 + i`` is prior i ``(priors, prior_dim)``.

    With `retrieval` a prior attends to its nearest bank entry, otherwise to the whole bank, whose keys and values are
    computed once.
    """

    priors: torch.Tensor
    model: EmotionModel | PriorTokens
    tokens: int
    retrieval: bool = False
    _bank: BankContext | None = field(default=None, init=False, repr=False)

    def __len__(self) -> int:
        return 1 + len(self.priors)

    def __call__(self, rows: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Emotion tokens of `rows`, ``(len(rows), tokens, attention_dim)``."""
        priors = torch.cat([torch.zeros_like(self.priors[:1]), self.priors])[rows].to(device, dtype)
        if isinstance(self.model, PriorTokens):
            return self.model.tokens(priors)
        if self.retrieval:
            return self.model.retrieved_tokens(priors)[0]
        if self._bank is None:
            self._bank = self.model.bank_context(priors)
        return self.model.tokens(priors, self._bank)


def _audio_tokens(network: AudioProjection, config: ModelConfig, given: Conditions) -> FrameTokens:
    frames = given.features.frames
    rows = AudioRows(given.features, network, config.audio.context_tokens)
    return FrameTokens(rows, 1 + torch.arange(frames), torch.zeros(frames, dtype=torch.long))


def _emotion_tokens(network: EmotionModel | PriorTokens, config: ModelConfig, given: Conditions) -> FrameTokens:
    if given.emotion is None:
        raise SettingError("This model shows emotions: give one, such as the preset neutral.")
    frames = given.features.frames
    priors, index = given.emotion.priors(frames, FPS)
    rows = EmotionRows(priors, network, config.emotion.query.context_tokens, given.settings.retrieval)
    return FrameTokens(rows, 1 + index, torch.zeros(frames, dtype=torch.long))


AUDIO = Adapter("audio", "audio_projection", _audio_tokens)
EMOTION = Adapter("emotion", "emotion_model", _emotion_tokens)

DICE_ADAPTERS = (AUDIO, EMOTION)
