"""Emotions and emotion tracks as JSON.

A mix: ``{"weights": {"happy": 0.8, "sad": 0.2}, "intensity": 1}``; `intensity` (1) may be left out.

Keyframes: ``{"keyframes": [{"time": 0, "emotion": "happy", "intensity": 0.8, "easing": "smooth"}, ...]}``; time in
seconds, `intensity` (1) and `easing` ("linear") may be left out; `weights` is another name of `emotion`. A curve:
``{"values": [{"happy": 0.5}, ...], "fps": 12.5}``; `fps` may be left out. An emotion is written as on the command line
("happy:0.5+sad:0.3") or as a table of weights.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicetalk.emotion.mix import check_mixture, mix_all, parse_emotion
from dicetalk.emotion.prior import EmotionPrior
from dicetalk.emotion.track import MODEL_FPS, EmotionTrack, Keyframe
from dicetalk.errors import EmotionError
from dicetalk.paths import read_limited

MAX_FILE_BYTES = 8 << 20
MAX_ENTRIES = 100_000
"""More than an hour at 25 fps."""


@dataclass(frozen=True)
class Mix:
    """Weights of emotions by name, and the intensity of all; :func:`dicetalk.emotion.mix.mix` knows their ranges."""

    weights: Mapping[str, float]
    intensity: float = 1.0


def read_track(path: Path | str, priors: Mapping[str, EmotionPrior]) -> EmotionTrack:
    """Read an emotion track from a JSON file; see the module's text for its form.

    Raises:
        EmotionError: the file cannot be read, is larger than 8 MB, or is not such a track; the message names the entry.
    """
    content = read_limited(path, MAX_FILE_BYTES, EmotionError, "the emotion track")
    try:
        return track_from_json(content, priors)
    except EmotionError as error:
        raise EmotionError(f"{path}: {error}") from error


def track_from_json(content: str | bytes, priors: Mapping[str, EmotionPrior]) -> EmotionTrack:
    """Build an emotion track from JSON text; see the module's text for its form.

    Raises:
        EmotionError: `content` is not such a track; the message names the entry.
    """
    return parse_track(_parsed(content), priors)


def mix_from_json(content: str | bytes) -> Mix:
    """Read a mix from JSON text; see the module's text for its form.

    Raises:
        EmotionError: `content` is not such a mix; the message names the entry.
    """
    value = _parsed(content)
    if not isinstance(value, dict) or "weights" not in value:
        raise EmotionError(
            f'A mix of emotions is a table as {{"weights": {{"happy": 0.8}}, "intensity": 1.0}}, not {_short(value)}.'
        )
    _known(value, {"weights", "intensity"}, "The mix of emotions")
    return Mix(_weights(value["weights"]), _number(value.get("intensity", 1.0), "'intensity'"))


def parse_track(value: Any, priors: Mapping[str, EmotionPrior]) -> EmotionTrack:
    """Build an emotion track from parsed JSON `value`; see the module's text for its form.

    Raises:
        EmotionError: `value` is not such a track; the message names the entry and its value.
    """
    if not isinstance(value, dict) or ("keyframes" in value) == ("values" in value):
        raise EmotionError(f"An emotion track is a table with 'keyframes' or 'values', not {_short(value)}.")
    kind = "keyframes" if "keyframes" in value else "values"
    _known(value, {"keyframes"} if kind == "keyframes" else {"values", "fps"}, "The emotion track")
    entries = value[kind]
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_ENTRIES:
        raise EmotionError(f"{kind!r}: expected a list of 1 to {MAX_ENTRIES} entries, got {_short(entries)}.")
    read = _keyframe if kind == "keyframes" else _value
    found: list[_Entry] = []
    known: dict[str, _Entry] = {}  # an emotion in words is read once, however often it stands there
    for i, entry in enumerate(entries):
        try:
            if not isinstance(entry, str):
                found.append(read(entry, priors))
                continue
            if entry not in known:
                known[entry] = read(entry, priors)
            found.append(known[entry])
        except EmotionError as error:
            raise EmotionError(f"{kind}[{i}]: {error}") from error
    made = mix_all([(entry.weights, entry.intensity) for entry in found], priors)
    if kind == "values":
        return EmotionTrack.curve(made, _number(value.get("fps", MODEL_FPS), "'fps'"))
    keyframes = []
    for i, (entry, prior) in enumerate(zip(found, made, strict=True)):
        try:
            keyframes.append(Keyframe(entry.seconds, prior, entry.easing))
        except EmotionError as error:
            raise EmotionError(f"{kind}[{i}]: {error}") from error
    return EmotionTrack(tuple(keyframes))


@dataclass(frozen=True)
class _Entry:
    """What an entry of a track says."""

    weights: Mapping[str, float]
    intensity: float = 1.0
    seconds: float = 0.0
    easing: str = "linear"


def _keyframe(entry: Any, priors: Mapping[str, EmotionPrior]) -> _Entry:
    if not isinstance(entry, dict):
        raise EmotionError(f"expected a table with 'time' and 'emotion', got {_short(entry)}.")
    _known(entry, {"time", "emotion", "weights", "intensity", "easing"}, "A keyframe")
    if "time" not in entry:
        raise EmotionError("'time' is missing.")
    if "emotion" in entry and "weights" in entry:
        raise EmotionError("'emotion' and 'weights' are two names of one entry. Give one of them.")
    if "emotion" not in entry and "weights" not in entry:
        raise EmotionError("'emotion' is missing.")
    easing = entry.get("easing", "linear")
    if not isinstance(easing, str):
        raise EmotionError(f"'easing': expected a name, got {_short(easing)}.")
    weights = _weights(entry["emotion"] if "emotion" in entry else entry["weights"])
    intensity = _number(entry.get("intensity", 1.0), "'intensity'")
    check_mixture(weights, priors, intensity)
    return _Entry(weights, intensity, _number(entry["time"], "'time'"), easing)


def _value(entry: Any, priors: Mapping[str, EmotionPrior]) -> _Entry:
    weights = _weights(entry)
    check_mixture(weights, priors)
    return _Entry(weights)


def _weights(emotion: Any) -> dict[str, float]:
    if isinstance(emotion, str):
        return parse_emotion(emotion)
    if isinstance(emotion, dict):
        return {name: _number(weight, f"the weight of {name!r}") for name, weight in emotion.items()}
    raise EmotionError(f"expected an emotion as text or as a table of weights, got {_short(emotion)}.")


def _parsed(content: str | bytes) -> Any:
    try:
        return json.loads(content, object_pairs_hook=_table, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise EmotionError(f"this is not JSON: {error}.") from error


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise EmotionError(f"{what}: expected a number, got {_short(value)}.")
    try:
        return float(value)
    except OverflowError:
        raise EmotionError(f"{what}: the number is too large.") from None


def _known(table: dict[str, Any], names: set[str], what: str) -> None:
    unknown = sorted(set(table) - names)
    if unknown:
        raise EmotionError(f"{what} has the unknown entry {_short(unknown[0])}. Known: {', '.join(sorted(names))}.")


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in pairs:
        if name in table:
            raise EmotionError(f"The entry {_short(name)} occurs twice in one table.")
        table[name] = value
    return table


def _no_constant(name: str) -> float:
    raise EmotionError(f"The value {name} is not a number.")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
