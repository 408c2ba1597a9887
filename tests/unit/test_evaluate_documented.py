"""Every measure of the command ``evaluate`` has its row in ``docs/evaluation.md``."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EVALUATE = ROOT / "dicetalk" / "drawn" / "evaluate"


def measures(module: str, function: str) -> list[str]:
    """Names of the rows that a function makes, as patterns: a part that is filled in is any text."""
    tree = ast.parse((EVALUATE / f"{module}.py").read_text("utf-8"))
    body = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
    calls = [node for node in ast.walk(body) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    names = [call.args[0] for call in calls if call.func.id in ("row", "Row")]
    return [found for name in names if (found := pattern(name))]


def pattern(name: ast.expr) -> str:
    if isinstance(name, ast.Constant):
        return re.escape(name.value)
    if isinstance(name, ast.JoinedStr):
        return "".join(pattern(part) if isinstance(part, ast.Constant) else ".+" for part in name.values)
    return ""  # the argument of the helper `row` itself


@pytest.mark.parametrize(("module", "function"), [("measures", "rows_of"), ("looks", "look_rows")])
def test_every_measure_has_a_row(module: str, function: str) -> None:
    text = (ROOT / "docs" / "evaluation.md").read_text("utf-8")
    found = measures(module, function)
    assert len(found) > 8
    assert [name for name in found if not re.search(rf"^\| {name}", text, re.MULTILINE)] == []
