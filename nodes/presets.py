"""What the sampler's inputs and its presets mean to the library."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from dicetalk.checkpoints.variants import recommended_settings
from dicetalk.config import SamplingConfig
from dicetalk.errors import SettingError
from dicetalk.parameters import Parameter, parameters
from dicetalk.presets import DRAFT, EXACT, FAST, with_preset
from dicetalk.settings import SamplerSettings, VideoSettings

from .parameters import motion_over_time, over_time, setting_value, timed
from .prompts import numbers

REFERENCE, CUSTOM = "reference", "custom"
PRESETS = (REFERENCE, FAST, CUSTOM, DRAFT)
"""`reference` is the library's `exact`."""


def sampler_settings(made_for: SamplingConfig, preset: Mapping[str, Any], **always: Any) -> SamplerSettings:
    """The library's settings.

    Args:
        made_for: what the model's reference is.
        preset: one of :data:`PRESETS` under ``preset``; for `custom` its inputs beside it.
        always: what holds with every preset, as the inputs of :mod:`nodes.parameters` have it. Of those that presets
            fix too, another value than the default wins.

    Raises:
        SettingError: the preset is unknown, a value is out of range, or two do not go together.
    """
    values = dict(preset)
    chosen = values.pop("preset")
    if chosen not in PRESETS:
        raise SettingError(f"preset {chosen!r} is unknown. Choose one of: {', '.join(PRESETS)}.")
    own = setting_value(SamplerSettings, values) if chosen == CUSTOM else {}
    start = with_preset(recommended_settings(made_for), chosen if chosen in (FAST, DRAFT) else EXACT)
    # An input that nobody touched has its default, which leaves the field to the preset.
    shared = [each for each in parameters(SamplerSettings) if each.of_preset and not each.in_preset]
    untouched = {each.name for each in shared if always.get(each.input_name) == each.default}
    given = {name: value for name, value in setting_value(SamplerSettings, always).items() if name not in untouched}
    return replace(start, **given, **own)


def setting_refusals(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Two of the sampler's inputs that do not go together, by the input to change.

    Args:
        inputs: of a prompt, by their full names. A number out of its own range is left to ComfyUI, and the steps of a
            preset are the model's, which is not known before the run.
    """
    refused = {}
    windows = numbers(inputs, "preset.window", "preset.overlap")
    if windows and windows[0] >= 1:
        window, overlap = map(int, windows)
        refused["preset.overlap"] = _refusal(lambda: SamplerSettings(window=window, overlap=overlap))
    ends = numbers(inputs, "preset.steps", "noise_strength")
    if ends and ends[0] >= 1 and ends[1] >= 0:
        refused["noise_strength"] = _refusal(lambda: SamplerSettings(steps=int(ends[0]), noise_strength=ends[1]))
    for each in timed(SamplerSettings):
        text = inputs.get(over_time(each.input_name))
        if isinstance(text, str) and text.strip():
            refused[over_time(each.input_name)] = _refusal(partial(_timed, each, text))
    rate = numbers(inputs, "frame_rate")
    if rate and rate[0]:
        refused["frame_rate"] = _refusal(lambda: VideoSettings(fps=rate[0]))
    return {name: why for name, why in refused.items() if why}


def _timed(each: Parameter, text: str) -> SamplerSettings:
    return SamplerSettings(**{each.name: motion_over_time(each.input_name, 0, text)})


def _refusal(make: Callable[[], Any]) -> str:
    try:
        make()
    except SettingError as error:
        return str(error)
    return ""
