"""What a ComfyUI environment gets with the pack."""

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
TEMPLATE_FOLDERS = ("example_workflows", "example", "examples", "workflow", "workflows")
COMFYUIS_OWN = {"torch", "torchvision", "torchaudio", "numpy", "transformers", "safetensors", "einops", "av", "pillow"}


def test_requirements_move_nothing_that_comfyui_has() -> None:
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines
    for line in lines:
        name, bound = re.fullmatch(r"([A-Za-z-]+)>=([\d.]+)", line).groups()
        assert name.lower() not in COMFYUIS_OWN
        assert f'"{name}>={bound}"' in (ROOT / "pyproject.toml").read_text(), line


def test_nodes_do_not_reach_what_only_the_command_line_installs() -> None:
    source = "".join(path.read_text() for path in (ROOT / "nodes").glob("*.py"))
    used = sorted(set(re.findall(r"^from (dicetalk[\w.]*) import", source, re.MULTILINE)))
    program = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program, *used], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    # The one module that asks for librosa does so when it is used.
    assert "dicetalk.emotion.reference.extract" in loaded and "librosa" not in loaded
    askers = [path.name for path in (ROOT / "dicetalk").rglob("*.py") if "import librosa" in path.read_text()]
    assert askers == ["features.py"]


def test_the_pack_has_one_entry_and_its_web_folder(pack: ModuleType) -> None:
    assert not hasattr(pack, "NODE_CLASS_MAPPINGS")  # it would win over the entry point
    assert (ROOT / pack.WEB_DIRECTORY).is_dir()


def test_templates_are_in_the_one_folder_that_comfyui_serves() -> None:
    # ComfyUI lists the JSON files of all of these and serves those of the first that exists.
    listed = [path for name in TEMPLATE_FOLDERS for path in (ROOT / name).glob("*.json")]
    assert len(listed) == 7
    assert {path.parent.name for path in listed} == {TEMPLATE_FOLDERS[0]}
    assert all(path.with_suffix(".jpg").is_file() for path in listed)
    assert sorted(path.name for path in (ROOT / "workflows" / "api").iterdir()) == sorted(path.name for path in listed)


def test_no_file_is_a_link() -> None:
    # A clone on Windows has a small text file in the place of each.
    listed = subprocess.run(["git", "ls-files", "-s"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git clone")
    assert listed.stdout and not re.findall(r"^120000 .*", listed.stdout, re.MULTILINE)


def test_node_ids_are_literals_that_a_scanner_can_read() -> None:
    source = "".join(path.read_text() for path in (ROOT / "nodes").glob("*.py"))
    assert len(re.findall(r'node_id="DICETalk_\w+"', source)) == 12
