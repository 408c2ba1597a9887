"""Twice as many frames: one from the flow network between each pair."""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from dicetalk.errors import SettingError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.memory import smaller_batch
from dicetalk.residency import CPU, Residency
from dicetalk.video.rife import FlowNet

FLOATS_PER_PIXEL = 200
"""Upper bound of what lives at once in a pass: 163 at the released width of the network, the rest is workspace."""


def interpolated_length(frames: int) -> int:
    """How many frames :func:`interpolate_frames` makes out of `frames`."""
    return max(2 * frames - 1, 0)


def interpolate_frames(
    flownet: FlowNet,
    chunks: Iterable[Tensor],
    total: int,
    *,
    batch: int = 8,
    residency: Residency = CPU,
    hooks: Hooks = SILENT,
) -> Iterator[Tensor]:
    """Put the frame halfway between each pair in between: n frames become 2n - 1, the given ones among them unchanged.

    Feed the result in again for four, eight, ... times the frame rate.

    Args:
        flownet: with float32 weights (half precision cannot count the pixels of a warp).
        chunks: pieces of one clip, (n, 3, H, W) float32 in 0..1 on the CPU, any H and W.
        total: frames in all `chunks`, for the progress.
        batch: pairs that go through the network together; halved when memory runs out (``hooks.notice`` says so).
        residency: brings `flownet` onto its device, for one batch each time.
        hooks: reports the stage "interpolate" in pairs.

    Yields:
        (n, 3, H, W) float32 in 0..1 on the CPU; n is at most twice `batch`.

    Raises:
        SettingError: `batch` is below 1.
        VideoError: there is no memory for one pair.
    """
    if batch < 1:
        raise SettingError(f"batch must be at least 1, got {batch}.")
    last, done = None, 0
    for chunk in chunks:
        if last is None:
            last = chunk[:1]
            yield last
            chunk = chunk[1:]
        start = 0
        while start < len(chunk):
            hooks.check()
            second = chunk[start : start + batch]
            first = torch.cat([last, second[:-1]])
            try:
                middle = _middle_frames(flownet, first, second, residency)
            except (RuntimeError, MemoryError) as error:
                batch = smaller_batch(batch, error, hooks, "interpolating")
                continue
            last = second[-1:]
            start += len(second)
            done += len(second)
            hooks.report("interpolate", done, total - 1)
            yield torch.stack([middle, second], dim=1).flatten(0, 1)


@torch.no_grad()
def _middle_frames(flownet: FlowNet, first: Tensor, second: Tensor, residency: Residency) -> Tensor:
    batch, _, height, width = first.shape
    multiple = flownet.size_multiple()
    below, right = -height % multiple, -width % multiple
    memory_required = batch * (height + below) * (width + right) * FLOATS_PER_PIXEL * first.dtype.itemsize
    with residency(flownet, memory_required=memory_required) as device:
        first, second = (F.pad(frames.to(device), (0, right, 0, below), mode="replicate") for frames in (first, second))
        return flownet(first, second)[..., :height, :width].cpu().clamp_(0, 1)
