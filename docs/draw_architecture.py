"""Draws the packages and what they import, for ``docs/architecture.md``.

    python docs/draw_architecture.py

Boxes and their texts are the packages and their docstrings, arrows the imports, without those that follow from others
(the transitive reduction); nothing is stated here but the colours. Mermaid, which code hosts render, places them.
"""

import ast
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from import_graph import imports, modules  # noqa: E402

DOCUMENT = ROOT / "docs" / "architecture.md"
BEGIN, END = "```mermaid\n", "```\n"

COLOURS = {
    "stages": ("#dbeafe", "#2563eb", ("audio", "portrait", "emotion", "motion", "denoise", "video", "film")),
    "model and pipeline": ("#dcfce7", "#15803d", ("adapters", "checkpoints", "pipeline", "talking_clip", "talk")),
    "training and measures": ("#fef3c7", "#b45309", ("train", "evaluate", "bench", "drawn")),
    "ways in": ("#fce7f3", "#be185d", ("dicetalk", "cli", "nodes")),
}
"""Fill, outline and packages of each group; what is in none has the default."""

FOUNDATION = "foundation"
LONGEST = 110
"""Characters of a box."""


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


def caption(name: str) -> str:
    """Start of a package's docstring that fits into a box; of :data:`FOUNDATION` the modules."""
    if name == FOUNDATION:
        known = sorted({package_of(m) for m in modules("dicetalk")} - set(package_imports()))
        return ", ".join(known)
    module = name if name in ("dicetalk", "nodes") else f"dicetalk.{name}"
    text = ast.get_docstring(ast.parse(modules("dicetalk", "nodes")[module].read_text("utf-8"))) or ""
    text = text.split("\n\n")[0].replace("\n", " ").replace("``", "")
    return text if len(text) <= LONGEST else re.split("[:;]", text)[0] + "."


def picture() -> str:
    """The picture, as the lines of a Mermaid flow chart."""
    graph = package_imports()
    lines = ["flowchart TD"]
    for name in sorted(graph):
        text = caption(name).replace('"', "#quot;")
        lines.append(f'    {name}["<b>{name}</b><br/>{text}"]')
    for name, imported in sorted(reduced(graph).items()):
        lines += [f"    {name} --> {other}" for other in imported]
    for number, (fill, line, names) in enumerate(COLOURS.values()):
        lines.append(f"    classDef group{number} fill:{fill},stroke:{line}")
        lines.append(f"    class {','.join(name for name in names if name in graph)} group{number}")
    return "\n".join(lines) + "\n"


def written(document: str) -> str:
    """The text of the document with the picture as it is now."""
    before, rest = document.split(BEGIN)
    return before + BEGIN + picture() + END + rest.split(END, 1)[1]


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text("utf-8")), "utf-8")
    print(DOCUMENT)
