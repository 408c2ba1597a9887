"""Which config each stage of the small model's training was begun with."""

import json
from pathlib import Path

from dicetalk.errors import SettingError
from dicetalk.files import explained, replacing
from dicetalk.train.begun import STEERING, Entries, changes, defaults, entries
from dicetalk.train.tiny.config import TinyTraining

FILE, TIMES = "stages.json", "stages.csv"


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

        While the stage is not done its loop may be steered, see :data:`dicetalk.train.begun.STEERING`.

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

    def worked(self, stage: str, seconds: float, *, done: bool) -> None:
        """Add a line to ``stages.csv``: how long a stage was worked on, and whether it came to its end.

        Raises:
            OutputError: the disk is full, or the folder cannot be written.
        """
        path = self.path.with_name(TIMES)
        with explained(path), path.open("a", encoding="utf-8") as file:
            if not file.tell():
                file.write("stage,seconds,done\n")
            file.write(f"{stage},{seconds:.0f},{int(done)}\n")

    def _of(self, names: tuple[str, ...]) -> Entries:
        wanted = ("seed", *names)
        own_seeds = {f"{name}.seed" for name in names}  # the loops' own are not used
        return {
            name: value
            for name, value in self.now.items()
            if (name in wanted or name.partition(".")[0] in wanted) and name not in own_seeds
        }
