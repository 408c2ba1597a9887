"""Which module may import which."""

from import_graph import imports, modules, reached

COMMANDS_OF_DRAWN = {"dicetalk.cli.evaluate"}
"""Modules of the command line that are about drawn faces alone; each is imported when its command is run."""


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


def _drawn(module: str) -> bool:
    return f"{module}.".startswith("dicetalk.drawn.")
