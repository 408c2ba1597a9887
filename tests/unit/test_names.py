"""Names and sizes of modules: a public name means one thing, a module holds one idea, whole."""

import ast
from collections import defaultdict

from import_graph import modules

LONGEST, SHORTEST = 400, 40
"""Lines of a module: a longer one holds two ideas, a shorter one belongs to its only reader."""

SHORT = {
    "dicetalk.__main__": "where `python -m dicetalk` begins",
    "dicetalk.cli.models": "three commands that only call the library",
}
"""Modules with a reason to be shorter, beside ``__init__``."""

SHARED = {
    "PasteBack": "the library's, and the node that runs it",
    "main": "entry points of programs",
    "sampler_settings": "from the command's options, and from a node's inputs",
}
"""Names that stand for one thing in two places."""


def test_one_public_name_has_one_meaning() -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for module, path in modules("dicetalk", "nodes").items():
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                found[node.name].add(module)  # once, however many overloads
    assert len(found) > 500
    twice = {name: places for name, places in found.items() if len(places) > 1}
    assert {name: places for name, places in twice.items() if name not in SHARED} == {}
    assert set(twice) == set(SHARED), "a name that is no longer shared"


def test_modules_are_neither_slivers_nor_too_long() -> None:
    files = {name: path for name, path in modules("dicetalk", "nodes").items() if path.name != "__init__.py"}
    lines = {name: len(path.read_text("utf-8").splitlines()) for name, path in files.items()}
    assert len(lines) > 150
    assert {name: count for name, count in lines.items() if count > LONGEST} == {}
    assert {name for name, count in lines.items() if count < SHORTEST} == set(SHORT)
