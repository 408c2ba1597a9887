"""Draws the packages and what they import, for ``docs/architecture.md``.

    python docs/draw_architecture.py

Boxes and their texts are the packages and their docstrings, arrows the imports, without those that follow from others
(the transitive reduction); nothing is stated here but the colours. Nodes are placed in layers as in Sugiyama, Tagawa
and Toda, "Methods for Visual Understanding of Hierarchical System Structures" (1981).
"""

import ast
import itertools
import random
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from import_graph import imports, modules  # noqa: E402

PICTURE = ROOT / "docs" / "pictures" / "architecture.svg"

COLOURS = {
    "stages": ("#dbeafe", "#2563eb", ("audio", "portrait", "emotion", "motion", "denoise", "video", "film")),
    "model and pipeline": ("#dcfce7", "#15803d", ("adapters", "checkpoints", "pipeline", "talking_clip", "talk")),
    "training and measures": ("#fef3c7", "#b45309", ("train", "evaluate", "bench", "drawn")),
    "ways in": ("#fce7f3", "#be185d", ("dicetalk", "cli", "nodes")),
}
"""Fill, outline and packages of each group; what is in none is grey."""

GREY = ("#f3f4f6", "#6b7280")
FOUNDATION = "foundation"

WIDTH, BOX, GAP, ROW = 1000, 227, 18, 104
HEIGHT = 72
LINES = 3
LINE, CHARS = 14, 38
SWEEPS = 80
STARTS = 30
STRAIGHT = 20
"""How much more the bends of one arrow keep in line than boxes do."""


@dataclass
class Place:
    """A box, or a bend of an arrow that passes a row.

    Args:
        name: package; of a bend its arrow's ends.
        row: counted from the bottom.
        width: in pixels.
        x: middle, in pixels.
    """

    name: str | tuple[str, str]
    row: int
    width: float
    x: float = 0.0


def package_of(module: str) -> str:
    """Package of the library, or single module beside them, that a module belongs to."""
    parts = module.split(".")
    name = parts[1] if parts[0] == "dicetalk" and len(parts) > 1 else parts[0]
    return {"__main__": "cli"}.get(name, name)


@cache
def package_imports() -> Mapping[str, frozenset[str]]:
    """Packages that each package imports; modules that no other stage stands on are one, :data:`FOUNDATION`."""
    found: dict[str, set[str]] = {package_of(name): set() for name in modules("dicetalk", "nodes")}
    for edge in imports("dicetalk", "nodes"):
        found[package_of(edge.importer)].add(package_of(edge.imported))
    base = foundation(found)
    joined: dict[str, set[str]] = {}
    for name, imported in found.items():
        mine = FOUNDATION if name in base else name
        joined.setdefault(mine, set()).update(FOUNDATION if other in base else other for other in imported)
    return {name: frozenset(imported - {name}) for name, imported in joined.items()}


def foundation(found: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """Single modules of the library that import no package of it, nor a module that does."""
    packages = {package_of(name) for name, path in modules("dicetalk", "nodes").items() if path.name == "__init__.py"}
    base = {name for name in found if name not in packages}
    while True:
        kept = {name for name in base if all(other == name or other in base for other in found[name])}
        if kept == base:
            return frozenset(base)
        base = kept


def reduced(graph: Mapping[str, frozenset[str]]) -> dict[str, list[str]]:
    """Arrows that do not follow from others: none whose end is reached by a longer way."""

    @cache
    def reached(name: str) -> frozenset[str]:
        return graph[name].union(*(reached(other) for other in graph[name]))

    return {
        name: sorted(o for o in imported if not any(o in reached(way) for way in imported))
        for name, imported in graph.items()
    }


def rows_of(graph: Mapping[str, frozenset[str]]) -> dict[str, int]:
    """Row of each package: one above the highest that it imports."""

    @cache
    def row(name: str) -> int:
        return 1 + max((row(other) for other in graph[name]), default=-1)

    return {name: row(name) for name in graph}


def layout(graph: Mapping[str, frozenset[str]]) -> tuple[dict[str, Place], list[list[Place]]]:
    """Places of the boxes by package, and arrows as the places that they pass, from the importer down."""
    row = rows_of(graph)
    boxes = {n: Place(n, row[n], WIDTH - 2 * GAP if n == FOUNDATION else BOX) for n in sorted(graph)}
    arrows = []
    rows: list[list[Place]] = [[] for _ in range(1 + max(row.values()))]
    for box in boxes.values():
        rows[box.row].append(box)
    for name, imported in reduced(graph).items():
        for other in imported:
            bends = [Place((name, other), level, GAP) for level in range(row[name] - 1, row[other], -1)]
            for bend in bends:
                rows[bend.row].append(bend)
            arrows.append([boxes[name], *bends, boxes[other]])
    pull: dict[int, list[tuple[Place, int]]] = {}
    for arrow in arrows:
        bends = arrow[1:-1]
        for upper, lower in itertools.pairwise(arrow):
            pull.setdefault(id(upper), []).append((lower, 1))
            pull.setdefault(id(lower), []).append((upper, 1))
        for bend in bends:
            pull[id(bend)] += [(other, STRAIGHT) for other in bends]
    _order(rows, [pair for arrow in arrows for pair in itertools.pairwise(arrow)])
    for places in rows:
        _spread(places)
    for sweep in range(SWEEPS):
        for places in rows if sweep % 2 else reversed(rows):
            for place in places:
                near = [(other.x, weight) for other, weight in pull.get(id(place), ()) if other.name != FOUNDATION]
                if near:
                    place.x = sum(x * weight for x, weight in near) / sum(weight for _, weight in near)
            _spread(places)
    return boxes, arrows


def _order(rows: list[list[Place]], ends: list[tuple[Place, Place]]) -> None:
    """Order the places of each row so that few arrows cross and are short: the best of some local optima."""
    found, chance = [], random.Random(0)
    for _ in range(STARTS):
        for places in rows:
            chance.shuffle(places)
        found.append((_untangle(rows, ends), [list(places) for places in rows]))
    _, best = min(found, key=lambda one: one[0])
    for places, ordered in zip(rows, best, strict=True):
        places[:] = ordered


def _untangle(rows: list[list[Place]], ends: list[tuple[Place, Place]]) -> tuple[int, float]:
    """Swap or move the places of a row as long as that makes :func:`_tangle` less."""
    best = _tangle(rows, ends)
    while True:
        before = best
        for places in rows:
            for old, new in itertools.permutations(range(len(places)), 2):
                kept = list(places)
                for changed in (_moved(kept, old, new), _swapped(kept, old, new)):
                    places[:] = changed
                    now = _tangle(rows, ends)
                    if now < best:
                        best, kept = now, changed
                places[:] = kept
        if best == before:
            return best


def _moved(places: list[Place], old: int, new: int) -> list[Place]:
    rest = [*places[:old], *places[old + 1 :]]
    return [*rest[:new], places[old], *rest[new:]]


def _swapped(places: list[Place], old: int, new: int) -> list[Place]:
    return [places[{old: new, new: old}.get(i, i)] for i in range(len(places))]


def _tangle(rows: list[list[Place]], ends: list[tuple[Place, Place]]) -> tuple[int, float]:
    """How many arrows cross, and how far they go sideways."""
    at = {id(place): (i + 0.5) / len(places) for places in rows for i, place in enumerate(places)}
    steps = [(upper.row, at[id(upper)], at[id(lower)]) for upper, lower in ends]
    crossed = sum(
        first[0] == second[0] and (first[1] - second[1]) * (first[2] - second[2]) < 0
        for first, second in itertools.combinations(steps, 2)
    )
    return crossed, round(sum(abs(upper - lower) for _, upper, lower in steps), 6)


def _spread(places: list[Place]) -> None:
    """Move the places of a row apart, as little as they must, and into the picture."""
    for _ in range(40):
        for left, right in itertools.pairwise(places):
            missing = (left.width + right.width) / 2 + GAP - (right.x - left.x)
            if missing > 0:
                left.x -= missing / 2
                right.x += missing / 2
        for place in places:
            half = GAP + place.width / 2
            place.x = min(max(place.x, half), WIDTH - half)


def caption(name: str) -> str:
    """Start of a package's docstring that fits into a box; of :data:`FOUNDATION` the modules."""
    if name == FOUNDATION:
        known = sorted({package_of(m) for m in modules("dicetalk")} - set(package_imports()))
        return ", ".join(known)
    module = name if name in ("dicetalk", "nodes") else f"dicetalk.{name}"
    text = ast.get_docstring(ast.parse(modules("dicetalk", "nodes")[module].read_text("utf-8"))) or ""
    text = text.split("\n\n")[0].replace("\n", " ").replace("``", "")
    return text if len(textwrap.wrap(text, CHARS)) <= LINES else re.split("[:;]", text)[0] + "."


def picture() -> str:
    """The picture, as SVG."""
    boxes, arrows = layout(package_imports())
    height = (1 + max(box.row for box in boxes.values())) * ROW + 40

    def top(place: Place) -> float:
        return height - (place.row + 1) * ROW

    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif">',
        "<title>Packages of the library and what they import</title>",
        '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#4b5563"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for arrow in arrows:
        points = [(arrow[0].x, top(arrow[0]) + HEIGHT)]
        for bend in arrow[1:-1]:
            points += [(bend.x, top(bend) - 8), (bend.x, top(bend) + HEIGHT + 8)]
        end = arrow[-1]
        points.append((points[-1][0] if end.name == FOUNDATION else end.x, top(end) - 2))
        way = f"M{points[0][0]:.0f} {points[0][1]:.0f}"
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            middle = (y0 + y1) / 2
            way += f" C{x0:.0f} {middle:.0f} {x1:.0f} {middle:.0f} {x1:.0f} {y1:.0f}"
        drawn.append(
            f'<path d="{way}" fill="none" stroke="#4b5563" stroke-width="1.4" marker-end="url(#end)">'
            f"<title>{arrow[0].name} imports {end.name}</title></path>"
        )
    for name, box in boxes.items():
        fill, line = next((c[:2] for c in COLOURS.values() if name in c[2]), GREY)
        left = box.x - box.width / 2
        drawn.append(
            f'<rect x="{left:.0f}" y="{top(box):.0f}" width="{box.width:.0f}" height="{HEIGHT}" rx="8" fill="{fill}" '
            f'stroke="{line}" stroke-width="1.4"/>'
        )
        drawn.append(
            f'<text x="{left + 10:.0f}" y="{top(box) + 18:.0f}" font-size="14" font-weight="bold" fill="{line}">'
            f"{escape(name)}</text>"
        )
        chars = CHARS if box.width == BOX else int(CHARS * box.width / BOX)
        for number, line_of_text in enumerate(textwrap.wrap(caption(name), chars, max_lines=LINES, placeholder=" …")):
            y = top(box) + 18 + LINE * (number + 1) + 2
            drawn.append(
                f'<text x="{left + 10:.0f}" y="{y:.0f}" font-size="11" fill="#374151">{escape(line_of_text)}</text>'
            )
    x = GAP
    for group, (fill, line, _) in COLOURS.items():
        drawn.append(f'<rect x="{x}" y="8" width="14" height="14" rx="3" fill="{fill}" stroke="{line}"/>')
        drawn.append(f'<text x="{x + 20}" y="20" font-size="12" fill="#374151">{escape(group)}</text>')
        x += 40 + 7 * len(group)
    return "\n".join([*drawn, "</svg>"]) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(picture(), "utf-8")
    print(PICTURE)
