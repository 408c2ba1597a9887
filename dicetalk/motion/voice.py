"""Motion that follows the voice: louder and faster speech moves more."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dicetalk.emotion.voice.features import VoiceFeatures
from dicetalk.emotion.voice.intensity import IntensityScale, voice_liveliness
from dicetalk.parameters import HIGHEST_VOICE, FromVoice, parameters
from dicetalk.settings import SamplerSettings

SCALE = IntensityScale(silence=0.5, ordinary=1.0, highest=HIGHEST_VOICE)
"""Factors on the motion of the speaker's ordinary voice."""


def follow_voice(settings: SamplerSettings, hear: Callable[[], VoiceFeatures]) -> SamplerSettings:
    """`settings` in which everything that is to follow the voice has its number for each frame.

    A number N becomes ``N * f(t)`` with f of :func:`dicetalk.emotion.voice.intensity.voice_liveliness`: half in
    silence, one for the speaker's ordinary loudness and pace, two for the loudest and fastest.

    Args:
        settings: returned as they are where nothing follows the voice.
        hear: measures the speech, when it is asked.
    """
    values = {each.name: (getattr(settings, each.name), each.default) for each in parameters(SamplerSettings)}
    bases = {
        name: default if value.base is None else value.base
        for name, (value, default) in values.items()
        if isinstance(value, FromVoice)
    }
    if not bases:
        return settings
    factors = voice_liveliness(hear(), SCALE).values
    followed: dict[str, Any] = {name: tuple((base * factors).tolist()) for name, base in bases.items()}
    return replace(settings, **followed)
