"""No command writes over what it reads, and it says so before any work."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dicetalk.cli import main
from dicetalk.errors import OutputError
from dicetalk.files import check_file_target, check_no_input

LINKS: dict[str, Callable[[Path, Path], object]] = {
    "itself": lambda source, target: None,
    "symlink": lambda source, target: target.symlink_to(source),
    "hard link": lambda source, target: os.link(source, target),
    "way around": lambda source, target: target.parent.symlink_to(source.parent, target_is_directory=True),
}

COMMANDS = {
    "generate --image": ("generate --image {0} --audio other.wav --out {1}", ".mp4"),
    "generate --audio": ("generate --image other.png --audio {0} --out {1}", ".mp4"),
    "generate --image, WebM": ("generate --image {0} --audio other.wav --out {1}", ".webm"),
    "generate --audio, with alpha": (
        "generate --image other.png --crop --paste-back --alpha --audio {0} --out {1}",
        ".webm",
    ),
    "generate --emotion-track": ("generate --image a.png --audio a.wav --emotion-track {0} --out {1}", ".mp4"),
    "generate --emotion": ("generate --image a.png --audio a.wav --emotion {0} --out {1}", ".mp4"),
    "generate --svd": ("generate --image a.png --audio a.wav --svd {0} --out {1}", ".mp4"),
    "emotion mix": ("emotion mix {0} sad --out {1}", ".safetensors"),
    "emotion mix with a weight": ("emotion mix sad 0.5*{0} --out {1}", ".safetensors"),
    "emotion mix --audio": ("emotion mix sad --audio {0} --out {1}", ".safetensors"),
    "emotion voice": ("emotion voice {0} --emotion sad --out {1}", ".safetensors"),
    "emotion voice --emotion": ("emotion voice a.wav --emotion {0} --out {1}", ".safetensors"),
    "emotion voice --speaker": (
        "emotion voice a.wav --emotion x --speaker b.wav --speaker {0} --out {1}",
        ".safetensors",
    ),
    "emotion text": ("emotion text {0} --out {1}", ".safetensors"),
    "emotion extract": ("emotion extract {0} --out {1}", ".safetensors"),
    "emotion extract --recogniser": ("emotion extract a.mp4 --recogniser {0} --out {1}", ".safetensors"),
    "convert": ("convert {0} {1}", ".safetensors"),
}


def fill(command: str, source: Path, target: Path) -> list[str]:
    return [word.replace("{0}", str(source)).replace("{1}", str(target)) for word in command.split(" ")]


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_is_read_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, link: str
) -> None:
    words, suffix = COMMANDS[command]
    source = tmp_path / f"mine{suffix}"
    source.write_bytes(b"precious")  # nothing that could be read: the refusal comes first
    target = {"itself": source, "way around": tmp_path / "way" / source.name}.get(link, tmp_path / f"link{suffix}")
    LINKS[link](source, target)
    assert main(fill(words, source, target)) == 1
    message = capsys.readouterr().err
    assert (
        message.count("\n") == 1 and f"error: {target} is the input {source}" in message and "another name" in message
    )
    assert source.read_bytes() == b"precious"


@pytest.mark.parametrize(
    "command",
    [
        "prepare {0} {1}",
        "evaluate {0} --out {1}",
        "evaluate tiny --against {0} --out {1}",
        "emotion show happy --models {0} --out {1}",
    ],
)
def test_a_folder_that_is_read_is_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    source, link = tmp_path / "data", tmp_path / "link"
    source.mkdir()
    (source / "here").write_bytes(b"precious")
    link.symlink_to(source, target_is_directory=True)
    assert main(fill(command, source, link)) == 1
    assert f"error: {link} is the " in capsys.readouterr().err
    assert [path.name for path in source.iterdir()] == ["here"]


@pytest.mark.parametrize("entry", ["data", "models", "embedder"])
def test_a_training_does_not_write_where_it_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], entry: str
) -> None:
    entries = {name: tmp_path / name for name in ("data", "models", "embedder", "out")}
    for path in entries.values():
        path.mkdir()
    entries["out"] = entries[entry]
    config = tmp_path / "config.yaml"
    config.write_text("".join(f"{name}: {path}\n" for name, path in entries.items()))
    assert main(["train", "diffusion", "--config", str(config)]) == 1
    assert f"is the entry '{entry}' at the same time" in capsys.readouterr().err
    assert not list(entries[entry].iterdir())


def test_a_preset_of_the_model_is_not_written(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.link(folder / "emotion" / "happy.npy", tmp_path / "linked.safetensors")
    before = (folder / "emotion" / "happy.npy").read_bytes()
    assert main(["emotion", "mix", "sad", "--models", str(folder), "--out", str(tmp_path / "linked.safetensors")]) == 1
    assert "is emotion prior 'happy' of the model at the same time" in capsys.readouterr().err
    assert (folder / "emotion" / "happy.npy").read_bytes() == before


def test_what_is_not_there_yet_is_no_input(tmp_path: Path) -> None:
    check_no_input(tmp_path / "new", {"new": tmp_path / "new", "none": None, "no name": tmp_path / "a\0b"})
    (tmp_path / "old").write_bytes(b"")
    check_no_input(tmp_path / "new", {"old": tmp_path / "old"})


@pytest.mark.parametrize(
    ("name", "message"), [("x" * 300 + ".mp4", "too long"), ("a\0b.mp4", "null"), ("a\ud800.mp4", "surrogates")]
)
def test_a_name_that_no_file_can_have_is_found_before_the_work(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(OutputError, match=message):
        check_file_target(tmp_path / name)
