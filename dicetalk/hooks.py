"""How long work reports to its caller: progress, cancelling, notices. No stage knows who listens."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from dicetalk.errors import Cancelled

_log = logging.getLogger("dicetalk")


def _no_progress(stage: str, done: int, total: int, preview: torch.Tensor | None = None) -> None:
    pass


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Hooks:
    """The caller's ears.

    Args:
        progress: ``progress(stage, done, total, preview)`` after each unit of work; `preview` is a tensor that the
            stage documents (the sampler: the denoised latents so far), or none.
        cancelled: returns true when the caller wants to stop; asked before each expensive call.
        notice: receives one sentence when the work went on differently than asked (a memory retreat, a held frame).
    """

    progress: Callable[[str, int, int, torch.Tensor | None], None] = _no_progress
    cancelled: Callable[[], bool] = _never
    notice: Callable[[str], None] = _log.warning

    def report(self, stage: str, done: int, total: int, preview: torch.Tensor | None = None) -> None:
        """Tell the caller that `done` of `total` units of `stage` are finished."""
        self.progress(stage, done, total, preview)

    def check(self) -> None:
        """Raise :class:`dicetalk.errors.Cancelled` if the caller wants to stop."""
        if self.cancelled():
            raise Cancelled


SILENT = Hooks()
