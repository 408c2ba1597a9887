"""Loads a TorchScript network without trusting it.

A TorchScript file is a program: its operations can create and overwrite files (``torch.from_file``), and part of it
(``__setstate__``) runs while it loads. So the file is read as a ZIP archive first, and its program must be made of what
a convolutional detector needs: an allow-list of tensor operations, because a list of dangerous ones would be out of
date with the next release of PyTorch. Only the records that were checked are loaded, from a copy in memory, so that no
second reading of the file can see anything else.

What remains possible is a program that takes long or much memory, and faults inside PyTorch's own operations.
"""

import io
import pickletools
import re
import token as kinds
import tokenize
import zipfile
import zlib
from pathlib import Path

import torch

from dicetalk.errors import CheckpointError
from dicetalk.paths import checked_path

MAX_BYTES = 512 << 20
MAX_CODE_BYTES = 8 << 20
MAX_RECORDS = 20_000

_RECORD = re.compile(
    r"[^/\\]+/(data\.pkl|constants\.pkl|version|byteorder|\.\w+|\.data/\w+|data/\d+|constants/\d+|(?P<code>code/[\w/]+\.py))"
)
_MODULES = ("torch", "torch._utils", "torch.jit._pickle", "collections")
_PLAIN_STRING = re.compile(r"""("[^"\\]*(\\.[^"\\]*)*"|'[^'\\]*(\\.[^'\\]*)*')""")
_ALIAS = re.compile(r"_\d+")
_KEYWORDS = {"if", "elif", "while", "for", "in", "return", "and", "or", "not", "is", "else", "assert", "raise"}
_BUILTINS = {
    "annotate",
    "unchecked_cast",
    "uninitialized",
    "getattr",
    "isinstance",
    "range",
    "int",
    "float",
    "bool",
    "str",
}
_SPECIAL_METHODS = ("__len__", "__contains__")

_OPERATION_NAMES = """
    _convolution batch_norm conv2d conv_transpose2d group_norm instance_norm layer_norm linear matmul elu elu_ gelu
    hardsigmoid hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_ leaky_relu leaky_relu_ mish mish_ prelu relu
    relu6 relu6_ relu_ sigmoid sigmoid_ silu silu_ softmax softplus tanh tanh_ adaptive_avg_pool1d
    adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d avg_pool2d max_pool2d max_pool2d_with_indices
    dropout dropout_ feature_dropout feature_dropout_ pad constant_pad_nd reflection_pad2d replication_pad2d
    pixel_shuffle pixel_unshuffle channel_shuffle __interpolate upsample_linear1d upsample_bilinear2d
    upsample_bicubic2d upsample_trilinear3d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d _upsample_bilinear2d_aa
    _upsample_bicubic2d_aa _upsample_lanczos2d_aa

    add add_ sub sub_ mul mul_ div div_ true_divide floor_divide floordiv remainder pow pow_ neg abs exp exp_ log
    sqrt rsqrt square reciprocal floor ceil round clamp clamp_ clamp_min clamp_max minimum maximum where lerp rsub
    eq ne lt le gt ge logical_and logical_or logical_not bitwise_and bitwise_or __and__ __or__ __not__ __is__
    __isnot__ max min sum mean amax amin argmax argmin any all prod norm topk sort argsort nonzero masked_select
    masked_fill masked_fill_ isnan isfinite

    arange empty empty_like full full_like linspace meshgrid new_empty new_full new_ones new_zeros ones ones_like
    scalar_tensor tensor zeros zeros_like clone contiguous copy_ detach detach_ fill_ zero_ cat chunk concat expand
    expand_as flatten flip gather index index_put index_put_ index_select narrow permute repeat repeat_interleave
    reshape roll select slice split split_with_sizes squeeze stack t tile transpose type_as unbind unflatten
    unsqueeze view view_as

    to cpu cuda float double half type dtype device data is_cuda is_floating_point is_complex layout requires_grad
    Bool Float Int IntImplicit FloatImplicit ScalarImplicit NumToTensor item numel dim size len shape ndim stride
    append extend insert pop clear keys values items list __contains__ __getitem__ _set_item __derive_index
    __range_length format upper lower warn RaiseException unchecked_unwrap_optional unchecked_cast isinstance
    TupleUnpack
"""
_OPERATIONS = frozenset(_OPERATION_NAMES.split())


class RefusedProgramError(CheckpointError):
    """A TorchScript archive asks for more than a detector needs and is not loaded; another copy would not help."""


def load_torchscript(path: Path) -> torch.jit.ScriptModule:
    """Load a TorchScript network on the CPU, after looking through its program.

    Raises:
        RefusedProgramError: the file is too large, or its program does what a detector does not need.
        CheckpointError: the file is missing, damaged, or no TorchScript archive.
    """
    checked_path(path, CheckpointError)
    try:
        return torch.jit.load(checked_archive(path), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be loaded as a TorchScript network: {_first_line(error)}") from error


def checked_archive(path: Path) -> io.BytesIO:
    """The records of a TorchScript file that loading needs, in a new archive, each of them checked.

    Raises:
        CheckpointError: as :func:`load_torchscript`.
    """
    copy = io.BytesIO()
    try:
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as checked:
            for record, kind in _choose_records(archive, path):
                payload = archive.read(record)
                if kind == "code":
                    _check_code(payload, f"{path}: {record.filename}")
                elif kind.endswith(".pkl"):
                    _check_pickle(payload, f"{path}: {record.filename}")
                checked.writestr(record.filename, payload)
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(f"{path} is no complete TorchScript archive ({error}). Download it again.") from error
    copy.seek(0)
    return copy


def _choose_records(archive: zipfile.ZipFile, path: Path) -> list[tuple[zipfile.ZipInfo, str]]:
    records = archive.infolist()
    if len(records) > MAX_RECORDS:
        raise RefusedProgramError(f"{path} holds {len(records)} records; a detector has at most {MAX_RECORDS}.")
    if len({record.filename for record in records}) < len(records):
        raise RefusedProgramError(f"{path} holds two records of one name, so what would be loaded is uncertain.")
    if any(record.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for record in records):
        raise CheckpointError(f"{path} is compressed in a way that PyTorch does not use. Download it again.")
    matches = [(record, _RECORD.fullmatch(record.filename)) for record in records]
    chosen = [(record, "code" if match["code"] else match[1]) for record, match in matches if match]
    size = sum(record.file_size for record, _ in chosen)
    code_size = sum(record.file_size for record, kind in chosen if kind == "code")
    if size > MAX_BYTES or code_size > MAX_CODE_BYTES:
        raise RefusedProgramError(
            f"{path} unpacks to {size >> 20} MiB with {code_size >> 20} MiB of code; "
            f"a detector has at most {MAX_BYTES >> 20} and {MAX_CODE_BYTES >> 20}."
        )
    return chosen


def _check_pickle(payload: bytes, where: str) -> None:
    """Objects may only be of the archive's own classes and of what tensors are made of."""
    try:
        for opcode, argument, _ in pickletools.genops(payload):
            if opcode.name in ("GLOBAL", "STACK_GLOBAL", "INST"):
                module = str(argument).partition(" ")[0]
                name = str(argument).replace(" ", ".")
                if _custom_class(name.split(".")) or not (module in _MODULES or name.startswith("__torch__.")):
                    raise RefusedProgramError(f"{where} asks for an object of class {name}, which no detector needs.")
    except ValueError as error:
        raise CheckpointError(f"{where} is damaged ({error}). Download the file again.") from error


def _custom_class(names: list[str]) -> bool:
    return names[:3] == ["__torch__", "torch", "classes"]


def _check_code(payload: bytes, where: str) -> None:
    """Refuse a program that names an operation outside the list.

    It is judged token by token, and must be written in the narrow style of PyTorch's own serializer (plain strings, no
    comments, no continued lines), which Python's tokenizer and TorchScript's read alike.
    """
    try:
        text = payload.decode("ascii")
        if re.search(r"[^\n -~]|\\\n", text):
            raise RefusedProgramError(
                f"{where} holds control characters or continued lines, which PyTorch does not write."
            )
        tokens = [
            item
            for item in tokenize.generate_tokens(io.StringIO(text).readline)
            if item.type not in (kinds.NL, kinds.INDENT, kinds.DEDENT)
        ]
    except (UnicodeDecodeError, SyntaxError, tokenize.TokenError) as error:
        raise CheckpointError(f"{where} is no TorchScript program ({error}). Download the file again.") from error
    program = _Program([item.string for item in tokens])
    for position, item in enumerate(tokens):
        fault = program.fault(position, item.type)
        if fault:
            raise RefusedProgramError(
                f"{where}, line {item.start[0]}: {fault}. The file is not loaded; if you trust its source, report this."
            )


class _Program:
    """The tokens of a program, and what each of them may be.

    Something is only ever called by an operation's full name, by a method's name, by a built-in name, or by a short
    name (``_0``) that stands for a function of the file: those are the four places to look at.
    """

    def __init__(self, words: list[str]):
        self.words = [*words, "", ""]
        self.aliases: dict[str, bool] = {}

    def fault(self, position: int, kind: int) -> str | None:
        """Describe the fault of the token at `position`, if it has one; tokens are checked in order."""
        word, before, after = self.words[position], self.words[position - 1], self.words[position + 1]
        if kind in (kinds.COMMENT, kinds.ERRORTOKEN):
            return f"{word[:20]!r}, which PyTorch does not write"
        if kind == kinds.STRING:
            return None if _PLAIN_STRING.fullmatch(word) else "a string of a kind that PyTorch does not write"
        if word == "(" and (before in (")", "]", "}") or before[-1:] in ('"', "'")):
            return "a call of something computed"
        if kind != kinds.NAME:
            return None
        if before == ".":
            return self._attribute_fault(position)
        if word in ("torch", "ops", "__torch__"):
            return None if after == "." else f"{word!r} under another name"
        if word == "def":
            self.aliases = {}
        if before == "def" and word.startswith("__") and word not in _SPECIAL_METHODS:
            return f"method {word}, which may run while the file loads"
        if _ALIAS.fullmatch(word):
            return self._alias_fault(position)
        called = after == "(" and before not in ("def", "class") and word not in _KEYWORDS
        return f"a call of {word!r}" if called and word not in _BUILTINS else None

    def _alias_fault(self, position: int) -> str | None:
        """A short name is bound once in a function; only one bound to a function of the file may be called."""
        word, after = self.words[position], self.words[position + 1]
        if after == "=":
            self.aliases[word] = self.words[position + 2] == "__torch__" and word not in self.aliases
        return f"a call of {word!r}" if after == "(" and not self.aliases.get(word) else None

    def _attribute_fault(self, position: int) -> str | None:
        start = position
        while self.words[start - 1] == "." and self.words[start - 2].isidentifier():
            start -= 2
        chain, name = self.words[start : position + 1 : 2], self.words[position]
        rooted = self.words[start - 1] != "."
        if rooted and chain[0] == "__torch__":
            return "an object of a class from outside the file" if _custom_class(chain) else None
        if rooted and chain[0] in ("torch", "ops"):
            known = chain[0] == "torch" or chain[1] in ("prim", "aten")
            complete = len(chain) == (2 if chain[0] == "torch" else 3)
            return None if known and (not complete or name in _OPERATIONS) else f"operation {'.'.join(chain)}"
        if self.words[position + 1] == "(" and _is_refused_operation(name):
            return f"operation {name}"
        return None


def _is_refused_operation(name: str) -> bool:
    # Any value may be asked for an operation as for a method: x.save(...) is torch.save(x, ...).
    return name not in _OPERATIONS and any(hasattr(space, name) for space in (torch.ops.aten, torch.ops.prim))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
