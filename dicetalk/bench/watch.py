"""Attributes time and peak memory to the stages that report progress."""

import threading
import time
from collections import defaultdict

import psutil
import torch

from dicetalk.hooks import Hooks


class _PeakRSS:
    """Highest resident memory since the last reset, sampled by a thread."""

    def __init__(self, interval_seconds: float = 0.005):
        self.process = psutil.Process()
        self.interval, self.peak = interval_seconds, 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.stop.wait(self.interval):
            self.peak = max(self.peak, self.process.memory_info().rss)

    def take(self) -> int:
        peak, self.peak = max(self.peak, self.process.memory_info().rss), 0
        return peak

    def close(self) -> None:
        self.stop.set()
        self.thread.join()


class StageWatch:
    """Time between two reports belongs to the stage that makes the second one.

    Use as a context manager; give ``watch.hooks`` to the library.

    Args:
        device: whose memory is measured; on the CPU it is the resident memory of the process.
    """

    def __init__(self, device: torch.device):
        self.cuda = device if device.type == "cuda" else None
        self.seconds: dict[str, float] = defaultdict(float)
        self.peak_bytes: dict[str, int] = defaultdict(int)
        self.reports: dict[str, int] = defaultdict(int)
        self.hooks = Hooks(progress=self._report)

    def __enter__(self) -> "StageWatch":
        self.rss = None if self.cuda else _PeakRSS()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.cuda)
        self.last = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.rss:
            self.rss.close()

    def _report(self, stage: str, done: int, total: int, preview: torch.Tensor | None = None) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.cuda)
            peak = torch.cuda.max_memory_allocated(self.cuda)
            torch.cuda.reset_peak_memory_stats(self.cuda)
        else:
            peak = self.rss.take()
        now = time.perf_counter()
        self.seconds[stage] += now - self.last
        self.peak_bytes[stage] = max(self.peak_bytes[stage], peak)
        self.reports[stage] += 1
        self.last = now
