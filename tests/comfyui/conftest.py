"""A real ComfyUI for all tests here; they are skipped where there is none."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfyui.media import write_reference, write_restorer, write_upscaler
from comfyui.server import ROOT, Server, find_comfyui, interpreter
from small_models import write_small_model, write_small_sonic


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """Where ComfyUI is."""
    found = find_comfyui()
    if found is None:
        pytest.skip("no ComfyUI: set COMFYUI_PATH, or put one with its own .venv beside the project as comfyui")
    return found


@pytest.fixture(scope="session")
def base(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base directory with three small random models and what the shipped workflows want."""
    folder = tmp_path_factory.mktemp("comfyui")
    models, given = folder / "models", folder / "input"
    write_small_model(models / "dice_talk")
    write_small_model(models / "dice_talk" / "second")
    write_small_sonic(models / "dice_talk" / "Sonic")
    given.mkdir()
    for name in ("portrait.jpg", "speech.wav"):
        shutil.copy(ROOT / "examples" / name, given / name)
    write_reference(given / "portrait.jpg", given / "speech.wav", given / "dicetalk_reference.mp4")
    write_upscaler(models / "upscale_models" / "RealESRGAN_x4plus.safetensors")
    write_restorer(interpreter(comfyui), models / "upscale_models" / "GFPGANv1.4.pth")
    return folder


@pytest.fixture(scope="session")
def server(comfyui: Path, base: Path) -> Iterator[Server]:
    """A running server."""
    with Server(comfyui, base) as running:
        yield running


@pytest.fixture(scope="session")
def object_info(server: Server) -> dict[str, Any]:
    """What it says about its nodes."""
    return server.get("/object_info")
