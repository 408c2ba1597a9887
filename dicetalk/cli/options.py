"""Options that several commands have: one for each field of a table of parameters, the speech, the model."""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dicetalk.config import FULL, ModelConfig
from dicetalk.errors import SettingError, naming
from dicetalk.parameters import Parameter, Ramp, Timed, parameters
from dicetalk.presets import EXACT, PRESETS, with_preset
from dicetalk.settings import SamplerSettings, SpeechSettings

_KINDS = {bool: "on or off", int: "a whole number", float: "a number", Ramp: "a number or FIRST:LAST", str: "a name"}
_MOTION = (
    "a number; numbers or keyframes over time as JSON or a .json file; or voice or voice:N, which follow the voice"
)


def add_sampler_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--preset``, ``--steps``, ``--window`` and the other fields."""
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--preset",
        choices=list(PRESETS),
        default=EXACT,
        help="exact: what the model was made for; fast: a fifth of the network's work for nearly the same clip; draft: "
        "a first look. Options beside it win (default: exact)",
    )
    add_options(group, SamplerSettings)


def add_options(group: argparse._ActionsContainer, settings: type, *names: str) -> None:
    """Add an option for each parameter of `settings`, or for those of the given names."""
    for each in parameters(settings):
        if names and each.name not in names:
            continue
        flag = f"--{each.name.replace('_', '-')}"
        if each.kind is bool:
            switch, what = each.off if each.default else (flag[2:], each.help)
            action = "store_false" if each.default else "store_true"
            group.add_argument(f"--{switch}", dest=each.name, action=action, help=what)
            continue
        group.add_argument(
            flag,
            default=None if each.of_model or each.of_preset else each.default,
            type=partial(_checked, each),
            choices=list(each.choices) or None,
            metavar=None if each.choices else each.unit.upper() or ("MOTION" if each.kind == Timed else "N"),
            help=_help(each),
        )


def check_options(options: argparse.Namespace, settings: type) -> None:
    """Refuse a value that the parameters of `settings` do not allow, by the name of its option.

    Raises:
        SettingError: a value is out of its range.
    """
    for each in parameters(settings):
        value = getattr(options, each.name)
        try:
            each.check(value)
        except SettingError as error:
            option = f"--{each.name.replace('_', '-')} {value}"
            raise SettingError(str(error).replace(f"{each.name} is {value!r}", option)) from None


def _help(each: Parameter) -> str:
    ends = {Ramp: "; one number, or FIRST:LAST step", Timed: f": {_MOTION}"}.get(each.kind, "")
    text = f"{each.unit} {each.help}" if each.unit else each.help
    default = each.nothing if each.default is None else each.default
    other = ", or what the model was made for" if each.of_model else ", or the preset's" if each.of_preset else ""
    return f"{text}{ends} (default: {default}{other})"


def sampler_settings(options: argparse.Namespace, model: ModelConfig = FULL) -> SamplerSettings:
    """The settings that `options` ask for; what they leave open is the preset's, or what the model was made for.

    Raises:
        SettingError: a value is out of its range.
    """
    known = list(parameters(SamplerSettings))
    made_for = {each.name: getattr(model.sampling, each.name) for each in known if each.of_model}
    asked = {each.name: getattr(options, each.name) for each in known}
    left_open = {each.name for each in known if (each.of_model or each.of_preset) and asked[each.name] is None}
    given = {name: value for name, value in asked.items() if name not in left_open}
    return replace(with_preset(SamplerSettings(**made_for), options.preset), **given)


def parse_setting(name: str, text: str) -> Any:
    """`text` as a value of the field `name`.

    Raises:
        SettingError: there is no such field, or `text` is no value of it.
    """
    known = {each.name: each for each in parameters(SamplerSettings)}
    if name not in known:
        raise SettingError(f"There is no setting {name!r}. Known: {', '.join(known)}.")
    return _parsed(known[name], text)


def _parsed(each: Parameter, text: str) -> Any:
    try:
        if each.kind is bool:
            return {"on": True, "off": False}[text]
        if each.kind == Ramp:
            ends = tuple(float(part) for part in text.split(":"))
            return ends[0] if len(ends) == 1 else _pair(ends)
        if each.kind == Timed:
            return _motion(each, text)
        return each.kind(text)
    except (ValueError, KeyError):
        raise SettingError(f"{each.name}: {text!r} is not {_KINDS[each.kind]}.") from None


def _motion(each: Parameter, text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        from dicetalk.motion.parse import parse_motion  # takes a second

    with naming(each.name, SettingError):
        return parse_motion(text)


def _pair(ends: tuple[float, ...]) -> tuple[float, float]:
    first, last = ends
    return first, last


def _checked(each: Parameter, text: str) -> Any:
    try:
        return _parsed(each, text)
    except SettingError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_audio_stream(parser: argparse._ActionsContainer) -> None:
    """``--audio-stream``, of every command that reads sound."""
    parser.add_argument(
        "--audio-stream",
        type=int,
        metavar="N",
        help="sound stream of a file that has several, 1 is the first (default: the one marked as default, or the "
        "first that is not silent)",
    )


def add_speech_options(parser: argparse.ArgumentParser) -> None:
    """The group of options about the speech of ``dicetalk generate``."""
    speech = parser.add_argument_group("speech")
    add_options(speech, SpeechSettings, "start", "duration")
    add_audio_stream(speech)
    add_options(speech, SpeechSettings, "pad_start", "pad_end", "silence_below")


MODELS = Path("models")
"""Where weights are looked for if nobody says."""


def add_models_option(parser: argparse._ActionsContainer) -> None:
    """Add ``--models``; what it leaves open :func:`dicetalk.cli.model_folder.found_folder` decides."""
    parser.add_argument(
        "--models",
        type=Path,
        help=f"folder of the weights, or tiny, the bundled model (default: {MODELS} if it is there, else tiny)",
    )
