"""Learning curves: running means of logged scalars, as CSV files that any program can plot, and as TensorBoard's."""

import csv
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dicetalk.errors import OutputError, SettingError
from dicetalk.files import explained, replacing
from dicetalk.hooks import SILENT, Hooks
from dicetalk.paths import checked_path

if TYPE_CHECKING:
    from accelerate import Accelerator


_STEP = re.compile(r"[0-9]{1,18}")

CURVE_FILES = ("train.csv", "validation.csv")


class Curves:
    """Writes rows to ``NAME.csv`` in a folder; close it at the end.

    A resumed run leaves out what a killed one wrote after the checkpoint, so that each step stands there once.

    Args:
        folder: made if missing.
        step: of the checkpoint that the run goes on from; rows of later steps are removed.
        hooks: hears of damaged rows, which are left out, and of damaged files, which are put aside.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, step: int = 0, hooks: Hooks = SILENT):
        checked_path(folder, OutputError)
        self.folder, self.step = folder, step
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.glob("*.csv")):
                _cut(path, step, hooks)
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
        if self.board is not None:
            for key, value in values.items():
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


def _cut(path: Path, step: int, hooks: Hooks) -> None:
    """Keep the header and whole rows up to `step`; without any row, remove the file."""
    header, *lines = path.read_bytes().splitlines(keepends=True) or [b""]
    columns = _cells(header)
    if header and columns[:1] != ["step"]:
        aside = path.with_name(f"{path.name}.damaged")
        os.replace(path, aside)
        hooks.notice(f"{path} is damaged: its first line names no columns. It is now {aside.name}, and begun anew.")
        return
    if lines and not lines[-1].endswith(b"\n"):
        del lines[-1]  # a kill came in the middle of it
    steps = [_row_step(_cells(line), len(columns)) for line in lines]
    kept = [line for line, at in zip(lines, steps, strict=True) if at is not None and at <= step]
    damaged = [number for number, at in enumerate(steps, start=2) if at is None]
    if damaged:
        first = ", ".join(map(str, damaged[:4]))
        hooks.notice(f"{path}: {len(damaged)} damaged rows are left out, the first in lines {first}.")
    if not kept:
        path.unlink()
        return
    with replacing(path) as partial:
        partial.write_bytes(b"".join([header, *kept]))


def _cells(line: bytes) -> list[str]:
    """The cells of a line, none if it is damaged."""
    try:
        return next(csv.reader([line.decode()]), [])
    except (UnicodeDecodeError, csv.Error):
        return []


def _row_step(cells: list[str], columns: int) -> int | None:
    """The step of a row; `None` if it is damaged."""
    if len(cells) != columns or not _STEP.fullmatch(cells[0]):
        return None
    try:
        for cell in filter(None, cells):
            float(cell)
    except ValueError:
        return None
    return int(cells[0])


@dataclass
class Meter:
    """Sums of what is logged, since the last row, of this process; part of a checkpoint, so that curves go on as well.

    Args:
        sums: by name, each a sum and how many values are in it, float32 ``(2,)``.
    """

    sums: dict[str, torch.Tensor] = field(default_factory=dict)

    def add(self, outputs: Mapping[str, torch.Tensor]) -> None:
        """Take the scalars of `outputs`."""
        for name, value in outputs.items():
            if value.ndim == 0:
                value = value.detach().float()
                one = torch.stack([value, torch.ones_like(value)])
                self.sums[name] = self.sums[name] + one if name in self.sums else one

    def totals(self, accelerator: "Accelerator") -> dict[str, torch.Tensor]:
        """The sums over all processes, in each of them."""
        return {name: accelerator.reduce(total, reduction="sum") for name, total in self.sums.items()}

    def load(self, totals: Mapping[str, torch.Tensor], accelerator: "Accelerator") -> None:
        """Inverse of :meth:`totals`: one process goes on with them, the others from zero."""
        part = 1.0 if accelerator.is_main_process else 0.0
        self.sums = {name: part * total.to(accelerator.device) for name, total in totals.items()}


def means(totals: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Means out of :meth:`Meter.totals`."""
    return {name: total / count for name, (total, count) in ((n, t.tolist()) for n, t in totals.items())}


def finite_means(totals: Mapping[str, torch.Tensor], step: int) -> dict[str, float]:
    """As :func:`means`; a loss that is not finite ends the run before it is saved.

    Raises:
        SettingError: one is not.
    """
    found = means(totals)
    broken = [name for name, value in found.items() if not math.isfinite(value)]
    if broken:
        raise SettingError(
            f"Step {step}: {broken[0]} is {found[broken[0]]}. Lower learning_rate or clip_norm, or raise warmup_steps; "
            "the run goes on from its last checkpoint."
        )
    return found
