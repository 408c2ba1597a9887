"""The hooks before a commit: what they run is there, and is what continuous integration runs."""

import subprocess
import sys
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).resolve().parents[2]


def hooks() -> dict[str, dict]:
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    assert repo["repo"] == "local"
    return {hook["id"]: hook for hook in repo["hooks"]}


@pytest.mark.parametrize("hook", hooks().values(), ids=hooks())
def test_the_command_of_each_hook_exists(hook: dict) -> None:
    python, *options = hook["entry"].split()
    assert python == "python" and hook["language"] == "system"
    done = subprocess.run([sys.executable, *options, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "Usage" in done.stdout.title(), done.stderr


def test_continuous_integration_runs_the_same_tools() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    tools = {" ".join(hook["entry"].split()[2:4]) for hook in hooks().values()}
    assert tools == {"ruff check", "ruff format", "mypy"}
    for tool in tools:
        assert f"\n.venv/bin/{tool}" in script
