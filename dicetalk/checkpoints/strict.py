"""Puts tensors into a network after comparing every name and shape."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from dicetalk.checkpoints.read import DamagedFileError, Tensors

SHOWN = 3


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


def fill(
    path: Path, network: nn.Module, tensors: Tensors, dtype: torch.dtype, may_lack: Iterable[str] = ()
) -> nn.Module:
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
    for prefix in _absent(tensors, may_lack):
        setattr(network, prefix.removesuffix("."), None)
    weights = {name: finite(path, name, tensor, dtype) for name, tensor in tensors.items()}
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
