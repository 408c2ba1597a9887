"""Emotions to share: one safetensors file per emotion or track, which says what it is and which model it is for.

Tensors: `mu` ``(K, 256)``, `sigma` ``(K, 256)`` where the spread is known, `seconds` ``(K,)`` float64 and `easing`
``(K,)`` uint8, which counts in the metadata's `easings`. An emotion has one row and neither times nor easings.
Metadata: `format`, `version`, `kind`, `name`, `space` (see :mod:`dicetalk.emotion.prior`), `source`, `licence`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dicetalk.emotion.prior import PRIOR_DIM, EmotionPrior, read_mu
from dicetalk.emotion.track import MAX_KEYFRAMES, MODEL_FPS, EmotionTrack, Keyframe
from dicetalk.errors import EmotionError
from dicetalk.files import explained, replacing
from dicetalk.paths import check_header, checked_path, is_device, shown_path

FORMAT = "dicetalk.emotion"
FORMAT_VERSION = "1"
MAX_FILE_BYTES = 256 << 20
MAX_TEXT = 2000
_SHORT_HASH = 12


@dataclass(frozen=True)
class SavedEmotion:
    """What a file holds.

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
    if all(prior.sigma is not None for prior in priors):
        tensors["sigma"] = torch.stack([prior.sigma for prior in priors])
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
        space: of the model that is to show the emotion; none accepts any, for looking at the file.

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
    try:
        return SavedEmotion(_emotion(tensors, metadata, name), **texts)
    except EmotionError as error:
        raise EmotionError(f"{path}: {error}") from error


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
    try:
        priors = [EmotionPrior(mu, name=path.stem) for mu in torch.from_numpy(values)]
        return SavedEmotion(EmotionTrack.curve(priors, fps), space)
    except EmotionError as error:
        raise EmotionError(f"{path}: {error}") from error


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
    """What can be written as UTF-8: names of files may hold any bytes."""
    return value.encode(errors="replace").decode()


def _short(value: str | None, length: int = 40) -> str:
    return repr(value) if value is None or len(value) <= length else repr(value[:length])
