"""Memory, descriptors and threads of a process, from Linux's ``/proc``."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

INTERVAL_SECONDS = 0.001


@dataclass(frozen=True)
class Taken:
    """What a process has taken of the system.

    Args:
        megabytes: in memory (RSS).
        descriptors: open files, pipes and sockets.
        threads: that run or wait.
    """

    megabytes: float
    descriptors: int
    threads: int

    def __str__(self) -> str:
        return f"{self.megabytes:7.1f} MB {self.descriptors:4} descriptors {self.threads:3} threads"


def taken(process: int | None = None) -> Taken:
    """Measure `process`, this one if `None`."""
    folder = Path("/proc") / str(process or os.getpid())
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    return Taken(int(status["VmRSS"].split()[0]) / 1024, len(os.listdir(folder / "fd")), int(status["Threads"]))


def own_environment() -> dict[str, str]:
    """Environment of a process that imports the library, and this module, from the same checkout."""
    here = Path(__file__).resolve().parent
    return os.environ | {"PYTHONPATH": os.pathsep.join((str(here.parent), str(here))), "OMP_NUM_THREADS": "1"}


class PeakMemory:
    """Highest resident memory of this process during a ``with`` block, beyond what it had before.

    Attributes:
        grown: in bytes, known after the block.
    """

    def __enter__(self) -> "PeakMemory":
        self.grown = 0
        self._before = self._peak = _resident()
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._watcher.join()
        self.grown = max(self._peak, _resident()) - self._before

    def _watch(self) -> None:
        while not self._ended.wait(INTERVAL_SECONDS):
            self._peak = max(self._peak, _resident())


def _resident() -> int:
    with open("/proc/self/status") as status:
        return 1024 * int(next(line for line in status if line.startswith("VmRSS")).split()[1])
