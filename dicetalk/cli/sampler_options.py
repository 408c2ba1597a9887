"""One option for each field of :class:`dicetalk.settings.SamplerSettings`."""

import argparse
from dataclasses import fields
from typing import Any

from dicetalk.config import FULL, ModelConfig
from dicetalk.errors import SettingError
from dicetalk.settings import SCHEDULES, Ramp, SamplerSettings

_HELP = {
    "steps": "denoising steps; fewer are faster and rougher",
    "window": "frames denoised together; the released network was trained with 25",
    "overlap": "frames that neighbouring windows share; more is smoother and slower",
    "shift": "frames by which the windows move each step",
    "schedule": "'reference' as released, 'tight' without padding: fewer windows on short clips",
    "portrait_guidance": "how strongly the portrait is followed; one number, or FIRST:LAST step",
    "expression_guidance": "how strongly speech and emotion are followed; one number, or FIRST:LAST step",
    "audio_scale": "strength of the speech adapter; 0 switches it off",
    "emotion_scale": "strength of the emotion adapter; 0 switches it off",
    "motion_bucket": "amount of head motion asked for, 0 to 255",
    "expression_bucket": "amount of facial motion asked for, 0 to 255",
    "noise_strength": "part of the noise range that is used; below 1 the clip stays closer to the still portrait",
    "portrait_noise": "noise added to the portrait before it is encoded; 0 adds none",
    "seed": "of the noise; the same seed gives the same noise on every device",
    "batched_guidance": "run the guidance branches one after another: slower, a third of the memory",
    "key_value_budget": "bytes that projected tokens may occupy per adapter before they are projected window by window",
    "retrieval": "let each emotion attend to its nearest entry of the emotion bank alone, as in training, instead of "
    "the whole bank",
}

SAMPLING = ("steps", "portrait_guidance", "expression_guidance")
"""Settings that depend on the model; see :class:`dicetalk.config.SamplingConfig`."""

_KINDS = {bool: "on or off", int: "a whole number", float: "a number", Ramp: "a number or FIRST:LAST", str: "a name"}


def add_sampler_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--steps``, ``--window`` and the other fields."""
    group = parser.add_argument_group("sampling")
    for field in fields(SamplerSettings):
        flag, default = f"--{field.name.replace('_', '-')}", field.default
        of_model = field.name in SAMPLING
        if field.name == "batched_guidance":
            group.add_argument("--one-branch-at-a-time", dest=field.name, action="store_false", help=_HELP[field.name])
            continue
        if field.name == "retrieval":
            group.add_argument(flag, action="store_true", help=_HELP[field.name])
            continue
        group.add_argument(
            flag,
            default=None if of_model else default,
            type=lambda text, name=field.name: _checked(name, text),
            choices=list(SCHEDULES) if field.name == "schedule" else None,
            metavar=None if field.name == "schedule" else "N",
            help=f"{_HELP[field.name]} (default: {default}{', or what the model was made for' if of_model else ''})",
        )


def sampler_settings(options: argparse.Namespace, model: ModelConfig = FULL) -> SamplerSettings:
    """The settings that `options` ask for; what they leave open is what the model was made for.

    Raises:
        SettingError: a value is out of its range.
    """
    asked = {field.name: getattr(options, field.name) for field in fields(SamplerSettings)}
    made_for = {name: getattr(model.sampling, name) for name in SAMPLING if asked[name] is None}
    return SamplerSettings(**asked | made_for)


def parse_setting(name: str, text: str) -> Any:
    """`text` as a value of the field `name`.

    Raises:
        SettingError: there is no such field, or `text` is no value of it.
    """
    types = {field.name: field.type for field in fields(SamplerSettings)}
    if name not in types:
        raise SettingError(f"There is no setting {name!r}. Known: {', '.join(types)}.")
    kind = types[name]
    try:
        if kind is bool:
            return {"on": True, "off": False}[text]
        if kind == Ramp:
            ends = tuple(float(part) for part in text.split(":"))
            return ends[0] if len(ends) == 1 else _pair(ends)
        return kind(text)
    except (ValueError, KeyError):
        raise SettingError(f"{name}: {text!r} is not {_KINDS[kind]}.") from None


def _pair(ends: tuple[float, ...]) -> tuple[float, float]:
    first, last = ends
    return first, last


def _checked(name: str, text: str) -> Any:
    try:
        return parse_setting(name, text)
    except SettingError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
