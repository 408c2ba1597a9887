"""Pictures to look at: labelled grids of frames, and curves over time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAPER, INK, SOFT, RULE = (250, 250, 248), (34, 36, 40), (150, 154, 160), (222, 222, 220)
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0))
"""Distinguishable without telling red from green (Okabe and Ito)."""

FONT_SIZE = 15
GAP = 8
DASH = 7
FINENESS = 3
"""Diagrams are drawn so many times as large, because Pillow draws lines with hard edges."""

TITLE = FONT_SIZE + 2 * GAP


def frame_grid(
    rows: Sequence[Sequence[np.ndarray | None]],
    columns: Sequence[str] = (),
    names: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    side: int = 128,
) -> Image.Image:
    """Frames in rows.

    Args:
        rows: uint8 RGB ``(H, W, 3)`` each; none leaves a place empty.
        columns: what stands over the columns.
        names: what stands before the rows.
        captions: what stands under each frame.
        side: of a frame in the picture, in pixels.
    """
    font = ImageFont.load_default(FONT_SIZE)
    left = GAP + (GAP + max(round(font.getlength(name)) for name in names) if names else 0)
    top = TITLE if columns else GAP
    step_x, step_y = side + GAP, side + GAP + (FONT_SIZE + GAP if captions else 0)
    width, height = left + step_x * max(map(len, rows)), top + step_y * len(rows)
    picture = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(picture)
    for place, name in enumerate(columns):
        pen.text((left + step_x * place + side / 2, top / 2), name, INK, font, "mm")
    for number, row in enumerate(rows):
        y = top + step_y * number
        if names:
            pen.text((GAP, y + side / 2), names[number], INK, font, "lm")
        for place, frame in enumerate(row):
            x = left + step_x * place
            if frame is not None:
                picture.paste(Image.fromarray(frame).resize((side, side), Image.Resampling.LANCZOS), (x, y))
            if captions:
                pen.text((x + side / 2, y + side + (FONT_SIZE + GAP) / 2), captions[number][place], INK, font, "mm")
    return picture


@dataclass(frozen=True, eq=False)
class DiagramLine:
    """One line of a diagram.

    Args:
        name: in the legend.
        values: ``(N,)``, one for each frame.
        dashed: how it is drawn.
        colour: number in :data:`COLOURS`.
    """

    name: str
    values: np.ndarray
    dashed: bool = False
    colour: int = 0


def diagram(
    title: str, curves: Sequence[DiagramLine], fps: float, top: float = 1.0, marks: Sequence[int] = (), width: int = 900
) -> Image.Image:
    """Curves over time.

    Args:
        title: what is shown.
        curves: at least one.
        fps: frames a second.
        top: the vertical axis reaches from 0 to this, or as far as the curves do.
        marks: frames at which a vertical line stands.
        width: of the picture in pixels.
    """
    height, unit = 220, FINENESS
    picture = Image.new("RGB", (width * unit, height * unit), PAPER)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(FONT_SIZE * unit)
    low = min(0.0, *(float(curve.values.min()) for curve in curves))
    high = max(top, *(float(curve.values.max()) for curve in curves))
    frames = max(len(curve.values) for curve in curves)
    left, right = 48 * unit, (width - 2 * GAP) * unit
    upper, lower = (TITLE + FONT_SIZE) * unit, (height - TITLE) * unit

    def at(frame: float, value: float) -> tuple[float, float]:
        x = left + (right - left) * frame / max(frames - 1, 1)
        return x, lower - (lower - upper) * (value - low) / (high - low)

    pen.text((left, TITLE / 2 * unit), title, INK, font, "lm")
    for value in (0.0, high):
        y = at(0, value)[1]
        pen.line((left, y, right, y), RULE, unit)
        pen.text((left - GAP * unit, y), f"{value:.2g}", SOFT, font, "rm")
    for second in range(int((frames - 1) / fps) + 1):
        pen.text((at(second * fps, low)[0], lower + GAP * unit), f"{second} s", SOFT, font, "mt")
    for mark in marks:
        pen.line((at(mark, low), at(mark, high)), SOFT, unit)
    x, y = float(left), (TITLE + FONT_SIZE / 2 - 2) * unit
    for curve in curves:
        points = np.array([at(frame, float(value)) for frame, value in enumerate(curve.values)])
        _stroke(pen, points, curve)
        _stroke(pen, np.array([(x, y), (x + 24 * unit, y)]), curve)
        pen.text((x + 30 * unit, y), curve.name, INK, font, "lm")
        x += (30 + 3 * GAP) * unit + font.getlength(curve.name)
    return picture.resize((width, height), Image.Resampling.BOX)


def _stroke(pen: ImageDraw.ImageDraw, points: np.ndarray, curve: DiagramLine) -> None:
    """A line through `points` ``(N, 2)``, in dashes of equal length if it is to be dashed."""
    colour, thickness = COLOURS[curve.colour], 2 * FINENESS
    if not curve.dashed:
        pen.line([tuple(point) for point in points], colour, thickness, "curve")
        return
    way = np.append(0, np.cumsum(np.hypot(*np.diff(points, axis=0).T)))
    along = np.arange(0, way[-1] + 1, DASH * FINENESS / 4)
    line = np.stack([np.interp(along, way, points[:, axis]) for axis in (0, 1)], axis=1)
    for start in range(0, len(line) - 1, 8):  # four pieces are a dash, and four the gap
        pen.line([tuple(point) for point in line[start : start + 5]], colour, thickness, "curve")


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures one under another."""
    sheet = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), PAPER)
    y = 0
    for picture in pictures:
        sheet.paste(picture, (0, y))
        y += picture.height
    return sheet
