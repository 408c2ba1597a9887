"""The first minute on the command line: help, version, typing errors, what is not installed, small faces."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dicetalk
from dicetalk.cli import main
from dicetalk.emotion.parse import parse_emotion
from dicetalk.emotion.prior import PRESET_NAMES, PRIOR_DIM, EmotionPrior
from dicetalk.errors import EmotionError
from dicetalk.portrait.notices import small_face_notice
from dicetalk.portrait.prepare import prepare_portrait

EXAMPLES = Path(__file__).parents[2] / "examples"
PRIORS = {name: EmotionPrior(torch.zeros(PRIOR_DIM), name=name) for name in PRESET_NAMES}


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "dicetalk", *arguments], capture_output=True, text=True, timeout=300)


def test_no_command_prints_the_help() -> None:
    done = run()
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.startswith("usage: dicetalk") and "generate" in done.stdout and "--version" in done.stdout


def test_version() -> None:
    done = run("--version")
    assert done.returncode == 0 and done.stdout.strip() == f"dicetalk {dicetalk.__version__}"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("hapy", "happy"),
        ("suprised:0.5", "surprised"),
        ("a little anoyed", "annoyed"),
        ("[contemt] Hello.", "contempt"),
    ],
)
def test_nearest_word_is_suggested(given: str, meant: str) -> None:
    with pytest.raises(EmotionError, match=rf"Did you mean '{meant}'\?"):
        parse_emotion(given, PRIORS, lambda: None)


def test_nothing_is_suggested_for_a_word_like_none() -> None:
    with pytest.raises(EmotionError) as raised:
        parse_emotion("xylophone", PRIORS, lambda: None)
    assert "Did you mean" not in str(raised.value)


@pytest.mark.parametrize(("module", "package"), [("matplotlib", "matplotlib"), ("sklearn", "scikit-learn")])
def test_pictures_that_cannot_be_drawn_are_refused_before_the_work(
    module: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(
        "dicetalk.emotion.show.figure.find_spec", lambda name: None if name == module else "it is there"
    )
    assert main(["emotion", "show", "happy", "--models", "tiny", "--out", str(tmp_path / "pictures")]) == 1
    output = capsys.readouterr()
    assert not output.out and f"{package}: pip install 'dicetalk[plots]'" in output.err
    assert not (tmp_path / "pictures").exists()


def test_training_without_accelerate_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("dicetalk.cli.train.find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "tiny", "--config", str(EXAMPLES / "train-tiny.yaml")]) == 1
    assert "dicetalk[train]" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_small_face_is_reported_with_its_size_before_and_after_a_crop() -> None:
    picture = np.full((600, 800, 3), 90, np.uint8)
    small = prepare_portrait(picture, box=(100, 100, 30, 45), short_side=512)
    notice = small_face_notice(small, "--crop --paste-back")
    assert notice is not None and "--crop --paste-back" in notice
    assert "26 x 38 of the 704 x 512" in notice
    height, width = (small.mask[0] > 0.5).any(1).sum(), (small.mask[0] > 0.5).any(0).sum()
    assert (width, height) == pytest.approx((26 * 1.1, 38 * 1.1), abs=4), "the size is that of the mask"
    cropped = prepare_portrait(picture, box=(100, 100, 30, 45), short_side=512, crop=True)
    assert small_face_notice(cropped, "") is None
    assert small_face_notice(prepare_portrait(picture, box=(200, 100, 300, 400)), "") is None
    assert small_face_notice(prepare_portrait(picture, whole_picture=True), "") is None


def test_generate_reports_a_small_face_and_what_the_bundled_model_means(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    # The example portrait, small in a larger picture: a photograph as people have it.
    canvas = Image.new("RGB", (1280, 960), "#8090a0")
    canvas.paste(Image.open(EXAMPLES / "portrait.jpg").resize((200, 200)), (500, 300))
    canvas.save(tmp_path / "office.jpg")
    files = ["--image", str(tmp_path / "office.jpg"), "--audio", str(EXAMPLES / "speech.wav"), "--models", "tiny"]
    quick = ["--duration", "0.4", "--steps", "1", "--device", "cpu", "--quiet", "--no-interpolation"]
    assert main(["generate", *files, "--out", str(tmp_path / "a.mp4"), *quick]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert any("The face has" in line and "--crop --paste-back" in line for line in lines)
    assert "bundled model" in lines[-1] and "drawn faces" in lines[-1]
    out = str(tmp_path / "b.mp4")
    assert main(["generate", *files, "--out", out, *quick, "--crop", "--paste-back"]) == 0
    assert "The face has" not in capsys.readouterr().err
