"""Learning curves: CSV files that any program can plot, and TensorBoard's where it is installed."""

import csv
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

CURVE_FILES = ("train.csv", "validation.csv")


class Curves:
    """Writes rows to ``NAME.csv`` in a folder; close it at the end.

    A resumed run leaves out what a killed one wrote after the checkpoint, so that each step stands there once.

    Args:
        folder: made if missing.
        step: of the checkpoint that the run goes on from; rows of later steps are removed.
    """

    def __init__(self, folder: Path, step: int = 0):
        self.folder, self.step = folder, step
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.csv"):
            _cut(path, step)
        self.board = None
        if find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def close(self) -> None:
        """Let TensorBoard's file go."""
        if self.board:
            self.board.close()

    def add(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Append a row to ``name.csv``; every row of a file has the same values."""
        path = self.folder / f"{name}.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(["step", *values])
            writer.writerow([step, *(f"{value:.6g}" for value in values.values())])
        for key, value in values.items() if self.board else ():
            self.board.add_scalar(f"{name}/{key}", value, step)


def _cut(path: Path, step: int) -> None:
    """Keep the header and whole rows up to `step`; without any row, remove the file."""
    lines = path.read_text().splitlines(keepends=True)
    columns = len(next(csv.reader(lines[:1]), []))
    kept = [line for line in lines[1:] if line.endswith("\n") and _row_step(line, columns) <= step]
    if not kept:
        path.unlink()
        return
    unfinished = path.with_suffix(".part")
    unfinished.write_text("".join([lines[0], *kept]), newline="")
    os.replace(unfinished, path)


def _row_step(line: str, columns: int) -> float:
    cells = line.strip().split(",")
    return int(cells[0]) if len(cells) == columns and cells[0].isdecimal() else float("inf")
