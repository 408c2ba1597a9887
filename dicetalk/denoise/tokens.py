"""Rows of condition tokens, and their keys and values, projected once per clip or, beyond a budget, once per window."""

from dataclasses import dataclass
from typing import Protocol

import torch

from dicetalk.denoise.attention import KeyValues
from dicetalk.denoise.unet import UNet
from dicetalk.hooks import SILENT, Hooks
from dicetalk.memory import is_out_of_memory

NOT_KEPT = "Out of memory: keys and values of speech and emotion are projected again for each window from here on."


class TokenRows(Protocol):
    """Distinct condition tokens, made on demand."""

    @property
    def tokens(self) -> int:
        """Tokens in a row."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def __call__(self, rows: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Tokens ``(len(rows), tokens, context_dim)`` of the rows `rows`."""
        ...


@dataclass(frozen=True)
class StoredRows:
    """Token rows that lie in memory.

    Args:
        values: ``(rows, tokens, context_dim)``.
    """

    values: torch.Tensor

    @property
    def tokens(self) -> int:
        """Tokens in a row."""
        return self.values.shape[1]

    def __len__(self) -> int:
        return len(self.values)

    def __call__(self, rows: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Tokens ``(len(rows), tokens, context_dim)`` of the rows `rows`."""
        return self.values[rows].to(device, dtype)


@dataclass(frozen=True)
class FrameTokens:
    """One adapter's tokens for a clip.

    Args:
        rows: distinct tokens.
        conditional: row of each frame in the branch that sees speech and emotion, ``(frames,)``, padding included.
        unconditional: row of each frame in the other branches, ``(frames,)``.
    """

    rows: TokenRows
    conditional: torch.Tensor
    unconditional: torch.Tensor


class ProjectedRows:
    """Keys and values of token rows for one adapter of a UNet.

    Keys and values do not change over the steps, so all rows are projected once if they fit `budget` bytes and the
    device's memory. Otherwise the rows of a window are projected when it is denoised: little work beside the window
    itself, and bounded memory. Both give the same.
    """

    def __init__(
        self,
        unet: UNet,
        adapter: int,
        rows: TokenRows,
        budget: int,
        device: torch.device,
        dtype: torch.dtype,
        hooks: Hooks = SILENT,
    ):
        self.unet, self.adapter, self.rows, self.device, self.dtype = unet, adapter, rows, device, dtype
        self.kept: KeyValues | None = None
        if len(rows) * rows.tokens * 2 * unet.key_value_channels * dtype.itemsize <= budget:
            try:
                self.kept = self._project(torch.arange(len(rows)))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                hooks.notice(NOT_KEPT)

    def _project(self, rows: torch.Tensor) -> KeyValues:
        return self.unet.project_adapter(self.adapter, self.rows(rows, self.device, self.dtype))

    def __call__(self, index: torch.Tensor) -> tuple[KeyValues, torch.Tensor]:
        """Keys and values that hold the rows `index` ``(batch, frames)``, and the index into them."""
        if self.kept is not None:
            return self.kept, index.to(self.device)
        rows, local = index.unique(return_inverse=True)
        return self._project(rows), local.to(self.device)
