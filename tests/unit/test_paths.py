"""Paths that no system takes, and configs that are made to break their reader: always an error of the library."""

import os
from pathlib import Path

import pytest
import torch

from dicetalk.audio.speech import load_speech
from dicetalk.checkpoints.doctor import inspect_model
from dicetalk.checkpoints.load import load_model
from dicetalk.checkpoints.packed import read_packed
from dicetalk.checkpoints.read import read_tensors
from dicetalk.checkpoints.single import load_embedder, load_expression_reader
from dicetalk.cli import main
from dicetalk.drawn.evaluate.judge_training import load_judges
from dicetalk.emotion.files import SavedEmotion, import_npy, load_emotion, read_track, save_emotion
from dicetalk.emotion.parse import read_emotion
from dicetalk.emotion.prior import PRIOR_DIM, EmotionPrior, load_prior, read_prior_npy, save_prior
from dicetalk.emotion.recognise.description import read_description
from dicetalk.emotion.recognise.recogniser import load_recogniser
from dicetalk.emotion.reference.clip import open_reference
from dicetalk.emotion.voice.classes import load_voice_classifier
from dicetalk.errors import DiceTalkError, SettingError
from dicetalk.paths import MAX_SHOWN, checked_path
from dicetalk.portrait.read import read_picture
from dicetalk.portrait.torchscript import load_torchscript
from dicetalk.train.checkpoint import load_newest
from dicetalk.train.config import LoopConfig, read_config
from dicetalk.train.curves import Curves
from dicetalk.train.prepare.datasets import find_videos
from dicetalk.train.shards import ShardWriter, list_clips, list_prepared

PRIOR = EmotionPrior(torch.zeros(PRIOR_DIM))
READERS = {
    "speech": load_speech,
    "picture": read_picture,
    "reference": open_reference,
    "emotion": lambda path: load_emotion(path, None),
    "npy": lambda path: import_npy(path, "space"),
    "released prior": read_prior_npy,
    "prior": load_prior,
    "given": lambda path: read_emotion(path, {}, lambda: None),
    "track": lambda path: read_track(path, {}),
    "model": load_model,
    "svd": lambda path: load_model("tiny", svd=path),
    "doctor": inspect_model,
    "tensors": read_tensors,
    "packed": read_packed,
    "embedder": load_embedder,
    "expression reader": load_expression_reader,
    "judges": load_judges,
    "detector": load_torchscript,
    "recogniser": load_recogniser,
    "description": read_description,
    "voice classifier": load_voice_classifier,
    "config": lambda path: read_config(path, LoopConfig),
    "data set": find_videos,
    "clips": list_clips,
    "prepared clips": list_prepared,
    "checkpoints": load_newest,
}
WRITERS = {
    "emotion": lambda path: save_emotion(SavedEmotion(PRIOR, "space"), path.with_suffix(".safetensors")),
    "prior": lambda path: save_prior(PRIOR, path),
    "shards": ShardWriter,
    "curves": Curves,
}
NO_NAMES = {"zero byte": "a\0b", "long": "x" * 300, "four-byte letters": "😀" * 64, "surrogate": "\ud800"}


@pytest.mark.parametrize("name", NO_NAMES.values(), ids=NO_NAMES)
@pytest.mark.parametrize(
    "use", [*READERS.values(), *WRITERS.values()], ids=[*READERS, *(f"write {name}" for name in WRITERS)]
)
def test_a_path_that_no_system_takes(use, name: str, tmp_path: Path) -> None:
    with pytest.raises(DiceTalkError) as caught:
        use(tmp_path / f"{name}.json")
    assert len(str(caught.value)) < MAX_SHOWN + 300 and "\0" not in str(caught.value)


@pytest.mark.parametrize(
    "use", [*READERS.values(), *WRITERS.values()], ids=[*READERS, *(f"write {n}" for n in WRITERS)]
)
def test_a_path_longer_than_any_may_be(use, tmp_path: Path) -> None:
    with pytest.raises(DiceTalkError) as caught:
        use(tmp_path.joinpath(*["folder"] * 1000, "a.json"))
    assert len(str(caught.value)) < MAX_SHOWN + 300


def test_a_folder_whose_files_have_too_long_paths_holds_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder's own path is allowed, those of the files in it are not."""
    folder = tmp_path
    monkeypatch.chdir(folder)  # made step by step, as only relative paths reach it
    while len(str(folder)) < 4060:
        name = "d" * min(200, 4085 - len(str(folder)))
        os.mkdir(name)
        os.chdir(name)
        folder = folder / name
    os.chdir("/")
    assert folder.is_dir()
    for use in (load_model, inspect_model, lambda path: load_model("tiny", svd=path)):
        with pytest.raises(DiceTalkError, match="cannot be used as a path"):
            use(folder)


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
