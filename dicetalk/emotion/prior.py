"""Emotion priors (paper 3.1): 256 numbers that stand for one way of showing an emotion, their names and files.

A released prior is a pickled dict inside a ``.npy`` file, which is treated as data and never executed. A pickle is a
program for a small stack machine. :mod:`pickletools` lists its instructions without running them; the few that numpy
needs to describe an array are interpreted here, on inert records, and anything else refuses the file. No name in the
file is ever imported, and no size that it claims is allocated before the bytes are there.
"""

import hashlib
import math
import pickletools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dicetalk.errors import EmotionError, naming
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

LIKENESS = 0.6
"""Ratio of :class:`difflib.SequenceMatcher` from which a word is suggested; ``hapy`` and ``happy`` have 0.89."""

FORMAT = "dicetalk.prior"
FORMAT_VERSION = "1"
MAX_FILE_BYTES = 1 << 16

FLOATS = {"f2": np.float16, "f4": np.float32, "f8": np.float64}
HEADER = re.compile(
    rb"\{'descr': '(?P<order>[<>=|]?)(?P<code>[A-Za-z]\d{0,4})', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(?:\d{1,9}, ?)*(?:\d{1,9})?)\), \}\s*"
)
"""Of a ``.npy`` file, as numpy writes it."""

_MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
_MARK = object()


@dataclass(frozen=True, eq=False)
class EmotionPrior:
    """One emotion prior, a Gaussian (eq. 4-6).

    Args:
        mu: its mean, ``(256,)``, kept as float32 on the CPU.
        sigma: its standard deviation, ``(256,)``, or `None` where only the mean is known (the released priors).
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


def preset_name(name: str) -> str | None:
    """The preset that `name` means, in any case and by :data:`ALIASES`; `None` if it is none of them."""
    lower = name.lower()
    preset = ALIASES.get(lower, lower)
    return preset if preset in PRESET_NAMES else None


def find_prior(name: str, priors: Mapping[str, EmotionPrior]) -> EmotionPrior:
    """Look up `name` in `priors`: as it is, then in lower case, then by :data:`ALIASES`.

    Raises:
        EmotionError: no prior has that name; the message lists those there are.
    """
    lower = name.lower()
    for candidate in (name, lower, ALIASES.get(lower, lower)):
        if candidate in priors:
            return priors[candidate]
    meant = suggestion(name, [*priors, *ALIASES])
    raise EmotionError(f"Emotion {name!r} is unknown.{meant} Known: {', '.join(priors) or 'none'}.")


def suggestion(word: str, known: Iterable[str]) -> str:
    """`` Did you mean 'happy'?`` for a word that is like one of `known`, else nothing."""
    near = get_close_matches(word.lower()[:64], list(known), n=1, cutoff=LIKENESS)
    return f" Did you mean {near[0]!r}?" if near else ""


def space_of(priors: Mapping[str, EmotionPrior]) -> str:
    """The hash of a model's prior space, 64 hexadecimal digits.

    It is SHA-256 of the eight presets' means, little-endian float32, in the order of :data:`PRESET_NAMES`.

    Raises:
        EmotionError: one of the eight is missing.
    """
    digest = hashlib.sha256()
    for name in PRESET_NAMES:
        digest.update(find_prior(name, priors).mu.numpy().astype("<f4").tobytes())
    return digest.hexdigest()


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


def read_mu(content: bytes) -> np.ndarray:
    """Return the float array in the ``.npy`` file `content`: its own, or the entry ``mu`` of the dict it holds.

    Raises:
        ValueError: `content` is anything else.
    """
    header, data = _split(content)
    if header["code"] != b"O":
        shape = tuple(int(n) for n in header["shape"].replace(b" ", b"").split(b",") if n)
        fortran = header["fortran"] == b"True"
        return _float_array(shape, header["code"].decode(), header["order"].decode(), fortran, data)
    value = _interpret(data)
    if isinstance(value, _Array) and isinstance(value.data, list) and len(value.data) == 1:
        value = value.data[0]
    if not isinstance(value, dict) or set(value) != {"mu"}:
        found = f"a dict with {str(sorted(value))[:60]}" if isinstance(value, dict) else "something else"
        raise ValueError(f"expected a dict with the one entry 'mu', found {found}.")
    mu = value["mu"]
    if not isinstance(mu, _Array) or not isinstance(mu.dtype, _DType) or not isinstance(mu.data, bytes):
        raise ValueError("its entry 'mu' is not an array of floats.")
    return _float_array(mu.shape, mu.dtype.code, mu.dtype.byteorder, mu.fortran, mu.data)


def _prior(path: Path, mu: torch.Tensor, sigma: torch.Tensor | None, name: str) -> EmotionPrior:
    with naming(path, EmotionError):
        return EmotionPrior(mu, sigma, name)


def _bytes_of(path: Path) -> bytes:
    return read_limited(path, MAX_FILE_BYTES, EmotionError, "the emotion prior")


@dataclass(frozen=True)
class _Name:
    """A global that the pickle mentions; only these three exist: ndarray, dtype, _reconstruct."""

    name: str


@dataclass
class _DType:
    """Equivalent of ``numpy.dtype(code)``."""

    code: str
    byteorder: str = "="


@dataclass
class _Array:
    """Equivalent of the array that ``numpy.ndarray.__setstate__`` fills."""

    shape: tuple[int, ...] = ()
    dtype: _DType | None = None
    fortran: bool = False
    data: Any = None


def _split(content: bytes) -> tuple[re.Match[bytes], bytes]:
    """Header and data of a ``.npy`` file of version 1 or 2."""
    length_bytes = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}.get(content[:8])
    if length_bytes is None:
        raise ValueError("it does not start as a .npy file of version 1 or 2.")
    start = 8 + length_bytes
    end = start + int.from_bytes(content[8:start], "little")
    header = HEADER.fullmatch(content[start:end])
    if header is None:
        raise ValueError("its .npy header is damaged.")
    return header, content[end:]


def _float_array(shape: Any, code: str, byteorder: str, fortran: bool, data: bytes) -> np.ndarray:
    if code not in FLOATS:
        raise ValueError(f"its array has the type {code[:20]!r}, expected floats ({', '.join(FLOATS)}).")
    if byteorder == ">":
        raise ValueError("its array is big-endian, expected little-endian.")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("its array has no valid shape.")
    dtype = np.dtype(FLOATS[code])
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"its array of shape {str(shape)[:40]} cannot have {len(data)} bytes.")
    values = np.frombuffer(data, dtype.newbyteorder("<")).reshape(shape, order="F" if fortran else "C")
    return values.astype(np.float32, order="C")


def _interpret(data: bytes) -> Any:
    """Run the pickle `data` on inert records; see the module's text."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def after_mark() -> list[Any]:
        start = len(stack) - 1 - next(i for i, item in enumerate(reversed(stack)) if item is _MARK)
        items = stack[start + 1 :]
        del stack[start:]
        return items

    try:
        for opcode, arg, _ in pickletools.genops(data):
            match opcode.name:
                case "PROTO" | "FRAME":
                    pass
                case "STOP":
                    (value,) = stack
                    return value
                case "GLOBAL":
                    module, name = _expect(arg, str).split(" ", 1)
                    stack.append(_admit(module, name))
                case "STACK_GLOBAL":
                    name, module = stack.pop(), stack.pop()
                    stack.append(_admit(module, name))
                case "NONE" | "NEWTRUE" | "NEWFALSE":
                    stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name])
                case (
                    "BININT" | "BININT1" | "BININT2" | "SHORT_BINUNICODE" | "BINUNICODE" | "SHORT_BINBYTES" | "BINBYTES"
                ):
                    stack.append(arg)
                case "MARK":
                    stack.append(_MARK)
                case "EMPTY_TUPLE":
                    stack.append(())
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    count = int(opcode.name[-1])
                    items = [stack.pop() for _ in range(count)]
                    stack.append(tuple(reversed(items)))
                case "TUPLE":
                    stack.append(tuple(after_mark()))
                case "EMPTY_LIST":
                    stack.append([])
                case "EMPTY_DICT":
                    stack.append({})
                case "APPEND":
                    item = stack.pop()
                    _expect(stack[-1], list).append(item)
                case "APPENDS":
                    items = after_mark()
                    _expect(stack[-1], list).extend(items)
                case "SETITEM":
                    value, key = stack.pop(), stack.pop()
                    _expect(stack[-1], dict)[_expect(key, str)] = value
                case "SETITEMS":
                    items = after_mark()
                    for key, value in zip(items[::2], items[1::2], strict=True):
                        _expect(stack[-1], dict)[_expect(key, str)] = value
                case "BINPUT" | "LONG_BINPUT":
                    memo[_expect(arg, int)] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[_expect(arg, int)])
                case "REDUCE":
                    args, function = stack.pop(), stack.pop()
                    stack.append(_construct(function, args))
                case "BUILD":
                    state = stack.pop()
                    _set_state(stack[-1], state)
                case name:
                    raise ValueError(f"its pickle uses the instruction {name}, which no prior needs.")
    except (IndexError, KeyError, StopIteration, RecursionError) as error:
        raise ValueError("its pickle is damaged.") from error
    raise ValueError("its pickle is damaged.")


def _admit(module: Any, name: Any) -> _Name:
    if module not in _MODULES or name not in ("ndarray", "dtype", "_reconstruct"):
        raise ValueError(f"its pickle asks for {str(module)[:40]}.{str(name)[:40]}, which no prior needs.")
    return _Name(name)


def _construct(function: Any, args: Any) -> _DType | _Array:
    match function, args:
        case _Name("_reconstruct"), (_Name("ndarray"), tuple(), bytes()):
            return _Array()
        case _Name("dtype"), (str(code), *_):
            return _DType(code)
    raise ValueError("its pickle builds something that is not an array.")


def _set_state(target: Any, state: Any) -> None:
    match target, state:
        case _DType(), (int(), str(byteorder), *_):
            target.byteorder = byteorder
        case _Array(), (int(), tuple(shape), dtype, bool(fortran), bytes() | list() as data):
            target.shape, target.dtype, target.fortran, target.data = shape, dtype, fortran, data
        case _:
            raise ValueError("its pickle builds something that is not an array.")


def _expect(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError("its pickle is damaged.")
    return value
