"""Import graph of the checkout, from its syntax trees: nothing is imported to find it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Import:
    """One module of the checkout importing another.

    Args:
        importer: dotted name of the module with the statement.
        imported: dotted name of the module that it names.
        lazy: whether the statement stands in a function, so that it runs when the function is called.
        line: of the statement.
    """

    importer: str
    imported: str
    lazy: bool
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}{' lazily' if self.lazy else ''}"


@cache
def modules(*packages: str) -> dict[str, Path]:
    """Files of the modules of top-level `packages`, by dotted name."""
    return {_name(path): path for package in packages for path in sorted((ROOT / package).rglob("*.py"))}


@cache
def imports(*packages: str) -> tuple[Import, ...]:
    """Every import of one module of `packages` by another, at the top of a file or in a function."""
    known = modules(*packages)
    return tuple(
        Import(name, imported, lazy, line)
        for name, path in known.items()
        for imported, lazy, line in _imports(name, path, frozenset(known))
        if imported != name
    )


def reached(start: str, *packages: str) -> set[str]:
    """Modules that importing `start` imports in turn, itself included; lazy imports do not count."""
    following = _eager(*packages)
    found, todo = set(), [start]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += following.get(name, ())
    return found


@cache
def _eager(*packages: str) -> dict[str, list[str]]:
    following: dict[str, list[str]] = {}
    for edge in imports(*packages):
        if not edge.lazy:
            following.setdefault(edge.importer, []).append(edge.imported)
    return following


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(name: str, path: Path, known: frozenset[str]) -> Iterator[tuple[str, bool, int]]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node, lazy in _statements(ast.parse(path.read_text("utf-8")), lazy=False):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            # `from package import x` names a module where there is one of that name, otherwise something in `package`.
            names = [full if (full := f"{base}.{alias.name}") in known else base for alias in node.names]
        yield from ((imported, lazy, node.lineno) for imported in dict.fromkeys(names) if imported in known)


def _statements(node: ast.AST, lazy: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, lazy
        yield from _statements(child, lazy or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))
