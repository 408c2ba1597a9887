"""Reads the mean of a released prior: a pickled dict inside a ``.npy`` file, treated as data and never executed.

A pickle is a program for a small stack machine. :mod:`pickletools` lists its instructions without running them; the
few that numpy needs to describe an array are interpreted here, on inert records, and anything else refuses the file. No
name in the file is ever imported, and no size that it claims is allocated before the bytes are there.
"""

import math
import pickletools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

FLOATS = {"f2": np.float16, "f4": np.float32, "f8": np.float64}
HEADER = re.compile(
    rb"\{'descr': '(?P<order>[<>=|]?)(?P<code>[A-Za-z]\d{0,4})', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(?:\d{1,9}, ?)*(?:\d{1,9})?)\), \}\s*"
)
"""As numpy writes it."""

_MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """A global that the pickle mentions; only these three exist: ndarray, dtype, _reconstruct."""

    name: str


@dataclass
class _DType:
    """What ``numpy.dtype(code)`` would be."""

    code: str
    byteorder: str = "="


@dataclass
class _Array:
    """What ``numpy.ndarray.__setstate__`` would fill."""

    shape: tuple[int, ...] = ()
    dtype: _DType | None = None
    fortran: bool = False
    data: Any = None


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
                    stack.append(_admit(*arg.split(" ", 1)))
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
                    memo[arg] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[arg])
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
