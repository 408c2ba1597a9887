"""What the sampler's inputs and its presets mean to the library."""

from dataclasses import replace
from typing import Any

from dicetalk.config import SamplingConfig
from dicetalk.errors import SettingError
from dicetalk.settings import Ramp, SamplerSettings

REFERENCE, FAST, CUSTOM = PRESETS = ("reference", "fast", "custom")
MEGABYTE = 1 << 20


def sampler_settings(
    made_for: SamplingConfig,
    *,
    preset: str,
    steps: int,
    schedule: str,
    window: int,
    overlap: int,
    shift: int,
    portrait_guidance: float,
    portrait_guidance_change: float,
    expression_guidance: float,
    expression_guidance_change: float,
    key_value_budget: int,
    **always: Any,
) -> SamplerSettings:
    """The library's settings.

    Args:
        made_for: what the model's reference is.
        preset: one of :data:`PRESETS`; the arguments down to `expression_guidance_change` count for `custom` alone.
        key_value_budget: in megabytes.
        always: what holds with every preset.

    Raises:
        SettingError: a value is out of range, or two do not go together.
    """
    settings = SamplerSettings(
        steps=made_for.steps,
        portrait_guidance=made_for.portrait_guidance,
        expression_guidance=made_for.expression_guidance,
        key_value_budget=key_value_budget * MEGABYTE,
        **always,
    )
    if preset == FAST:
        return replace(settings, steps=max(settings.steps // 2, 1), schedule="tight")
    if preset == REFERENCE:
        return settings
    return replace(
        settings,
        steps=steps,
        schedule=schedule,
        window=window,
        overlap=overlap,
        shift=shift,
        portrait_guidance=_ramp(portrait_guidance, portrait_guidance_change),
        expression_guidance=_ramp(expression_guidance, expression_guidance_change),
    )


def check_windows(preset: str | None, window: int | None, overlap: int | None) -> None:
    """Refuse what the sampler's inputs cannot be together; none is not known before the run.

    Raises:
        SettingError: the preset is unknown, or with it the windows are out of range or overlap wholly.
    """
    if preset is not None and preset not in PRESETS:
        raise SettingError(f"preset {preset!r} is unknown. Choose one of: {', '.join(PRESETS)}.")
    if preset == CUSTOM and None not in (window, overlap):
        SamplerSettings(window=window, overlap=overlap)


def _ramp(first: float, change: float) -> Ramp:
    return (first, first + change) if change else first
