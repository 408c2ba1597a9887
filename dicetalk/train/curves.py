"""Learning curves: CSV files that any program can plot, and TensorBoard's where it is installed."""

import csv
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from dicetalk.files import explained, replacing

CURVE_FILES = ("train.csv", "validation.csv")


class Curves:
    """Writes rows to ``NAME.csv`` in a folder; close it at the end.

    A resumed run leaves out what a killed one wrote after the checkpoint, so that each step stands there once.

    Args:
        folder: made if missing.
        step: of the checkpoint that the run goes on from; rows of later steps are removed.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, step: int = 0):
        self.folder, self.step = folder, step
        with explained(folder):
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
        """Append a row to ``name.csv``; a value that no row had before gets a column of its own.

        Raises:
            OutputError: the disk is full, or the folder cannot be written.
        """
        path = self.folder / f"{name}.csv"
        row = {"step": str(step)} | {key: f"{value:.6g}" for key, value in values.items()}
        with explained(path):
            columns, rows = _read(path) if path.exists() else ([], [])
            if set(row) <= set(columns):
                with path.open("a", newline="") as file:
                    csv.DictWriter(file, columns, restval="", lineterminator="\n").writerow(row)
            else:
                _write(path, [*columns, *(key for key in row if key not in columns)], [*rows, row])
        for key, value in values.items() if self.board else ():
            self.board.add_scalar(f"{name}/{key}", value, step)


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns of a curve, and its rows."""
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        return list(reader.fieldnames or ()), list(reader)


def _write(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    """Write a curve anew; a kill leaves the old one."""
    with replacing(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _cut(path: Path, step: int) -> None:
    """Keep the header and whole rows up to `step`; without any row, remove the file."""
    lines = path.read_text().splitlines(keepends=True)
    columns = len(next(csv.reader(lines[:1]), []))
    kept = [line for line in lines[1:] if line.endswith("\n") and _row_step(line, columns) <= step]
    if not kept:
        path.unlink()
        return
    with replacing(path) as partial:
        partial.write_text("".join([lines[0], *kept]), newline="")


def _row_step(line: str, columns: int) -> float:
    cells = line.strip().split(",")
    return int(cells[0]) if len(cells) == columns and cells[0].isdecimal() else float("inf")
