"""Memory, descriptors and threads of a process, from Linux's ``/proc``."""

import os
from dataclasses import dataclass
from pathlib import Path


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
