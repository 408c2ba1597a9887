"""A clip at another, higher frame rate, by the flow network at arbitrary moments."""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

from dicetalk.errors import SettingError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.memory import smaller_batch
from dicetalk.residency import CPU, Residency
from dicetalk.video.interpolate import FLOATS_PER_PIXEL, interpolate_frames
from dicetalk.video.rife import FlowNet

HALVINGS = 2
"""How often a pair is halved by the network's own middle frame before its flow is stretched: to quarters. What moves by
16 pixels from frame to frame moves by 4 inside a quarter, over which even motion is a good assumption."""

Pair = tuple[Fraction, Fraction]


def retimed_length(frames: int, step: Fraction) -> int:
    """How many frames :func:`retime_frames` makes out of `frames`."""
    return math.ceil((frames - 1) / step) + 1 if frames else 0


def retime_frames(
    flownet: FlowNet,
    chunks: Iterable[Tensor],
    total: int,
    step: Fraction,
    *,
    batch: int = 8,
    residency: Residency = CPU,
    hooks: Hooks = SILENT,
) -> Iterator[Tensor]:
    """Show the clip at the moments 0, `step`, 2 `step`, ..., counted in its frames.

    A moment at a given frame shows that frame unchanged. Any other shows what the flow network finds between the two
    neighbours: quarters by halving, moments between quarters by :meth:`FlowNet.at`. The last frame out is the last one
    given. A step of 1/2 is :func:`dicetalk.video.interpolate.interpolate_frames`, to the bit.

    Args:
        flownet: with float32 weights.
        chunks: pieces of one clip, (n, 3, H, W) float32 in 0..1 on the CPU, any H and W.
        total: frames in all `chunks`, for the progress.
        step: from one moment to the next; at most 1, 25/48 makes 24 frames a second of 12.5.
        batch: pairs that go through the network together; halved when memory runs out (``hooks.notice`` says so).
        residency: brings `flownet` onto its device, for one batch each time.
        hooks: reports the stage "interpolate" in pairs.

    Yields:
        (n, 3, H, W) float32 in 0..1 on the CPU, the moments of at most `batch` pairs of frames.

    Raises:
        SettingError: `batch` is below 1, or `step` is not above 0 and at most 1.
        VideoError: there is no memory for one pair.
    """
    if batch < 1:
        raise SettingError(f"batch must be at least 1, got {batch}.")
    if not 0 < step <= 1:
        raise SettingError(f"step must be above 0 and at most 1, got {step}.")
    if step == Fraction(1, 2):
        yield from interpolate_frames(flownet, chunks, total, batch=batch, residency=residency, hooks=hooks)
        return
    between = _Between(flownet, batch, residency, hooks)
    last, at, done = None, 0, 0  # the newest frame, its number, and the number of moments shown
    for chunk in chunks:
        if last is None:
            last, chunk = chunk[:1], chunk[1:]
        for part in chunk.split(batch) if len(chunk) else ():  # an empty tensor splits into one, empty
            frames = torch.cat([last, part])
            end = at + len(part)
            moments = []
            while done * step < end:
                moments.append(done * step)
                done += 1
            known = {Fraction(at + number): frame for number, frame in enumerate(frames)}
            last, at = part[-1:], end
            made = between(known, moments) if moments else None
            hooks.report("interpolate", at, total - 1)  # before the yield: who has enough frames asks no more
            if made is not None:
                yield made
    if last is not None:
        yield last


def hold_frames(chunks: Iterable[Tensor], step: Fraction) -> Iterator[Tensor]:
    """Show the clip at the moments 0, `step`, 2 `step`, ... as a screen does: each frame until the next one comes.

    The last frame is shown once where a moment falls into it or, as by :func:`retime_frames`, after it.

    Args:
        chunks: pieces of one clip, (n, 3, H, W).
        step: from one moment to the next, counted in frames of the clip; above 0 and at most 1.

    Yields:
        As many frames in all as :func:`retimed_length` says, the moments of one frame at a time.
    """
    if not 0 < step <= 1:
        raise SettingError(f"step must be above 0 and at most 1, got {step}.")
    last, at, done = None, 0, 0
    for chunk in chunks:
        for frame in chunk.split(1):
            if last is not None:
                at += 1
                repeats = math.ceil(at / step) - done
                done += repeats
                yield last.expand(repeats, *last.shape[1:])
            last = frame
    if last is not None:
        yield last


class _Between:
    """Frames between known ones.

    Args:
        flownet: of :func:`retime_frames`, as the other arguments.
    """

    def __init__(self, flownet: FlowNet, batch: int, residency: Residency, hooks: Hooks):
        self.flownet, self.batch, self.residency, self.hooks = flownet, batch, residency, hooks

    def __call__(self, known: dict[Fraction, Tensor], moments: list[Fraction]) -> Tensor:
        """The frames at `moments`; `known` is each frame (3, H, W) by its moment, and gains those in between."""
        for halving in range(HALVINGS):
            pairs = {_around(moment, Fraction(1, 2**halving)) for moment in moments if moment not in known}
            self._find(known, [((a, b), (a + b) / 2) for a, b in sorted(pairs)])
        rest = [moment for moment in moments if moment not in known]
        self._find(known, [(_around(moment, Fraction(1, 2**HALVINGS)), moment) for moment in rest])
        return torch.stack([known[moment] for moment in moments])

    def _find(self, known: dict[Fraction, Tensor], wanted: list[tuple[Pair, Fraction]]) -> None:
        start = 0
        while start < len(wanted):
            self.hooks.check()
            part = wanted[start : start + self.batch]
            first = torch.stack([known[a] for (a, _), _ in part])
            second = torch.stack([known[b] for (_, b), _ in part])
            times = [(moment - a) / (b - a) for (a, b), moment in part]
            try:
                found = self._pass(first, second, times)
            except (RuntimeError, MemoryError) as error:
                self.batch = smaller_batch(self.batch, error, self.hooks, "interpolating")
                continue
            known.update(zip((moment for _, moment in part), found, strict=True))
            start += len(part)

    @torch.no_grad()
    def _pass(self, first: Tensor, second: Tensor, times: list[Fraction]) -> Tensor:
        batch, _, height, width = first.shape
        multiple = self.flownet.size_multiple()
        below, right = -height % multiple, -width % multiple
        memory_required = batch * (height + below) * (width + right) * FLOATS_PER_PIXEL * first.dtype.itemsize
        with self.residency(self.flownet, memory_required=memory_required) as device:
            first, second = (F.pad(x.to(device), (0, right, 0, below), mode="replicate") for x in (first, second))
            if all(time == Fraction(1, 2) for time in times):
                found = self.flownet(first, second)
            else:
                found = self.flownet.at(first, second, torch.tensor([float(time) for time in times], device=device))
            return found[..., :height, :width].cpu().clamp_(0, 1)


def _around(moment: Fraction, length: Fraction) -> Pair:
    """The stretch of `length`, from one of its multiples to the next, in which `moment` lies."""
    begin = math.floor(moment / length) * length
    return begin, begin + length
