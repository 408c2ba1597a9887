"""Description of a recogniser beside its ONNX file: how it expects faces, and what its outputs mean.

A JSON table beside the model, of the same name (``my_model.json`` for ``my_model.onnx``)::

    {"size": 224, "colour": "rgb", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
     "layout": "nchw", "output": "logits", "expand": 0.0, "square": false,
     "classes": ["angry", "contempt", "disgusted", "fear", "happy", "neutral", "sad", "surprised"]}

`size` and `classes` are needed; what else is left out has the value above. `mean` and `std` act on colours in 0..1, and
have one number for ``grey``. `classes` are the outputs in order, in any spelling of the eight emotions that is
understood elsewhere; null stands for an output that means nothing here, and emotions may be missing.
"""

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dicetalk.emotion.prior import ALIASES, PRESET_NAMES
from dicetalk.emotion.reference.face_track import FaceCrop
from dicetalk.errors import EmotionError
from dicetalk.paths import is_file, read_limited

COLOURS = ("rgb", "bgr", "grey")
LAYOUTS = ("nchw", "nhwc")
OUTPUTS = ("logits", "probabilities")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_SIDE = 1024
MAX_CLASSES = 1000
MAX_FILE_BYTES = 1 << 16


@dataclass(frozen=True)
class RecogniserDescription:
    """How to use a classifier of faces.

    Args:
        size: side of the face crop in pixels, 16 to 1024.
        classes: what its outputs mean, in order: one of the eight presets, or none for an output to leave out.
        colour: one of :data:`COLOURS`.
        mean: taken from the colours, which are 0..1; one number for grey, otherwise three in the order of `colour`.
        std: what they are divided by then.
        layout: of its input, one of :data:`LAYOUTS`.
        output: one of :data:`OUTPUTS`.
        expand: the face box is widened by this part of its size on each side, -0.4 to 2.
        square: cut a square instead of stretching the face box to one.

    Raises:
        EmotionError: a value is none of these.
    """

    size: int
    classes: tuple[str | None, ...]
    colour: str = "rgb"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    layout: str = "nchw"
    output: str = "logits"
    expand: float = 0.0
    square: bool = False

    def __post_init__(self) -> None:
        for name, choices in (("colour", COLOURS), ("layout", LAYOUTS), ("output", OUTPUTS)):
            if getattr(self, name) not in choices:
                raise EmotionError(f"{name!r} is {getattr(self, name)!r}; expected one of {', '.join(choices)}.")
        _check(_is_number(self.size) and isinstance(self.size, int) and 16 <= self.size <= MAX_SIDE, self, "size")
        _check(_is_number(self.expand) and -0.4 <= self.expand <= 2, self, "expand")
        _check(isinstance(self.square, bool), self, "square")
        channels = 1 if self.colour == "grey" else 3
        for name in ("mean", "std"):
            values = getattr(self, name)
            right = isinstance(values, tuple) and len(values) == channels and all(map(_is_number, values))
            _check(right and (name == "mean" or min(values) > 0), self, name)
        _check(isinstance(self.classes, tuple) and 0 < len(self.classes) <= MAX_CLASSES, self, "classes")
        known = [name for name in self.classes if name is not None]
        named = all(isinstance(name, str) and name in PRESET_NAMES for name in known)
        if not known or not named or len(set(known)) < len(known):
            raise EmotionError(
                f"'classes' is {_short(self.classes)}; expected each of these at most once, or null: "
                f"{', '.join(PRESET_NAMES)}."
            )

    @property
    def crop(self) -> FaceCrop:
        """How it wants faces cut out."""
        return FaceCrop(self.size, self.expand, self.square)


def find_description(model: Path) -> RecogniserDescription:
    """The description of a model file: the JSON table beside it, or one of :data:`KNOWN` by its name.

    Raises:
        EmotionError: there is none, or it is damaged; the message names the entry.
    """
    path = model.with_suffix(".json")
    if is_file(path):
        return read_description(path)
    if model.stem.lower() in KNOWN:
        return KNOWN[model.stem.lower()]
    raise EmotionError(
        f"{model}: nothing says what it wants and what its classes are. Describe it in {path.name} beside it, as "
        f'{{"size": 224, "classes": ["neutral", "happy", ...]}}, or use one of: {", ".join(KNOWN)}.'
    )


def read_description(path: Path) -> RecogniserDescription:
    """Read a description; see the module's text for its form.

    Raises:
        EmotionError: the file cannot be read or is no such table; the message names the entry.
    """
    content = read_limited(path, MAX_FILE_BYTES, EmotionError, "the description")
    try:
        return parse_description(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise EmotionError(f"{path} is no JSON: {error}.") from error
    except EmotionError as error:
        raise EmotionError(f"{path}: {error}") from error


def parse_description(values: Any) -> RecogniserDescription:
    """The description of a parsed JSON table.

    Raises:
        EmotionError: it is none; the message names the entry.
    """
    names = [field.name for field in fields(RecogniserDescription)]
    if not isinstance(values, dict):
        raise EmotionError(f"expected a table with {', '.join(names)}, got {_short(values)}.")
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise EmotionError(f"unknown entry {_short(unknown[0])}. Known: {', '.join(names)}.")
    missing = [name for name in ("size", "classes") if name not in values]
    if missing:
        raise EmotionError(f"entry {missing[0]!r} is missing.")
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    if isinstance(given["classes"], tuple):
        given["classes"] = tuple(map(_preset, given["classes"]))
    if given.get("colour") == "grey":
        given = {"mean": (0.0,), "std": (1.0,)} | given
    return RecogniserDescription(**given)


def _preset(name: Any) -> Any:
    lower = name.lower() if isinstance(name, str) else name
    return ALIASES.get(lower, lower) if isinstance(lower, str) else name


def _check(right: bool, description: RecogniserDescription, name: str) -> None:
    if not right:
        raise EmotionError(f"{name!r} is {_short(getattr(description, name))}, which is out of range.")


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)  # finite, and maybe too long to be asked


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


_EIGHT = ("angry", "contempt", "disgusted", "fear", "happy", "neutral", "sad", "surprised")
_SEVEN = tuple(name for name in _EIGHT if name != "contempt")

KNOWN = {
    "enet_b0_8_best_vgaf": RecogniserDescription(224, _EIGHT),
    "enet_b0_8_best_afew": RecogniserDescription(224, _EIGHT),
    # Valence and arousal follow the classes.
    "enet_b0_8_va_mtl": RecogniserDescription(224, (*_EIGHT, None, None)),
    "enet_b2_8": RecogniserDescription(260, _EIGHT),
    "enet_b2_7": RecogniserDescription(260, _SEVEN),
}
"""The models of EmotiEffLib (HSEmotion; Apache-2.0), by the name of their files."""
