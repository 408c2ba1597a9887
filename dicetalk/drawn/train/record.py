"""Record of the config that each stage of the small model's training began with, and how long it took."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from dicetalk.drawn.train.config import TinyTraining
from dicetalk.errors import SettingError
from dicetalk.files import explained, replacing
from dicetalk.hooks import Hooks
from dicetalk.train.checkpoint import STEERING, Entries, changes, defaults, entries

FILE, TIMES = "stages.json", "stages.csv"
WRITE_EVERY = 60.0
"""Seconds of a stage's time that a kill may lose."""


class StageRecord:
    """Keeps ``stages.json`` beside the stages.

    Args:
        config: what the stages would be done with now.

    Raises:
        SettingError: the file is damaged.
    """

    def __init__(self, config: TinyTraining):
        self.path = config.out / FILE
        self.now = json.loads(json.dumps(entries(config, config.out)))
        self.usual = json.loads(json.dumps(defaults(config)))
        try:
            self.begun: dict[str, Entries] = json.loads(self.path.read_text("utf-8")) if self.path.exists() else {}
            self.begun = {stage: dict(found) for stage, found in self.begun.items()}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise SettingError(f"{self.path} is damaged ({error}). Remove it if the config has not changed.") from error

    def check(self, stage: str, names: tuple[str, ...], result: Path) -> None:
        """Compare what a stage was begun with with what it would be done with now.

        While the stage is not done its loop may be steered, see :data:`dicetalk.train.checkpoint.STEERING`.

        Args:
            stage: its name.
            names: entries or tables of the config that it depends on.
            result: file that is there when it is done.

        Raises:
            SettingError: an entry differs.
        """
        differing = changes(self.begun[stage], self._of(names), self.usual) if stage in self.begun else []
        if not result.is_file():
            differing = [change for change in differing if change.name.rpartition(".")[2] not in STEERING]
        if differing:
            raise SettingError(
                f"The stage {stage!r} in {self.path.parent} was begun with another config: {differing[0]}. Put it "
                "back, or choose another `out`."
            )

    def begin(self, stage: str, names: tuple[str, ...]) -> None:
        """Write down that a stage begins.

        Raises:
            OutputError: the disk is full, or the folder cannot be written.
        """
        self.begun[stage] = self._of(names)
        with explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as partial, explained(self.path):
            partial.write_text(json.dumps(self.begun, indent=1) + "\n", "utf-8")

    def _of(self, names: tuple[str, ...]) -> Entries:
        wanted = ("seed", *names)
        own_seeds = {f"{name}.seed" for name in names}  # the loops' own are not used
        return {
            name: value
            for name, value in self.now.items()
            if (name in wanted or name.partition(".")[0] in wanted) and name not in own_seeds
        }


class StageTimes:
    """Keeps ``stages.csv``: a line each time a stage was worked on, for how long, and whether it came to its end.

    Args:
        path: of the file; lines that are there stay.

    Raises:
        OutputError: the file cannot be opened.
    """

    def __init__(self, path: Path):
        self.path = path
        self._stage: str | None = None
        with explained(path):
            self._lines = path.read_text("utf-8", "replace") if path.exists() else "stage,seconds,done\n"

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Count the time of the block.

        Raises:
            OutputError: the disk is full, or the folder cannot be written.
        """
        self._stage, self._start, done = stage, time.monotonic(), False
        self._written = self._start
        try:
            yield
            done = True
        finally:
            self._lines = self._write(done)
            self._stage = None

    def listening(self, hooks: Hooks) -> Hooks:
        """`hooks` whose progress also writes the line of the stage at work, now and then."""

        def progress(*report: Any) -> None:
            hooks.progress(*report)
            if self._stage and time.monotonic() - self._written >= WRITE_EVERY:
                self._write(done=False)

        return replace(hooks, progress=progress)

    def _write(self, done: bool) -> str:
        self._written = time.monotonic()
        text = f"{self._lines}{self._stage},{self._written - self._start:.0f},{int(done)}\n"
        with replacing(self.path) as partial, explained(self.path):
            partial.write_text(text, "utf-8")
        return text
