"""The process that makes and reads cases, and the one that watches it."""

import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from dicetalk.errors import DiceTalkError
from fuzz.case import Target

GIGABYTE = 1 << 30
CPU_SECONDS, WALL_SECONDS = 10.0, 60.0
"""Computing time that a case may take, and time on the clock, which is more because other programs run as well."""

START_SECONDS = 300.0
MARK = "executed"
"""A folder of this name appears if a reader has run what is in a file, see :class:`fuzz.mutate.Marks`."""

Targets = Callable[[], Sequence[Target]]


@dataclass(frozen=True)
class Outcome:
    """What became of a case: ``read``, ``refused`` with the library's own error, or a failure.

    Args:
        kind: ``read``, ``refused`` or ``failed``.
        reason: the error.
    """

    kind: str
    reason: str = ""


def _serve(connection: Connection, scratch: Path, targets: Targets) -> None:
    """Make and read cases until there is nobody to ask for them."""
    sys.stdout = sys.stderr = (scratch / "log").open("a")
    for number in (1, 2):  # what libraries in C print
        os.dup2(sys.stdout.fileno(), number)
    os.chdir(scratch)
    known = {target.name: target for target in targets()}
    connection.send(list(known))
    while True:
        name, key = connection.recv()
        target, folder = known[name], scratch / "case"
        if key is not None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            target.make(random.Random(key), folder)
        connection.send("made")
        connection.send(_read(target, folder))


def _read(target: Target, folder: Path) -> Outcome:
    try:
        target.read(folder)
    except DiceTalkError as error:
        if not str(error).strip():
            return Outcome("failed", f"{type(error).__name__} without a message")
        return Outcome("refused", f"{type(error).__name__}: {error}"[:500])
    except BaseException as error:
        return Outcome("failed", f"{type(error).__name__}: {error}"[:500] + "\n" + traceback.format_exc()[-4000:])
    return Outcome("read")


class Worker:
    """Reads cases in a process of its own, which is started again when it has died. Use as a context manager.

    Args:
        targets: gives the targets; called in that process.
    """

    def __init__(self, targets: Targets, cpu_seconds: float = CPU_SECONDS, wall_seconds: float = WALL_SECONDS):
        self.targets, self.cpu_seconds, self.wall_seconds = targets, cpu_seconds, wall_seconds
        self.scratch = Path(tempfile.mkdtemp(prefix="fuzz-"))
        self.names: list[str] = []

    def __enter__(self) -> "Worker":
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        shutil.rmtree(self.scratch, ignore_errors=True)

    @property
    def case(self) -> Path:
        """The folder of the last case."""
        return self.scratch / "case"

    def run(self, name: str, key: str | None) -> Outcome:
        """Make the case `key` of a target, or with none take what is in :attr:`case`, and read it."""
        outcome = self._answer(name, key)
        if outcome.kind == "failed" and not self.process.is_alive():
            self._start()
        if (self.scratch / MARK).exists() or (self.case / MARK).exists():
            shutil.rmtree(self.scratch / MARK, ignore_errors=True)
            return Outcome("failed", "what is in the file was run")
        return outcome

    def _answer(self, name: str, key: str | None) -> Outcome:
        self.connection.send((name, key))
        self._receive(START_SECONDS, "making the case")
        self._forget_peak()
        before, cpu, start = self._memory("VmRSS"), self._cpu(), time.monotonic()
        try:
            while not self.connection.poll(0.05):
                if self._cpu() - cpu > self.cpu_seconds or time.monotonic() - start > self.wall_seconds:
                    self._stop()
                    return Outcome(
                        "failed", f"more than {self.cpu_seconds:g} s of computing, or {self.wall_seconds:g} s"
                    )
                if self._memory("VmRSS") - before > GIGABYTE:
                    self._stop()
                    return Outcome("failed", "more than 1 GB of memory")
            peak = self._memory("VmHWM") - before
            outcome = self.connection.recv()
        except (EOFError, OSError, psutil.NoSuchProcess):
            self.process.join(5)
            code, log = self.process.exitcode, (self.scratch / "log").read_text(errors="replace")[-1500:]
            self._stop()
            return Outcome("failed", f"the process died, exit status {code}\n{log}")
        if peak > GIGABYTE:
            return Outcome("failed", f"{peak / GIGABYTE:.2f} GB of memory at its peak")
        return outcome

    def _receive(self, seconds: float, doing: str) -> object:
        if not self.connection.poll(seconds):
            raise TimeoutError(f"{doing} took more than {seconds:g} s")
        try:
            return self.connection.recv()
        except EOFError:
            raise RuntimeError(f"{doing}:\n{(self.scratch / 'log').read_text(errors='replace')[-4000:]}") from None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.scratch, self.targets), daemon=True)
        self.process.start()
        theirs.close()
        self.names = self._receive(START_SECONDS, "starting")

    def _stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()

    def _cpu(self) -> float:
        return sum(psutil.Process(self.process.pid).cpu_times()[:2])

    def _forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def _memory(self, what: str) -> int:
        """Memory of the process in bytes: ``VmRSS`` now, ``VmHWM`` at its peak."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(what):
                return int(line.split()[1]) << 10
        return 0
