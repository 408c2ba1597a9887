"""What is written takes its place whole or not at all."""

from pathlib import Path

import pytest

from dicetalk.errors import OutputError
from dicetalk.files import explained, replacing


def test_what_a_kill_leaves_is_no_model_emotion_or_video(tmp_path: Path) -> None:
    with replacing(tmp_path / "sad.safetensors") as partial:
        partial.write_bytes(b"half")
        assert sorted(path.suffix for path in tmp_path.iterdir()) == [".lock", ".part"]
        partial.write_bytes(b"whole")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("sad.safetensors", b"whole")]


@pytest.mark.parametrize("made", ["file", "folder"])
def test_what_ends_early_leaves_the_old_one(tmp_path: Path, made: str) -> None:
    target = tmp_path / "there"
    target.write_bytes(b"old")

    def stopped() -> None:
        with replacing(target) as partial:
            if made == "folder":
                partial.mkdir()
                partial /= "in it"
            partial.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("there", b"old")]


def test_only_the_systems_errors_are_explained(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="missing does not exist"), replacing(tmp_path / "missing" / "file"):
        raise AssertionError("asked for")
    with pytest.raises(OutputError, match=r"could not be written"), explained(tmp_path):
        tmp_path.write_bytes(b"")  # a folder
    with pytest.raises(ValueError, match="mine"), explained(tmp_path):
        raise ValueError("mine")
