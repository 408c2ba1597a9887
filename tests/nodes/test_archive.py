"""The archive that ``comfy node pack`` makes for the registry, and what the registry reads about the pack.

Its rule: the files that git tracks, but for those that ``.comfyignore`` names in git's own syntax for such files.
"""

import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
MAX_BYTES = 25_000_000
TINY = "dicetalk/assets/tiny"
REPOSITORY = "https://github.com/dicetalk/ComfyUI-DICETalk"


def git(*arguments: str, folder: Path = ROOT) -> list[str]:
    """Paths that git lists."""
    done = subprocess.run(["git", *arguments, "-z"], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git clone")
    return [name for name in done.stdout.split("\0") if name]


def curves() -> set[str]:
    """The record of the bundled model's training."""
    return set(git("ls-files", f"{TINY}/curves"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The archive, made by the rule of comfy-cli."""
    folder = tmp_path_factory.mktemp("pack")
    tracked = [name for name in git("ls-files") if (ROOT / name).is_file()]
    ignored = set(git("ls-files", "--cached", "--ignored", "--exclude-from=.comfyignore"))
    path = folder / "node.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name in tracked:
            if name not in ignored:
                out.write(ROOT / name, name)
    return zipfile.ZipFile(path)


def test_the_archive_is_small_and_holds_what_comfyui_reads(archive: zipfile.ZipFile) -> None:
    assert Path(archive.filename).stat().st_size <= MAX_BYTES
    names = set(archive.namelist())
    read = ("__init__.py", "dicetalk", "nodes", "web", "locales", "example_workflows", "workflows")
    left_out = {name for name in git("ls-files", *read) if name not in names}
    assert left_out == {f"{TINY}/{name}.safetensors" for name in ("embedder", "expression_reader")} | curves()
    assert any(name.startswith("locales/ja/") for name in names) and "web/dicetalk.js" in names
    assert {f"example_workflows/quickstart.{kind}" for kind in ("json", "jpg")} <= names
    assert {"pyproject.toml", "requirements.txt", "README.md", "LICENSE"} <= names
    assert {f"examples/{name}" for name in ("portrait.jpg", "speech.wav", "reference.mp4", "CREDITS.md")} <= names
    assert not [name for name in names if name.split("/")[0] in ("tests", ".ci", "models", "out")]
    assert not [name for name in names if name.endswith((".pyc", ".pth", ".zip")) or "egg-info" in name]


def test_comfy_cli_packs_the_same(archive: zipfile.ZipFile, tmp_path: Path) -> None:
    comfy = shutil.which("comfy")
    if comfy is None:
        pytest.skip("no comfy-cli")
    clone = tmp_path / "pack"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    command = [comfy, "--skip-prompt", "node", "pack"]
    subprocess.run(command, cwd=clone, check=True, capture_output=True, timeout=300)
    with zipfile.ZipFile(clone / "node.zip") as packed:
        assert Path(packed.filename).stat().st_size <= MAX_BYTES
        assert set(packed.namelist()) == set(archive.namelist())


def test_the_registry_finds_repository_icon_and_banner() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    fields = dict(re.findall(r'^(Repository|Icon|Banner) = "(.*)"$', text, re.MULTILINE))
    assert fields["Repository"] == REPOSITORY
    raw = REPOSITORY.replace("github.com", "raw.githubusercontent.com") + "/main/"
    icon, banner = (Image.open(ROOT / fields[name].removeprefix(raw)) for name in ("Icon", "Banner"))
    assert icon.format == banner.format == "PNG"
    # The registry's bounds: an icon of at most 800 x 400, a banner of 21:9.
    assert icon.width == icon.height <= 400
    assert banner.width * 9 == banner.height * 21
