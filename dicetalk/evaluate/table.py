"""Measures, their bars, and the table that people read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Row:
    """One measure.

    Args:
        measure: what is measured.
        generated: of what the model made; NaN where it makes nothing.
        drawn: of the same clips as they would be drawn: the best that the measure can give. NaN if there is no such.
        bar: what `generated` must reach, or none where nothing is asked.
        better: whether it must be at least, or at most, the bar.
        most: where it must be at least the bar, what it must not exceed; none where that is no fault.
    """

    measure: str
    generated: float = math.nan
    drawn: float = math.nan
    bar: float | None = None
    better: Better = "higher"
    most: float | None = None

    @property
    def passed(self) -> bool | None:
        """Whether the bar is reached; none where there is none."""
        if self.bar is None:
            return None
        if self.most is not None and not self.generated <= self.most:
            return False
        return self.generated >= self.bar if self.better == "higher" else self.generated <= self.bar


def format_rows(rows: Sequence[Row]) -> str:
    """The table of `rows`."""
    cells = [("measure", "generated", "drawn", "bar", "")]
    for row in rows:
        sign = ">=" if row.better == "higher" else "<="
        verdict = {True: "reached", False: "MISSED", None: ""}[row.passed]
        bar = "" if row.bar is None else f"{sign} {row.bar:.2f}"
        bar += "" if row.most is None else f" <= {row.most:.2f}"
        cells.append((row.measure, _number(row.generated), _number(row.drawn), bar, verdict))
    return format_cells(cells)


def format_cells(cells: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, the first to the left and the others to the right; a line under the first row."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = []
    for first, *others in cells:
        padded = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *padded]).rstrip())
    return "\n".join([lines[0], "-" * sum(widths, 2 * (len(widths) - 1)), *lines[1:]])


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"
