"""Emotion priors: the 256 numbers that stand for one way of showing an emotion (paper 3.1), and their files."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dicetalk.emotion.npy import read_mu
from dicetalk.errors import EmotionError
from dicetalk.files import explained, replacing
from dicetalk.paths import read_limited

PRIOR_DIM = 256
PRESET_NAMES = ("neutral", "happy", "sad", "angry", "surprised", "fear", "disgusted", "contempt")
"""The eight released priors, as their files spell them."""

ALIASES = {
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "anger": "angry",
    "surprise": "surprised",
    "afraid": "fear",
    "fearful": "fear",
    "disgust": "disgusted",
    "contemptuous": "contempt",
}
"""Other spellings that are understood wherever an emotion is named."""

FORMAT = "dicetalk.prior"
FORMAT_VERSION = "1"
MAX_FILE_BYTES = 1 << 16


@dataclass(frozen=True, eq=False)
class EmotionPrior:
    """One emotion prior, a Gaussian (eq. 4-6).

    Args:
        mu: its mean, ``(256,)``, kept as float32 on the CPU.
        sigma: its standard deviation, ``(256,)``, or none where only the mean is known (the released priors).
        name: what messages and mixes call it.

    Raises:
        EmotionError: a shape is wrong, a value is not finite, or `sigma` is negative.
    """

    mu: torch.Tensor = field(repr=False)
    sigma: torch.Tensor | None = field(default=None, repr=False)
    name: str = "unnamed"

    def __post_init__(self) -> None:
        for label in ("mu", "sigma"):
            values = getattr(self, label)
            if values is None and label == "sigma":
                continue
            if tuple(values.shape) != (PRIOR_DIM,):
                raise EmotionError(
                    f"Prior {self.name!r}: {label} has the shape {tuple(values.shape)}; expected ({PRIOR_DIM},)."
                )
            values = values.detach().to("cpu", torch.float32)
            if not values.isfinite().all():
                raise EmotionError(f"Prior {self.name!r}: {label} holds NaN or infinite values.")
            object.__setattr__(self, label, values)
        if self.sigma is not None and (self.sigma < 0).any():
            raise EmotionError(f"Prior {self.name!r}: sigma is negative; expected a standard deviation.")


def read_prior_npy(path: Path | str) -> EmotionPrior:
    """Read a released prior (``happy.npy``), or a plain float array, without running code from the file.

    Raises:
        EmotionError: the file is missing, too large, damaged, or holds something else.
    """
    path = Path(path)
    content = _bytes_of(path)
    try:
        mu = read_mu(content)
    except ValueError as error:
        raise EmotionError(f"{path} is not an emotion prior: {error}") from error
    if mu.size != PRIOR_DIM or PRIOR_DIM not in mu.shape:
        raise EmotionError(f"{path}: mu has the shape {mu.shape}; expected (1, {PRIOR_DIM}) or ({PRIOR_DIM},).")
    return _prior(path, torch.from_numpy(mu.reshape(PRIOR_DIM)), None, path.stem)


def load_prior(path: Path | str) -> EmotionPrior:
    """Read a prior that :func:`save_prior` wrote, or a released one if `path` ends in ``.npy``.

    Raises:
        EmotionError: the file is missing, too large, damaged, or not a prior of this format version.
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        return read_prior_npy(path)
    _bytes_of(path)  # refuses what is missing or too large
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (the handle is no dict)
    except SafetensorError as error:
        raise EmotionError(f"{path} is not an emotion prior: {error}. Save priors with save_prior.") from error
    if metadata.get("format") != FORMAT or metadata.get("version") != FORMAT_VERSION:
        raise EmotionError(
            f"{path}: expected the format {FORMAT} version {FORMAT_VERSION}, "
            f"got {metadata.get('format')!r} version {metadata.get('version')!r}."
        )
    if "mu" not in tensors or set(tensors) - {"mu", "sigma"}:
        raise EmotionError(f"{path}: expected the tensors mu and, optionally, sigma; got {sorted(tensors)}.")
    return _prior(path, tensors["mu"], tensors.get("sigma"), metadata.get("name", path.stem))


def save_prior(prior: EmotionPrior, path: Path | str) -> None:
    """Write `prior` as safetensors; an existing file is replaced only when the new one is complete.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path)
    tensors = {"mu": prior.mu} | ({} if prior.sigma is None else {"sigma": prior.sigma})
    metadata = {"format": FORMAT, "version": FORMAT_VERSION, "name": prior.name}
    content = save(tensors, metadata)
    with replacing(path) as partial, explained(path):
        partial.write_bytes(content)


def _prior(path: Path, mu: torch.Tensor, sigma: torch.Tensor | None, name: str) -> EmotionPrior:
    try:
        return EmotionPrior(mu, sigma, name)
    except EmotionError as error:
        raise EmotionError(f"{path}: {error}") from error


def _bytes_of(path: Path) -> bytes:
    return read_limited(path, MAX_FILE_BYTES, EmotionError, "the emotion prior")
