"""Puts tensors into a network after comparing every name and shape."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from dicetalk.checkpoints.read import DamagedFileError, Tensors, is_mapped

Network = TypeVar("Network", bound=nn.Module)

SHOWN = 3

MAPPED_BYTES = 1 << 28
"""Bytes of a file that are converted before its mapping is closed, which returns the pages that were read."""


def check_names_and_shapes(path: Path, network: nn.Module, tensors: Tensors, may_lack: Iterable[str] = ()) -> None:
    """Compare `tensors` with the state dict of `network`.

    Args:
        path: where they come from.
        network: may lie on the meta device.
        tensors: by state-dict name.
        may_lack: submodules that may be absent as a whole.

    Raises:
        DamagedFileError: a name is missing, unexpected, or has another shape; the first few are listed.
    """
    expected = network.state_dict()
    absent = _absent(tensors, may_lack)
    missing = [name for name in expected if name not in tensors and not name.startswith(absent)]
    unexpected = [name for name in tensors if name not in expected]
    reshaped = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected
        if name in tensors and tensors[name].shape != expected[name].shape
    ]
    problems = (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
    reasons = [f"{len(names)} of {len(expected)} tensors {kind} ({_few(names)})" for kind, names in problems if names]
    if reasons:
        raise DamagedFileError(path, f"does not fit the network: {'; '.join(reasons)}.")


def fill(path: Path, network: Network, tensors: Tensors, dtype: torch.dtype, may_lack: Iterable[str] = ()) -> Network:
    """Make `tensors` the weights of `network`, which was built on the meta device.

    Tensors that are in `dtype` already are used as they are: no second copy, and still views of their file. Every value
    is looked at once, so that NaN shows up here with a name and not later as a black video.

    Args:
        path: where they come from.
        network: built on the meta device.
        tensors: by state-dict name.
        dtype: of the weights.
        may_lack: submodules that may be absent as a whole; an absent one becomes none.

    Returns:
        `network`, ready for inference.

    Raises:
        DamagedFileError: as :func:`check_names_and_shapes`, or a value is not finite in `dtype`.
    """
    check_names_and_shapes(path, network, tensors, may_lack)
    weights = {name: finite(path, name, tensor, dtype) for name, tensor in tensors.items()}
    return _assigned(network, weights, may_lack)


def fill_from_file(
    path: Path,
    network: Network,
    read: Callable[[list[str]], Tensors],
    dtype: torch.dtype,
    may_lack: Iterable[str] = (),
) -> Network:
    """As :func:`fill`, with main memory for the weights in `dtype` and :data:`MAPPED_BYTES` or one tensor of the file.

    Pages of a mapped file count as resident memory once they were read. A file in another dtype is therefore opened
    again for every few tensors: closing a mapping returns its pages on every system. Tensors that are in `dtype` stay
    views of one mapping, and a file that cannot be mapped is read once, its tensors freed as they are converted.

    Args:
        path: the file.
        network: built on the meta device.
        read: returns the tensors of `path` by state-dict name, given the names that the network has.
        dtype: of the weights.
        may_lack: submodules that may be absent as a whole; an absent one becomes none.

    Returns:
        `network`, ready for inference.

    Raises:
        DamagedFileError: as :func:`fill`.
    """
    names = list(network.state_dict())
    tensors = read(names)
    check_names_and_shapes(path, network, tensors, may_lack)
    weights = {name: finite(path, name, tensor, dtype) for name, tensor in tensors.items() if tensor.dtype == dtype}
    left = [name for name in tensors if name not in weights]
    reopen, converted = is_mapped(path), 0
    for name in left:
        if reopen and converted and converted + tensors[name].nbytes > MAPPED_BYTES:
            del tensors
            tensors, converted = read(names), 0
            check_names_and_shapes(path, network, tensors, may_lack)
        tensor = tensors.pop(name)
        converted += tensor.nbytes
        weights[name] = finite(path, name, tensor, dtype)
        del tensor
    return _assigned(network, weights, may_lack)


def _assigned(network: Network, weights: Tensors, may_lack: Iterable[str]) -> Network:
    for prefix in _absent(weights, may_lack):
        setattr(network, prefix.removesuffix("."), None)
    network.requires_grad_(False)
    network.load_state_dict(weights, strict=True, assign=True)
    return network.eval()


def finite(path: Path, name: str, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`tensor` in `dtype`.

    Raises:
        DamagedFileError: a value is NaN or infinite, or becomes so in `dtype`.
    """
    converted = tensor.to(dtype)
    # Several times faster than isfinite, and needs no memory: NaN and infinity both reach an end of the range.
    low, high = torch.aminmax(converted)
    if not (low.isfinite() and high.isfinite()):
        raise DamagedFileError(path, f"holds NaN or infinite values in {name!r} (as {dtype}).")
    return converted


def _absent(tensors: Tensors, may_lack: Iterable[str]) -> tuple[str, ...]:
    prefixes = (f"{submodule}." for submodule in may_lack)
    return tuple(prefix for prefix in prefixes if not any(name.startswith(prefix) for name in tensors))


def _few(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
