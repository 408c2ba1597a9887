"""A node's inputs out of the library's tables of parameters (:mod:`dicetalk.parameters`)."""

from collections.abc import Callable
from typing import Any

from comfy_api.latest import io

from dicetalk.errors import SettingError, naming
from dicetalk.motion.parse import parse_motion
from dicetalk.parameters import Parameter, Ramp, Timed, parameters

MEGABYTE = 1 << 20


def setting_inputs(
    settings: type, *, required: frozenset[str], only: Callable[[Parameter], bool] = lambda _: True
) -> list[io.Input]:
    """The inputs for the parameters of `settings`, in their order; neighbouring ramps have their changes after both.

    Args:
        settings: dataclass whose fields are parameters.
        required: names of inputs that prompts of the first version have; others came later and are optional, or a
            server would refuse older prompts.
        only: which parameters.
    """
    found: list[io.Input] = []
    changes: list[io.Input] = []
    for each in filter(only, parameters(settings)):
        if each.kind != Ramp:
            found += changes
            changes = []
        number, *change = _inputs(each, optional=each.input_name not in required)
        found.append(number)
        changes += change
    return found + changes


def timed_inputs(settings: type) -> list[io.Input]:
    """A text for each parameter of `settings` that may change over the clip, instead of its number."""
    return [
        io.String.Input(
            over_time(each.input_name),
            default="",
            optional=True,  # prompts from before have no such input
            advanced=True,
            tooltip=f"{each.input_name} over time, instead of its number: voice or voice:20 follows loudness and pace "
            "of the voice; [8, 12, 30] has a number for each frame at 12.5 a second; or keyframes: "
            '{"keyframes": [{"time": 0, "value": 8}, {"time": 1.5, "value": 40}]}. '
            f"Motion Curve may also be wired to {each.input_name} itself.",
        )
        for each in timed(settings)
    ]


def timed(settings: type) -> list[Parameter]:
    """The parameters of `settings` that may change over the clip."""
    return [each for each in parameters(settings) if each.kind == Timed]


def over_time(name: str) -> str:
    """Name of the text beside the number `name`."""
    return f"{name}_over_time"


def motion_over_time(name: str, number: Any, text: str = "") -> Any:
    """Value of a parameter that may change over the clip, from its inputs.

    Args:
        name: of the number's input.
        number: or a list of them, from a wire.
        text: takes its place unless it is empty; no file is read for it.

    Raises:
        SettingError: it is no amount of motion.
    """
    with naming(over_time(name) if text.strip() else name, SettingError):
        return parse_motion(text if text.strip() else number, files=False)


def setting_value(settings: type, values: dict[str, Any]) -> dict[str, Any]:
    """Convert `values` of such inputs to fields of `settings`."""
    taken = dict(values)
    fields = {}
    for each in parameters(settings):
        if each.input_name not in taken:
            continue
        value = taken.pop(each.input_name)
        if each.kind == Ramp and (change := taken.pop(_change(each), 0)):
            value = (value, value + change)
        if each.kind == Timed:
            value = motion_over_time(each.input_name, value, taken.pop(over_time(each.input_name), ""))
        if each.unit == "bytes":
            value *= MEGABYTE
        fields[each.name] = None if each.nothing and value == 0 else value
    return fields | taken  # what is left is reported by the dataclass


def _inputs(each: Parameter, optional: bool) -> list[io.Input]:
    text = f"{each.unit} {each.help}" if each.unit else each.help
    text = f"{text}; 0: {each.nothing}" if each.nothing else text
    common = {"tooltip": _sentence(text), "advanced": each.rare or None, "optional": optional}
    limits = {"min": each.low, "max": each.high} | ({"step": each.step} if each.step else {})
    if each.nothing:
        limits["min"] = min(each.low or 0, type(each.low or 0)(0))
    default = 0 if each.default is None else each.default
    if each.kind is bool:
        return [io.Boolean.Input(each.input_name, default=each.default, **common)]
    if each.choices:
        return [io.Combo.Input(each.input_name, options=list(each.choices), default=each.default, **common)]
    if each.unit == "bytes":
        common["tooltip"] = _sentence(f"megabytes {each.help}")
        limits = {"min": each.low, "max": min(int(each.high or 0) // MEGABYTE, 1 << 20)}
        return [io.Int.Input(each.input_name, default=each.default // MEGABYTE, **limits, **common)]
    if each.kind is int:
        drawn = {"control_after_generate": True} if each.input_name == "seed" else {}
        return [io.Int.Input(each.input_name, default=default, **limits, **drawn, **common)]
    number = io.Float.Input(each.input_name, default=float(default), **limits, **common)
    if each.kind != Ramp:
        return [number]
    change = common | {"tooltip": f"By how much {each.input_name} has changed at the last step.", "advanced": True}
    return [number, io.Float.Input(_change(each), default=0.0, **limits, **change)]


def _change(each: Parameter) -> str:
    return f"{each.input_name}_change"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
