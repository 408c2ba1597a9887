"""Amounts of motion: one number, numbers over time, or following the voice.

Everything that a user may give for `motion_bucket` and `expression_bucket` is read by :func:`parse_motion`:

- a number;
- a list, tuple, array or tensor of numbers: one for each frame of the model, 12.5 a second; the last one is held;
- a table, as JSON text or the path of a ``.json`` file: ``{"values": [8, 12, 30], "fps": 12.5}``, where `fps` may be
  left out, or ``{"keyframes": [{"time": 0, "value": 8, "easing": "smooth"}, {"time": 1.5, "value": 40}]}`` with times
  in seconds and the easings of emotion tracks ("linear" may be left out); JSON text may be a list of numbers, too;
- a :class:`dicetalk.emotion.track.Curve`;
- ``voice``, or ``voice:N``: N times the loudness and pace of the voice, see :func:`follow_voice`; without a number, the
  parameter's default.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dicetalk.emotion.track import EASINGS, MAX_SECONDS, Curve
from dicetalk.emotion.voice.features import VoiceFeatures
from dicetalk.emotion.voice.intensity import IntensityScale, voice_liveliness
from dicetalk.errors import SettingError, naming
from dicetalk.parameters import HIGHEST_VOICE, MAX_VALUES, FromVoice, Timed, parameters
from dicetalk.paths import read_limited
from dicetalk.settings import FPS, SamplerSettings
from dicetalk.strict_json import check_names, excerpt, number, parse_json

MAX_BYTES = 8 << 20
VOICE = "voice"


def parse_motion(given: Any, files: bool = True) -> Timed:
    """Parse an amount of motion; see the module's text for its forms.

    Args:
        given: any of the forms.
        files: a text that ends in ``.json`` is the path of a file; else no file is read.

    Returns:
        A number, a number for each frame at 12.5 fps, or :class:`dicetalk.parameters.FromVoice`. Their range is checked
        by :class:`dicetalk.settings.SamplerSettings`.

    Raises:
        SettingError: it is none of these forms, or the file cannot be read.
    """
    if isinstance(given, FromVoice):
        return given
    if isinstance(given, str):
        return _parse_text(given.strip(), files)
    if isinstance(given, PathLike):
        return _parse_file(Path(given))
    if isinstance(given, Mapping):
        return _parse_table(dict(given))
    if isinstance(given, Curve):
        return tuple(float(value) for value in given.at(np.arange(_frames(given.end, 1)) / FPS))
    if isinstance(given, torch.Tensor):
        given = given.detach().cpu().numpy()
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if isinstance(given, Sequence):
        return _parse_values(given, FPS)
    return number(given, "the motion", SettingError)


def _parse_text(text: str, files: bool) -> Timed:
    if text == VOICE:
        return FromVoice()
    if text.startswith(f"{VOICE}:"):
        return FromVoice(_number(text.removeprefix(f"{VOICE}:"), text))
    if text.startswith(("[", "{")):
        return _parse_json(text)
    if files and text.lower().endswith(".json"):
        return _parse_file(Path(text))
    return _number(text, text)


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SettingError(
            f"{excerpt(whole)} is no amount of motion: give a number, a list of numbers or keyframes as JSON or a "
            ".json file, or voice or voice:N."
        ) from None


def _parse_file(path: Path) -> Timed:
    content = read_limited(path, MAX_BYTES, SettingError, "the motion")
    with naming(path, SettingError):
        return _parse_json(content)


def _parse_json(content: str | bytes) -> Timed:
    value = parse_json(content, SettingError)
    if isinstance(value, dict):
        return _parse_table(value)
    if isinstance(value, list):
        return _parse_values(value, FPS)
    raise SettingError(
        f"the motion is a list of numbers or a table with 'keyframes' or 'values', not {excerpt(value)}."
    )


def _parse_table(table: dict[str, Any]) -> Timed:
    if ("keyframes" in table) == ("values" in table):
        raise SettingError(f"the motion is a table with 'keyframes' or 'values', not {excerpt(table)}.")
    if "values" in table:
        check_names(table, {"values", "fps"}, "The motion", SettingError)
        fps = number(table.get("fps", FPS), "'fps'", SettingError)
        if not 0 < fps <= 1000:
            raise SettingError(f"'fps' is {fps:g}; expected more than 0, up to 1000.")
        return _parse_values(table["values"], fps)
    check_names(table, {"keyframes"}, "The motion", SettingError)
    return _sampled([_keyframe(entry, i) for i, entry in enumerate(_entries(table["keyframes"], "keyframes"))])


def _entries(value: Any, what: str) -> Sequence[Any]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not 0 < len(value) <= MAX_VALUES:
        raise SettingError(f"{what!r}: expected a list of 1 to {MAX_VALUES} entries, got {excerpt(value)}.")
    return value


def _parse_values(given: Any, fps: float) -> Timed:
    entries = _entries(given, "values")
    values = [number(value, f"values[{i}]", SettingError) for i, value in enumerate(entries)]
    if fps == FPS:
        return tuple(values)
    return _sampled([(i / fps, value, "linear") for i, value in enumerate(values)])


def _keyframe(entry: Any, i: int) -> tuple[float, float, str]:
    with naming(f"keyframes[{i}]", SettingError):
        if not isinstance(entry, dict):
            raise SettingError(f"expected a table with 'time' and 'value', got {excerpt(entry)}.")
        check_names(entry, {"time", "value", "easing"}, "A keyframe", SettingError)
        for name in ("time", "value"):
            if name not in entry:
                raise SettingError(f"{name!r} is missing.")
        easing = entry.get("easing", "linear")
        if not isinstance(easing, str) or easing not in EASINGS:
            raise SettingError(f"the easing {excerpt(easing)} is unknown. Known: {', '.join(EASINGS)}.")
        time, value = (number(entry[name], repr(name), SettingError) for name in ("time", "value"))
        if not 0 <= time <= MAX_SECONDS:
            raise SettingError(f"'time' is {time:g}; expected 0 to {MAX_SECONDS:g} seconds.")
        return time, value, easing


def _sampled(keyframes: list[tuple[float, float, str]]) -> tuple[float, ...]:
    """The value at each frame up to the last keyframe, whose value is held from there on."""
    for before, after in itertools.pairwise(keyframes):
        if after[0] <= before[0]:
            raise SettingError(
                f"keyframes must be in order of time, each time once: {after[0]:g} s follows {before[0]:g} s."
            )
    values, place = [], 0
    for frame in range(_frames(keyframes[-1][0], len(keyframes))):
        moment = frame / FPS
        while place + 1 < len(keyframes) and keyframes[place + 1][0] <= moment:
            place += 1
        time, value, easing = keyframes[place]
        if moment > time and place + 1 < len(keyframes):
            later, then, _ = keyframes[place + 1]
            value += EASINGS[easing]((moment - time) / (later - time)) * (then - value)
        values.append(value)
    return tuple(values)


def _frames(end: float, entries: int) -> int:
    """Frames up to the first at `end` seconds or later."""
    count = math.ceil(end * FPS - 1e-6) + 1
    if count > MAX_VALUES:
        raise SettingError(f"the motion's {entries} entries end at {end:g} s; expected at most {MAX_SECONDS:g} s.")
    return count


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
