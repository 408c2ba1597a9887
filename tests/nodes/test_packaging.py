"""What a ComfyUI environment gets with the pack."""

import re
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
COMFYUIS_OWN = {"torch", "torchvision", "torchaudio", "numpy", "transformers", "safetensors", "einops", "av", "pillow"}


def test_requirements_move_nothing_that_comfyui_has() -> None:
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines
    for line in lines:
        name, bound = re.fullmatch(r"([A-Za-z-]+)>=([\d.]+)", line).groups()
        assert name.lower() not in COMFYUIS_OWN
        assert f'"{name}>={bound}"' in (ROOT / "pyproject.toml").read_text(), line


def test_the_pack_has_one_entry_and_its_web_folder(pack: ModuleType) -> None:
    assert not hasattr(pack, "NODE_CLASS_MAPPINGS")  # it would win over the entry point
    assert (ROOT / pack.WEB_DIRECTORY).is_dir()


def test_only_workflows_look_like_workflows() -> None:
    assert not list((ROOT / "examples").rglob("*.json"))
    assert len(list((ROOT / "workflows").glob("*.json"))) == 6


def test_node_ids_are_literals_that_a_scanner_can_read() -> None:
    source = "".join(path.read_text() for path in (ROOT / "nodes").glob("*.py"))
    assert len(re.findall(r'node_id="DICETalk_\w+"', source)) == 11
