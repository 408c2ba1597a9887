"""Weights that the manager leaves in main memory are used from there."""

import json
import subprocess
from pathlib import Path

import pytest
from comfyui.server import ROOT, interpreter

PROGRAM = Path(__file__).parent / "little_memory.py"


@pytest.mark.parametrize("state", ["NO_VRAM", "LOW_VRAM"])
def test_the_clip_is_the_same_with_the_weights_left_behind(comfyui: Path, base: Path, state: str) -> None:
    models = base / "models" / "dice_talk" / "dicetalk.safetensors"
    command = [interpreter(comfyui), PROGRAM, comfyui, ROOT, models, state]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["left"] > found["layers"] / 2
    assert found["difference"] < 1e-4
