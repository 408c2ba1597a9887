"""Running out of memory: how to recognise it, and how to go on with less at a time."""

import torch

from dicetalk.errors import VideoError
from dicetalk.hooks import Hooks

# A CPU allocator raises a plain RuntimeError; so do some drivers and backends. Their texts are all there is to go by.
_ALLOCATION_FAILED = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "could not allocate",
    "alloc_failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that the host or a device had no memory left, on any backend of torch."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _ALLOCATION_FAILED)


def smaller_batch(batch: int, error: Exception, hooks: Hooks, work: str) -> int:
    """The batch to try after `error`; the caller hears of it through ``hooks.notice``.

    Leave the ``except`` block before trying again: until then the traceback keeps the failed attempt's tensors alive.

    Args:
        batch: frames at a time when `error` was raised.
        error: what was raised; raised again if it is no lack of memory.
        hooks: where the notice goes.
        work: for the messages, such as "decoding".

    Returns:
        Half of `batch`.

    Raises:
        VideoError: `batch` is 1 already.
    """
    if not is_out_of_memory(error):
        raise error
    if batch == 1:
        raise VideoError(
            f"There is not enough memory for {work} one frame at a time ({str(error).partition(chr(10))[0]}). Choose a "
            "smaller picture size, close other programs that use the same device, or run on the CPU."
        ) from error
    hooks.notice(f"Not enough memory for {work} {batch} frames at a time: going on with {batch // 2}.")
    return batch // 2
