"""Paths that no system takes, and configs that are made to break their reader: always an error of the library."""

from pathlib import Path

import pytest

from dicetalk.audio.speech import load_speech
from dicetalk.checkpoints.load import load_model
from dicetalk.cli import main
from dicetalk.emotion.given import given_file
from dicetalk.emotion.reference import open_reference
from dicetalk.emotion.saved import import_npy, load_emotion
from dicetalk.errors import DiceTalkError, SettingError
from dicetalk.paths import MAX_SHOWN, checked_path
from dicetalk.portrait.read import read_picture
from dicetalk.train.config import LoopConfig, read_config

READERS = {
    "speech": load_speech,
    "picture": read_picture,
    "reference": open_reference,
    "emotion": lambda path: load_emotion(path, None),
    "npy": lambda path: import_npy(path, "space"),
    "given": lambda path: given_file(path, {}, lambda: None),
    "model": load_model,
    "svd": lambda path: load_model("tiny", svd=path),
    "config": lambda path: read_config(path, LoopConfig),
}


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "\ud800"], ids=["zero byte", "long", "surrogate"])
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_path_that_no_system_takes(read, name: str, tmp_path: Path) -> None:
    with pytest.raises(DiceTalkError) as caught:
        read(tmp_path / f"{name}.json")
    assert len(str(caught.value)) < MAX_SHOWN + 300 and "\0" not in str(caught.value)


def test_an_ordinary_path_is_left_alone(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "not there", Path("relative.txt")):
        assert checked_path(path) == path


def test_the_command_line_checks_every_path(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    long = str(tmp_path / ("x" * 300))
    files = ["--image", "a.png", "--audio", "a.wav", "--out", "a.mp4"]
    for position in (1, 3, 5):
        given = [*files[:position], long, *files[position + 1 :]]
        assert main(["generate", *given, "--models", "tiny"]) == 1
        assert "cannot be used as a path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 20_000, "nested too deep"),
        ("seed: " + "{a: " * 20_000, "nested too deep"),
        ("a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]", r"line 2 has the alias \*a"),
        ("base: &base {seed: 1}\n<<: *base\n", r"line 2 has the alias \*base"),
        ("seed: 1\nseed: 2", "'seed' is given twice"),
        ("? [1, 2]\n: 3", "no valid YAML"),
        ("x" * (1 << 21), "larger than 1 MB"),
    ],
    ids=["list", "table", "alias", "merge", "twice", "list as key", "large"],
)
def test_a_config_that_is_made_to_break_its_reader(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(SettingError, match=message):
        read_config(path, LoopConfig)
