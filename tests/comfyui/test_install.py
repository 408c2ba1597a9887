"""What installing the pack's requirements does to ComfyUI's environment."""

import json
import subprocess
from pathlib import Path
from typing import Any

from comfyui.server import ROOT, interpreter


def pip(comfyui: Path, *arguments: str) -> Any:
    """What pip of ComfyUI's environment answers, as JSON."""
    command = [str(interpreter(comfyui)), "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_no_version_that_is_there_is_changed(comfyui: Path) -> None:
    there = {each["name"].lower().replace("_", "-") for each in pip(comfyui, "list", "--format=json")}
    requirements = str(ROOT / "requirements.txt")
    plan = pip(comfyui, "install", "--quiet", "--dry-run", "--report", "-", "-r", requirements)["install"]
    wanted = {each["metadata"]["name"].lower().replace("_", "-") for each in plan}
    assert "torch" in there and not there & wanted
