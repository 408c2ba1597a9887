"""Every command that writes, on a disk that is read-only or full, and onto what is no place for its output."""

from pathlib import Path

import pytest
from forked_commands import command, needs_forks
from small_disks import fill_up, read_only_disk, small_disk, unfinished_in
from training_runs import reset_accelerate

from dicetalk.cli import main

FILES = ("generate", "webm", "convert", "emotion")
FOLDERS = ("pictures", "prepare", "train", "evaluate")
FILLED_BY = {"generate": "8k", "webm": "8k", "pictures": "512k", "convert": "256k", "prepare": "128k", "train": "64k"}
"""Disks that take a byte, but not the result. A saved emotion is no larger than what is tried before the work, and an
evaluation's files are written by what test_disk_faults.py tries."""

pytestmark = needs_forks  # forked_commands asks for it


@pytest.fixture(autouse=True)
def _accelerate() -> None:
    reset_accelerate()


def words_for(name: str, inputs: Path, folder: Path) -> tuple[list[str], Path]:
    if name != "evaluate":
        return command(name, inputs, folder)
    words = ["evaluate", str(inputs / "small"), "--out", str(folder / "found"), "--quick", "--device", "cpu"]
    return [*words, "--quiet"], folder / "found"


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The error that a command ends with."""
    capsys.readouterr()
    assert main(words) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("error: ") and not any("Traceback" in line for line in said)
    return said[-1]


@pytest.mark.parametrize("name", FILES + FOLDERS)
def test_read_only(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    folder = tmp_path / "disk"
    with read_only_disk(folder):
        words, target = words_for(name, inputs, folder)
        said = refused(words, capsys)
        assert str(target) in said and "No permission to write there: choose another folder" in said
        assert not list(folder.iterdir())


@pytest.mark.parametrize("name", FILES + FOLDERS)
def test_a_full_disk(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Found before the work, with an old result that stays."""
    folder = tmp_path / "disk"
    with small_disk(folder, "256k"):
        words, target = words_for(name, inputs, folder)
        if name in FILES:
            target.write_bytes(b"old")
        fill_up(folder)
        said = refused(words, capsys)
        assert str(target) in said and "free some space" in said
        assert name not in FILES or target.read_bytes() == b"old"
        assert not unfinished_in(folder)


@pytest.mark.parametrize("name", FILLED_BY)
def test_a_disk_that_becomes_full(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """What was finished before stays whole, and the command goes on from there when there is room."""
    folder = tmp_path / "disk"
    with small_disk(folder, FILLED_BY[name]):
        words, target = words_for(name, inputs, folder)
        said = refused(words, capsys)
        assert str(target) in said and ("space" in said or "full" in said)
        assert not unfinished_in(folder) and (name not in FILES or not target.exists())


@pytest.mark.parametrize("name", FILES + FOLDERS)
def test_something_else_is_there(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    words, target = words_for(name, inputs, tmp_path)
    if name in FILES:
        target.mkdir()
    else:
        target.write_bytes(b"mine")
    said = refused(words, capsys)
    there = "is a folder. Give the name of a file" if name in FILES else "is a file, and a folder shall be written"
    assert f"{target} {'exists and is not an empty folder' if name == 'pictures' else there}" in said
    assert target.is_dir() if name in FILES else target.read_bytes() == b"mine"
    assert not unfinished_in(tmp_path)


def test_a_folder_takes_the_name_of_an_evaluations_file(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, target = words_for("evaluate", inputs, tmp_path)
    (target / "table.txt").mkdir(parents=True)
    assert "table.txt is a folder. Give the name of a file" in refused(words, capsys)
