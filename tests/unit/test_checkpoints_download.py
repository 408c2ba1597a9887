"""Downloading from a pretended hub: missing and damaged files, interruption, resumption, refusal."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from released_files import SMALL, write_released

from dicetalk.checkpoints import download, files
from dicetalk.checkpoints.doctor import inspect_model
from dicetalk.checkpoints.download import download_model
from dicetalk.errors import Cancelled, CheckpointError
from dicetalk.hooks import SILENT, Hooks

RANGE = 100_000
REPOS = (files.DICE_REPO, files.WHISPER_REPO, files.SVD_REPO)


class GatedRepoError(Exception):
    """The hub has a class of this name; its constructor needs an HTTP response."""


class PretendedHub:
    """What of ``HfFileSystem`` is used: listing with sizes and hashes, and reading a range."""

    def __init__(self, content: dict[str, Path]):
        self.content = content
        self.token: str | None = None
        self.reads: list[tuple[str, int, int]] = []
        self.fault: Callable[[str, int], None] = lambda path, start: None

    def __call__(self, token: str | None = None) -> "PretendedHub":
        self.token = token
        return self

    def find(self, repo: str, detail: bool, refresh: bool) -> dict[str, dict[str, Any]]:
        self.fault(repo, -1)
        listed = {path: file for path, file in self.content.items() if path.startswith(f"{repo}/")}
        return {path: {"size": file.stat().st_size, "lfs": _lfs(file)} for path, file in listed.items()}

    def open(self, path: str, mode: str, cache_type: str) -> "PretendedFile":
        assert (mode, cache_type) == ("rb", "none")
        return PretendedFile(self, path)


class PretendedFile:
    def __init__(self, hub: PretendedHub, path: str):
        self.hub, self.path, self.place = hub, path, 0

    def __enter__(self) -> "PretendedFile":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def seek(self, place: int) -> None:
        self.place = place

    def read(self, length: int) -> bytes:
        self.hub.fault(self.path, self.place)
        self.hub.reads.append((self.path, self.place, length))
        return self.hub.content[self.path].read_bytes()[self.place : self.place + length]


def _lfs(file: Path) -> dict[str, str] | None:
    """Only large files are in LFS."""
    return {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()} if file.stat().st_size > 10_000 else None


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("released")
    write_released(folder)
    return folder


@pytest.fixture
def hub(released: Path, monkeypatch: pytest.MonkeyPatch) -> PretendedHub:
    content = {}
    for path in (p for p in released.rglob("*") if p.is_file()):
        name = path.relative_to(released).as_posix()
        if name.startswith("whisper-tiny"):
            content[f"openai/{name}"] = path
        elif name.startswith(files.SVD_FOLDER):
            content[f"stabilityai/{name}"] = path
        elif name.endswith(".pth"):
            content[f"{files.DICE_REPO}/DICE-Talk/{name}"] = path
        else:
            content[f"{files.DICE_REPO}/{name}"] = path
    hub = PretendedHub(content)
    monkeypatch.setattr(huggingface_hub, "HfFileSystem", hub)
    monkeypatch.setattr(download, "RANGE_BYTES", RANGE)
    return hub


def fetch(folder: Path, hooks: Hooks = SILENT, token: str | None = None) -> None:
    download_model(folder, hooks, token, config=SMALL)


def relative_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_an_empty_folder_becomes_a_complete_model(hub: PretendedHub, released: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    published = [file for file in files.MODEL_FILES if file is not files.DETECTOR]
    hooks = Hooks(progress=lambda stage, done, total, preview: seen.append((stage, done, total)))
    fetch(tmp_path / "new" / "models", hooks, token="hf_x")
    assert hub.token == "hf_x"
    assert inspect_model(tmp_path / "new" / "models", config=SMALL).complete
    for file in files.MODEL_FILES:
        if file is not files.DETECTOR:
            assert (tmp_path / "new" / "models" / file.name).read_bytes() == (released / file.name).read_bytes()
    assert relative_files(tmp_path / "new" / "models") == {f.name for f in published}
    total = sum((released / f.name).stat().st_size for f in published) // 1_000_000
    assert {(stage, of) for stage, _, of in seen} == {("download", total)}
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[-1][1] == total
    assert max(length for _, _, length in hub.reads) == RANGE


def test_a_complete_model_is_left_alone(hub: PretendedHub, released: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(released, tmp_path / "models")
    fetch(folder)
    assert hub.reads == []


def test_only_what_is_missing_or_damaged_is_fetched(hub: PretendedHub, released: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(released, tmp_path / "models")
    (folder / "emo_model.pth").unlink()
    (folder / "pose_guider.pth").write_text("<html>")
    (folder / "yoloface_v5m.pt").write_bytes(b"")
    hub.content[f"{files.DICE_REPO}/yoloface_v5m.pt"] = released / "unet.pth"  # any archive
    fetch(folder)
    assert {path.rpartition("/")[2] for path, _, _ in hub.reads} == {
        "emo_model.pth",
        "pose_guider.pth",
        "yoloface_v5m.pt",
    }
    assert inspect_model(folder, config=SMALL).complete
    assert (folder / "pose_guider.pth.damaged").read_text() == "<html>"


def test_a_damaged_file_elsewhere_in_the_folder_does_not_hide_the_new_one(
    hub: PretendedHub, released: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(released, tmp_path / "models")
    (folder / "DICE-Talk").mkdir()
    (folder / "unet.pth").unlink()
    (folder / "DICE-Talk" / "unet.pth").write_bytes(b"")
    fetch(folder)
    assert inspect_model(folder, config=SMALL).complete


def broken_after(reads: int, error: Callable[[], BaseException]) -> Callable[[str, int], None]:
    left: Iterator[int] = iter(range(reads))

    def fault(path: str, start: int) -> None:
        if start >= 0 and next(left, None) is None:
            raise error()

    return fault


def test_a_broken_download_goes_on_where_it_stopped(hub: PretendedHub, released: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(released, tmp_path / "models")
    (folder / "unet.pth").unlink()
    hub.fault = broken_after(5, lambda: ConnectionError("reset by peer"))
    with pytest.raises(
        CheckpointError, match=r"reset by peer\. Check the network and run it again; what was fetched is kept"
    ):
        fetch(folder)
    assert not (folder / "unet.pth").exists()
    assert [p.stat().st_size for p in folder.glob(".unet.pth.*.part")] == [5 * RANGE]
    hub.fault = lambda path, start: None
    hub.reads.clear()
    fetch(folder)
    assert hub.reads[0][1] == 5 * RANGE
    assert (folder / "unet.pth").read_bytes() == (released / "unet.pth").read_bytes()
    assert not list(folder.glob(".*.part"))


@pytest.mark.parametrize("how", ["hook", "ctrl-c"])
def test_stopping_keeps_what_was_fetched(hub: PretendedHub, tmp_path: Path, how: str) -> None:
    asked = iter(range(100))
    hooks = Hooks(cancelled=lambda: how == "hook" and next(asked) == 3)
    if how == "ctrl-c":
        hub.fault = broken_after(3, KeyboardInterrupt)
    with pytest.raises(Cancelled if how == "hook" else KeyboardInterrupt):
        fetch(tmp_path, hooks)
    assert [(p.name.startswith(".unet.pth."), p.stat().st_size) for p in tmp_path.iterdir()] == [(True, 3 * RANGE)]


def test_a_new_version_on_the_hub_is_not_joined_with_the_old(hub: PretendedHub, released: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(released, tmp_path / "models")
    (folder / "unet.pth").unlink()
    (folder / ".unet.pth.0123456789ab.part").write_bytes(b"\0" * RANGE)
    fetch(folder)
    assert hub.reads[0][1] == 0
    assert inspect_model(folder, config=SMALL).complete


def test_a_download_with_other_content_is_thrown_away(hub: PretendedHub, released: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(released, tmp_path / "models")
    (folder / "unet.pth").unlink()
    sha = hashlib.sha256((released / "unet.pth").read_bytes()).hexdigest()
    (folder / f".unet.pth.{sha[:12]}.part").write_bytes(b"\0" * RANGE)
    with pytest.raises(CheckpointError, match="not what the hub announced"):
        fetch(folder)
    assert not list(folder.glob("*unet*"))
    assert not list(folder.glob(".*.part"))


def test_a_gated_repository_says_how_to_get_in_and_the_rest_is_fetched(hub: PretendedHub, tmp_path: Path) -> None:
    def fault(path: str, start: int) -> None:
        if start >= 0 and path.startswith(files.SVD_REPO):
            raise FileNotFoundError(path) from GatedRepoError("401")

    hub.fault = fault
    with pytest.raises(CheckpointError) as caught:
        fetch(tmp_path)
    for word in (f"https://huggingface.co/{files.SVD_REPO}", "licence", "--token", "svd_xt.safetensors"):
        assert word in str(caught.value)
    missing = [r.file for r in inspect_model(tmp_path, config=SMALL).files if r.state != "found"]
    assert missing == [files.VAE, files.IMAGE_ENCODER, files.DETECTOR]


def test_without_a_network_every_repository_is_named(hub: PretendedHub, tmp_path: Path) -> None:
    def fault(path: str, start: int) -> None:
        raise RuntimeError("nobody there\nand much more text")

    hub.fault = fault
    with pytest.raises(CheckpointError) as caught:
        fetch(tmp_path)
    for repo in REPOS:
        assert f"{repo}: nobody there. Check the network" in str(caught.value)
    assert "much more" not in str(caught.value)


def test_what_the_hub_does_not_have_is_named_with_its_other_source(hub: PretendedHub, tmp_path: Path) -> None:
    for path in [path for path in hub.content if path.endswith(".npy")]:
        del hub.content[path]
    with pytest.raises(CheckpointError, match=r"emotion/neutral\.npy, .*: not in EEEELY/DICE-Talk; .* on GitHub"):
        fetch(tmp_path)
    missing = {r.file for r in inspect_model(tmp_path, config=SMALL).files if r.state != "found"}
    assert missing == {*files.PRIORS.values(), files.DETECTOR}


def test_too_little_space_is_said_before_anything_is_fetched(
    hub: PretendedHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(CheckpointError, match=r"GB are to be fetched and 0\.0 GB are free"):
        fetch(tmp_path)
    assert hub.reads == []


def test_a_disk_that_fills_up_is_named(hub: PretendedHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Any, target: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download.os, "replace", full)
    with pytest.raises(
        CheckpointError, match=r"cannot be written \(No space left on device\)\. What was fetched is kept"
    ):
        fetch(tmp_path)


def test_a_damaged_converted_file_is_named(hub: PretendedHub, released: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(released, tmp_path / "models")
    (folder / "dicetalk-fp16.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"dicetalk-fp16\.safetensors is damaged; delete it"):
        fetch(folder)


def test_a_folder_that_is_a_file_is_named(hub: PretendedHub, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("")
    with pytest.raises(CheckpointError, match="models cannot be used"):
        fetch(tmp_path / "models")
