"""Names of the code: no two public functions or classes of one name that mean different things."""

import ast
from collections import defaultdict

from import_graph import modules

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
