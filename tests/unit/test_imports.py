"""Direction of imports: upward nowhere, in a circle nowhere, into the drawn world from the command line alone.

Imports in functions count as those at the top of a file: a lazy import may save time, but not turn a layer upside down.
"""

from graphlib import CycleError, TopologicalSorter

from import_graph import Import, imports, modules, reached

LAYERS = (
    ("errors",),
    ("hooks", "parameters", "paths", "strict_json", "unfinished"),
    ("files", "memory", "media", "residency", "progress"),
    ("settings",),
    ("presets",),
    ("config",),
    ("layers",),
    ("audio", "denoise", "portrait", "video"),
    ("film",),
    ("emotion",),
    ("adapters", "motion"),
    ("checkpoints",),
    ("pipeline",),
    ("talking_clip",),
    ("talk",),
    ("dicetalk",),
    ("bench", "evaluate"),
    ("train",),
    ("drawn",),
    ("cli",),
    ("__main__",),
)
"""Parts of the library, modules and packages, from the bottom to the top; `dicetalk` is the front door, ``__init__``.

A part imports parts of lower rows and itself, none of its own row.
"""

LEVELS = {part: level for level, row in enumerate(LAYERS) for part in row}

COMMANDS_OF_DRAWN = {"dicetalk.cli.evaluate"}
"""Modules of the command line that are about drawn faces alone; each is imported when its command is run."""


def test_every_part_has_one_place_in_the_layers() -> None:
    assert sum(map(len, LAYERS)) == len(LEVELS)
    assert {_part(name) for name in modules("dicetalk")} == set(LEVELS)


def test_nothing_is_imported_upward() -> None:
    edges = [edge for edge in imports("dicetalk") if _part(edge.importer) != _part(edge.imported)]
    assert any(edge.lazy for edge in edges) and len(edges) > 500
    assert [str(edge) for edge in edges if _upward(edge)] == []


def test_no_modules_import_one_another_in_a_circle() -> None:
    following: dict[str, set[str]] = {}
    for edge in imports("dicetalk", "nodes"):
        following.setdefault(edge.importer, set()).add(edge.imported)
    try:
        TopologicalSorter(following).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_the_library_knows_nothing_of_the_nodes() -> None:
    edges = imports("dicetalk", "nodes")
    assert any(edge.importer.startswith("nodes.") and edge.imported.startswith("dicetalk.") for edge in edges)
    assert [str(edge) for edge in edges if edge.importer.startswith("dicetalk") and edge.imported[:5] == "nodes"] == []


def test_an_upward_import_would_be_seen() -> None:
    def edge(importer: str, imported: str, lazy: bool = False) -> Import:
        return Import(importer, imported, lazy, 1)

    assert _upward(edge("dicetalk.emotion.track", "dicetalk.checkpoints.single", lazy=True))
    assert _upward(edge("dicetalk.audio.speech", "dicetalk.video.write"))  # parts of one row are independent
    assert not _upward(edge("dicetalk.cli.generate", "dicetalk.talk"))


def test_the_main_line_never_imports_the_drawn_world() -> None:
    edges = imports("dicetalk", "nodes")
    into = [e for e in edges if _drawn(e.imported) and not _drawn(e.importer)]
    assert len(into) > 5 and all(edge.importer.startswith("dicetalk.cli.") for edge in into), into
    assert [str(edge) for edge in into if not edge.lazy and edge.importer not in COMMANDS_OF_DRAWN] == []
    entries = {"dicetalk", "dicetalk.__main__", "dicetalk.cli", "dicetalk.talk", "nodes.extension"}
    entries |= {name for name in modules("dicetalk", "nodes") if not _drawn(name)} - COMMANDS_OF_DRAWN
    assert {entry for entry in entries if any(_drawn(name) for name in reached(entry, "dicetalk", "nodes"))} == set()
    # Otherwise nothing above could fail.
    assert any(_drawn(name) for name in reached("dicetalk.cli.evaluate", "dicetalk", "nodes"))


def _part(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def _upward(edge: Import) -> bool:
    return LEVELS[_part(edge.imported)] >= LEVELS[_part(edge.importer)]


def _drawn(module: str) -> bool:
    return f"{module}.".startswith("dicetalk.drawn.")
