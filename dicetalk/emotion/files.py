"""Emotions and emotion tracks as files: safetensors to share, JSON to write by hand.

**Saved emotions.** One safetensors file per emotion or track, which says what it is and which model it is for. Tensors:
`mu` ``(K, 256)``, `sigma` ``(K, 256)`` where the spread is known, `seconds` ``(K,)`` float64 and `easing` ``(K,)``
uint8, which counts in the metadata's `easings`. An emotion has one row and neither times nor easings. Metadata:
`format`, `version`, `kind`, `name`, `space` (see :func:`dicetalk.emotion.prior.space_of`), `source`, `licence`.

**JSON.** A mix: ``{"weights": {"happy": 0.8, "sad": 0.2}, "intensity": 1}``; `intensity` (1) may be left out.
Keyframes: ``{"keyframes": [{"time": 0, "emotion": "happy", "intensity": 0.8, "easing": "smooth"}, ...]}``; time in
seconds, `intensity` (1) and `easing` ("linear") may be left out; `weights` is another name of `emotion`. A curve:
``{"values": [{"happy": 0.5}, ...], "fps": 12.5}``; `fps` may be left out. An emotion is written as on the command line
("happy:0.5+sad:0.3") or as a table of weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dicetalk.emotion.mix import check_mixture, mix_all, parse_weights
from dicetalk.emotion.prior import PRIOR_DIM, EmotionPrior, read_mu
from dicetalk.emotion.track import MAX_KEYFRAMES, MODEL_FPS, EmotionTrack, Keyframe
from dicetalk.errors import EmotionError, naming
from dicetalk.files import explained, replacing
from dicetalk.paths import check_header, checked_path, is_device, read_limited, shown_path
from dicetalk.strict_json import check_names, excerpt, number, parse_json

_json = partial(parse_json, error=EmotionError)
_number = partial(number, error=EmotionError)
_check_names = partial(check_names, error=EmotionError)

FORMAT = "dicetalk.emotion"
FORMAT_VERSION = "1"
MAX_FILE_BYTES = 256 << 20
MAX_JSON_BYTES = 8 << 20
MAX_TEXT = 2000
_SHORT_HASH = 12


@dataclass(frozen=True)
class SavedEmotion:
    """Contents of a file.

    Args:
        emotion: one prior, or a track.
        space: hash of the model space that it belongs to, see :func:`dicetalk.emotion.prior.space_of`.
        source: where it comes from, in the words of who made it; may be empty.
        licence: what others may do with it, likewise.
    """

    emotion: EmotionPrior | EmotionTrack
    space: str
    source: str = ""
    licence: str = ""

    @property
    def track(self) -> EmotionTrack:
        """The emotion as a track; one prior is a constant one."""
        if isinstance(self.emotion, EmotionTrack):
            return self.emotion
        return EmotionTrack.constant(self.emotion)


def check_suffix(path: Path) -> None:
    """Refuse a name that is not one of a saved emotion, or that some systems do not take: emotions are to share.

    Raises:
        EmotionError: it does not end in ``.safetensors``, or Windows takes it for a device.
    """
    if path.suffix.lower() != ".safetensors":
        raise EmotionError(f"{shown_path(path)}: emotions are saved as .safetensors. Choose a name that ends so.")
    if is_device(path.name):
        raise EmotionError(
            f"{shown_path(path)}: Windows takes that for a device, whatever follows. Choose another name."
        )


def save_emotion(saved: SavedEmotion, path: Path | str) -> None:
    """Write `saved` as safetensors; an existing file is replaced only when the new one is complete.

    A track's spread is kept if it is known for every keyframe; of the names the first keyframe's is kept.

    Raises:
        EmotionError: the file's name does not end in ``.safetensors``, or the track has more than 100 000 keyframes.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    check_suffix(path)
    keyframes = saved.track.keyframes
    if len(keyframes) > MAX_KEYFRAMES:
        raise EmotionError(f"{path}: the track has {len(keyframes)} keyframes; expected at most {MAX_KEYFRAMES}.")
    priors = [keyframe.prior for keyframe in keyframes]
    tensors = {"mu": torch.stack([prior.mu for prior in priors])}
    sigmas = [prior.sigma for prior in priors if prior.sigma is not None]
    if len(sigmas) == len(priors):
        tensors["sigma"] = torch.stack(sigmas)
    metadata = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "kind": "prior",
        "name": _as_text(priors[0].name),
        "space": saved.space,
        "source": _as_text(saved.source),
        "licence": _as_text(saved.licence),
    }
    if isinstance(saved.emotion, EmotionTrack):
        easings = list(dict.fromkeys(keyframe.easing for keyframe in keyframes))
        tensors["seconds"] = torch.tensor([keyframe.seconds for keyframe in keyframes], dtype=torch.float64)
        tensors["easing"] = torch.tensor([easings.index(k.easing) for k in keyframes], dtype=torch.uint8)
        metadata |= {"kind": "track", "easings": ",".join(easings)}
    content = save(tensors, metadata)
    with replacing(path) as partial, explained(path):
        partial.write_bytes(content)


def load_emotion(path: Path | str, space: str | None) -> SavedEmotion:
    """Read a file that :func:`save_emotion` wrote.

    Args:
        path: the file.
        space: of the model that is to show the emotion; `None` accepts any, for looking at the file.

    Raises:
        EmotionError: the file is missing, too large, damaged, of another format or version, or of another model space.
    """
    path = checked_path(path, EmotionError)
    _check_size(path)
    check_header(path, EmotionError)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise EmotionError(f"{path} is not a saved emotion; expected the format {FORMAT} in its metadata.")
            if metadata.get("version") != FORMAT_VERSION:
                raise EmotionError(
                    f"{path} has version {_short(metadata.get('version'))} of the format; this program reads "
                    f"version {FORMAT_VERSION}."
                )
            if space is not None and metadata.get("space") != space:
                raise EmotionError(
                    f"{path} belongs to another model: its space is {_short(metadata.get('space'), _SHORT_HASH)}, "
                    f"the loaded model's is {space[:_SHORT_HASH]}. Load the model it was made with, or make it again."
                )
            tensors = _tensors(path, file, track=metadata.get("kind") == "track")
    except (SafetensorError, OSError) as error:
        raise EmotionError(f"{path} is not a saved emotion: {error}.") from error
    texts = {name: metadata.get(name, "")[:MAX_TEXT] for name in ("space", "source", "licence")}
    name = metadata.get("name", path.stem)[:MAX_TEXT]
    with naming(path, EmotionError):
        return SavedEmotion(_emotion(tensors, metadata, name), **texts)


def import_npy(path: Path | str, space: str, fps: float = MODEL_FPS) -> SavedEmotion:
    """Read priors from ``.npy``: a released one, 256 floats, or a track of T rows, ``(T, 256)``. No pickle is executed.

    Args:
        path: the file. It cannot say which model it belongs to.
        space: so that has to be known.
        fps: rows a second of a track.

    Raises:
        EmotionError: the file is missing, too large, damaged, or holds something else.
    """
    path = checked_path(path, EmotionError)
    _check_size(path)
    try:
        values = read_mu(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EmotionError(f"{path} holds no emotion: {error}") from error
    if values.size == PRIOR_DIM and PRIOR_DIM in values.shape:
        return SavedEmotion(EmotionPrior(torch.from_numpy(values.reshape(PRIOR_DIM)), name=path.stem), space)
    if values.ndim != 2 or values.shape[1] != PRIOR_DIM or not 0 < len(values) <= MAX_KEYFRAMES:
        raise EmotionError(
            f"{path} holds an array of shape {values.shape}; expected ({PRIOR_DIM},) for an emotion, or "
            f"(T, {PRIOR_DIM}) for a track of up to {MAX_KEYFRAMES} rows."
        )
    with naming(path, EmotionError):
        priors = [EmotionPrior(mu, name=path.stem) for mu in torch.from_numpy(values)]
        return SavedEmotion(EmotionTrack.curve(priors, fps), space)


def _tensors(path: Path, file: Any, track: bool) -> dict[str, torch.Tensor]:
    """The tensors of an open file, each checked before it is read."""
    keys = set(file.keys())
    needed = {"mu", "seconds", "easing"} if track else {"mu"}
    if not needed <= keys <= needed | {"sigma"}:
        raise EmotionError(f"{path}: expected the tensors {sorted(needed)} and, optionally, sigma; got {sorted(keys)}.")
    slices = {key: file.get_slice(key) for key in keys}
    rows = slices["mu"].get_shape()[0] if slices["mu"].get_shape() else 0
    shapes = {"mu": [rows, PRIOR_DIM], "sigma": [rows, PRIOR_DIM], "seconds": [rows], "easing": [rows]}
    dtypes = {"mu": "F32", "sigma": "F32", "seconds": "F64", "easing": "U8"}
    if not (1 <= rows <= MAX_KEYFRAMES if track else rows == 1):
        expected = f"1 to {MAX_KEYFRAMES}" if track else "1"
        raise EmotionError(f"{path}: mu has {rows} rows; expected {expected}.")
    for key, found in slices.items():
        if found.get_shape() != shapes[key] or found.get_dtype() != dtypes[key]:
            raise EmotionError(
                f"{path}: {key} is {found.get_dtype()} {found.get_shape()}; expected {dtypes[key]} {shapes[key]}."
            )
    return {key: file.get_tensor(key) for key in keys}


def _emotion(tensors: dict[str, torch.Tensor], metadata: Mapping[str, str], name: str) -> EmotionPrior | EmotionTrack:
    mus = tensors["mu"].unbind()
    sigmas = tensors["sigma"].unbind() if "sigma" in tensors else [None] * len(mus)
    priors = [EmotionPrior(mu, sigma, name) for mu, sigma in zip(mus, sigmas, strict=True)]
    if "seconds" not in tensors:
        return priors[0]
    easings = metadata.get("easings", "").split(",")
    numbers = tensors["easing"].tolist()
    if max(numbers) >= len(easings):
        raise EmotionError(f"easing counts to {max(numbers)}, but the metadata name {len(easings)} easings.")
    return EmotionTrack(tuple(map(Keyframe, tensors["seconds"].tolist(), priors, [easings[n] for n in numbers])))


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
        path.open("rb").close()
    except OSError as error:
        raise EmotionError(f"{path}: the emotion cannot be read ({error.strerror}).") from error
    if size > MAX_FILE_BYTES:
        raise EmotionError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MB; no emotion is.")


def _as_text(value: str) -> str:
    """Text that can be written as UTF-8: names of files may hold any bytes."""
    return value.encode(errors="replace").decode()


def _short(value: str | None, length: int = 40) -> str:
    return repr(value) if value is None or len(value) <= length else repr(value[:length])


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
    content = read_limited(path, MAX_JSON_BYTES, EmotionError, "the emotion track")
    with naming(path, EmotionError):
        return track_from_json(content, priors)


def track_from_json(content: str | bytes, priors: Mapping[str, EmotionPrior]) -> EmotionTrack:
    """Build an emotion track from JSON text; see the module's text for its form.

    Raises:
        EmotionError: `content` is not such a track; the message names the entry.
    """
    return parse_track(_json(content), priors)


def mix_from_json(content: str | bytes) -> Mix:
    """Read a mix from JSON text; see the module's text for its form.

    Raises:
        EmotionError: `content` is not such a mix; the message names the entry.
    """
    value = _json(content)
    if not isinstance(value, dict) or "weights" not in value:
        raise EmotionError(
            f'A mix of emotions is a table as {{"weights": {{"happy": 0.8}}, "intensity": 1.0}}, not {excerpt(value)}.'
        )
    _check_names(value, {"weights", "intensity"}, "The mix of emotions")
    return Mix(_weights(value["weights"]), _number(value.get("intensity", 1.0), "'intensity'"))


def parse_track(value: Any, priors: Mapping[str, EmotionPrior]) -> EmotionTrack:
    """Build an emotion track from parsed JSON `value`; see the module's text for its form.

    Raises:
        EmotionError: `value` is not such a track; the message names the entry and its value.
    """
    if not isinstance(value, dict) or ("keyframes" in value) == ("values" in value):
        raise EmotionError(f"An emotion track is a table with 'keyframes' or 'values', not {excerpt(value)}.")
    kind = "keyframes" if "keyframes" in value else "values"
    _check_names(value, {"keyframes"} if kind == "keyframes" else {"values", "fps"}, "The emotion track")
    entries = value[kind]
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_KEYFRAMES:
        raise EmotionError(f"{kind!r}: expected a list of 1 to {MAX_KEYFRAMES} entries, got {excerpt(entries)}.")
    read = _keyframe if kind == "keyframes" else _value
    found: list[_Entry] = []
    known: dict[str, _Entry] = {}  # an emotion in words is read once, however often it stands there
    for i, entry in enumerate(entries):
        with naming(f"{kind}[{i}]", EmotionError):
            if not isinstance(entry, str):
                found.append(read(entry, priors))
                continue
            if entry not in known:
                known[entry] = read(entry, priors)
            found.append(known[entry])
    made = mix_all([(entry.weights, entry.intensity) for entry in found], priors)
    if kind == "values":
        return EmotionTrack.curve(made, _number(value.get("fps", MODEL_FPS), "'fps'"))
    keyframes = []
    for i, (entry, prior) in enumerate(zip(found, made, strict=True)):
        with naming(f"{kind}[{i}]", EmotionError):
            keyframes.append(Keyframe(entry.seconds, prior, entry.easing))
    return EmotionTrack(tuple(keyframes))


@dataclass(frozen=True)
class _Entry:
    """Emotion and time of an entry of a track."""

    weights: Mapping[str, float]
    intensity: float = 1.0
    seconds: float = 0.0
    easing: str = "linear"


def _keyframe(entry: Any, priors: Mapping[str, EmotionPrior]) -> _Entry:
    if not isinstance(entry, dict):
        raise EmotionError(f"expected a table with 'time' and 'emotion', got {excerpt(entry)}.")
    _check_names(entry, {"time", "emotion", "weights", "intensity", "easing"}, "A keyframe")
    if "time" not in entry:
        raise EmotionError("'time' is missing.")
    if "emotion" in entry and "weights" in entry:
        raise EmotionError("'emotion' and 'weights' are two names of one entry. Give one of them.")
    if "emotion" not in entry and "weights" not in entry:
        raise EmotionError("'emotion' is missing.")
    easing = entry.get("easing", "linear")
    if not isinstance(easing, str):
        raise EmotionError(f"'easing': expected a name, got {excerpt(easing)}.")
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
        return parse_weights(emotion)
    if isinstance(emotion, dict):
        return {name: _number(weight, f"the weight of {name!r}") for name, weight in emotion.items()}
    raise EmotionError(f"expected an emotion as text or as a table of weights, got {excerpt(emotion)}.")
