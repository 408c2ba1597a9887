"""Opens weight files without running anything in them, and says what is wrong with those that cannot be opened.

Tensors are returned as views of the memory-mapped file: opening gigabytes takes milliseconds, and what is never used is
never read.
"""

import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from dicetalk.errors import CheckpointError
from dicetalk.paths import check_header, checked_path

LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of torch.save before torch 1.6 start: a pickled magic number."""

ZIP = b"PK\x03\x04"

MAX_PICKLE_BYTES = 1 << 24

Tensors = dict[str, torch.Tensor]


class DamagedFileError(CheckpointError):
    """A weight file cannot be used.

    Args:
        path: the file.
        reason: what is wrong with it, as the rest of a sentence that starts with its name.
    """

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{path} {reason}")
        self.reason = reason


def everything(name: str) -> bool:
    """Want every tensor."""
    return True


def read_tensors(path: Path, wanted: Callable[[str], bool] = everything) -> Tensors:
    """Read a file of weights by name; its suffix tells the format.

    Args:
        path: ``.safetensors``, or anything else that torch.save wrote.
        wanted: which names to return.

    Raises:
        DamagedFileError: the file is empty, cut off, no file of weights, or holds more than tensors.
    """
    check_start(path)
    if path.suffix == ".safetensors":
        tensors = read_safetensors(path, wanted)[0]
    else:
        tensors = {name: tensor for name, tensor in read_torch(path).items() if wanted(name)}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise DamagedFileError(path, f"holds {tensor.dtype} in {name!r}; weights are floating-point numbers.")
    return tensors


def is_mapped(path: Path) -> bool:
    """Tell whether :func:`read_tensors` maps the file; those of torch.save before torch 1.6 are read whole."""
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as file:
        return file.read(len(ZIP)) == ZIP


def check_start(path: Path) -> None:
    """Refuse what often lies under the name of a weight file.

    Raises:
        DamagedFileError: the file cannot be opened, is empty, a web page, an error message or a Git-LFS pointer.
    """
    checked_path(path, CheckpointError)
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError as error:
        raise DamagedFileError(path, f"cannot be read ({error.strerror}).") from error
    text = start.lstrip().lower()
    if not start:
        raise DamagedFileError(path, "is empty.")
    if text.startswith(b"version https://git-lfs"):
        raise DamagedFileError(path, "is a Git-LFS pointer, a stand-in of a few lines; run `git lfs pull`.")
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise DamagedFileError(path, "is a web page; the download was answered with a page instead of the file.")


def read_safetensors(path: Path, wanted: Callable[[str], bool] = everything) -> tuple[Tensors, dict[str, str]]:
    """The wanted tensors, and the metadata, of a safetensors file.

    Raises:
        DamagedFileError: the file is cut off or damaged.
    """
    try:
        check_header(path, CheckpointError)
    except CheckpointError as error:
        raise DamagedFileError(path, f"is cut off or no safetensors file ({str(error).partition(': ')[2]})") from error
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys() if wanted(name)}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        size = path.stat().st_size
        reason = f"is cut off or no safetensors file ({size} bytes; {_first_line(error)})."
        raise DamagedFileError(path, reason) from error


def read_torch(path: Path) -> Tensors:
    """Tensors of a file that torch.save wrote: one flat table by name.

    Raises:
        DamagedFileError: the file is cut off or damaged, a pickle that torch.save did not write, or holds more than
            tensors; nothing in it has been run.
    """
    with path.open("rb") as file:
        start = file.read(len(LEGACY_TORCH))
    in_zip = start.startswith(ZIP)
    if in_zip:
        check_zip(path)
    elif start != LEGACY_TORCH:
        if start[:1] == b"\x80":
            raise DamagedFileError(path, "is a bare pickle, which could run any program; it was not opened.")
        raise DamagedFileError(path, "was not written by torch.save, or its start is damaged.")
    try:
        content = torch.load(os.fspath(path), map_location="cpu", weights_only=True, mmap=in_zip)
    except pickle.UnpicklingError as error:
        # torch's own text advises to load it without the check. Only the name that the file asked for is passed on.
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        detail = f" (it asks for {asked[1][:80]})" if asked else ""
        reason = f"holds something else than tensors{detail}, or is damaged; nothing in it was run."
        raise DamagedFileError(path, reason) from None
    # torch's reader walks through whatever the file says; on a damaged one nearly every exception can come out.
    except Exception as error:
        raise DamagedFileError(path, f"is damaged or cut off ({_first_line(error)}).") from error
    return _flat_table(path, content)


def check_zip(path: Path) -> None:
    """Check the table at the archive's end, which is lost when a download stops early."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # zipfile, too, trusts the sizes and names that it reads
        size = path.stat().st_size
        raise DamagedFileError(path, f"is cut off: its table of contents is missing ({size} bytes).") from error
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise DamagedFileError(path, "is compressed; torch.save never compresses.")
    if any(entry.filename.endswith(".pkl") and entry.file_size > MAX_PICKLE_BYTES for entry in entries):
        raise DamagedFileError(path, f"lists more than {MAX_PICKLE_BYTES} bytes of names and shapes.")


def _flat_table(path: Path, content: object) -> Tensors:
    if not isinstance(content, dict):
        raise DamagedFileError(path, f"holds a {type(content).__name__}, not a table of tensors.")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            kind = type(value).__name__
            raise DamagedFileError(path, f"holds a {kind} under {str(name)[:60]!r}, not a flat table of tensors.")
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise DamagedFileError(path, f"holds a tensor without plain numbers under {name[:60]!r}.")
    return {name: value.detach() for name, value in content.items()}


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160].rstrip(".")
