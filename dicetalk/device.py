"""Devices and number formats by name."""

import torch

from dicetalk.errors import SettingError

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def choose_device(name: str) -> torch.device:
    """The torch device called `name`; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        SettingError: torch does not know the device or cannot use it here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingError(f"device {name}: torch cannot use it here ({reason}). Use cpu or auto.") from error
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype called `name`; ``auto`` is float32 on the CPU and float16 on an accelerator.

    Raises:
        SettingError: `name` is none of :data:`DTYPES`.
    """
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    if name not in DTYPES:
        raise SettingError(f"dtype {name!r} is unknown. Choose one of: auto, {', '.join(DTYPES)}.")
    return DTYPES[name]
