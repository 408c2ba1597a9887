"""Clips of a small random Sonic through the library's front door and the command line."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from small_models import write_small_sonic

from dicetalk import DiceTalk
from dicetalk.cli import main
from dicetalk.errors import CheckpointError, EmotionError
from dicetalk.hooks import Hooks

ROOT = Path(__file__).parents[2]
PORTRAIT, SPEECH = ROOT / "examples" / "portrait.jpg", ROOT / "examples" / "speech.wav"
HUM = 0.3 * np.sin(2 * np.pi * 180 * np.arange(9600) / 16_000).astype(np.float32), 16_000
QUICK = {"whole_picture": True, "short_side": 64, "steps": 2, "interpolate": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_sonic(tmp_path_factory.mktemp("sonic"))


@pytest.fixture(scope="module")
def notices() -> list[str]:
    return []


@pytest.fixture(scope="module")
def talk(folder: Path, notices: list[str]) -> DiceTalk:
    return DiceTalk.load(folder, device="cpu", dtype="fp32", hooks=Hooks(notice=notices.append))


def test_a_clip_needs_no_emotion(talk: DiceTalk, notices: list[str]) -> None:
    assert (talk.settings.portrait_guidance, talk.settings.expression_guidance) == (2.0, 7.5)
    notices.clear()
    plain = torch.cat(
        [torch.as_tensor(np.asarray(frame))[None] for frame in talk.generate(PORTRAIT, HUM, **QUICK).frames()]
    )
    assert len(plain) == 8 and notices == []
    # The emotion is not even read: there is nothing in the model to read it by.
    for given in ({"emotion": "happy:0.8"}, {"emotion": Path("nothing.json")}, {"intensity_from_voice": "louder"}):
        notices.clear()
        clip = talk.generate(PORTRAIT, HUM, **QUICK, **given)
        (notice,) = notices
        assert "no emotions" in notice and "load DICE-Talk" in notice
        assert all(np.array_equal(frame, other) for frame, other in zip(clip.frames(), plain, strict=True))


def test_what_is_about_emotions_is_refused(talk: DiceTalk) -> None:
    for use in (lambda: talk.emotion("happy"), lambda: talk.extract(PORTRAIT)):
        with pytest.raises(EmotionError, match=r"no emotions.*load DICE-Talk"):
            use()


def test_generate_without_an_emotion(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "clip.mp4"
    wanted = ["--models", str(folder), "--image", str(PORTRAIT), "--audio", str(SPEECH), "--out", str(out)]
    quick = ["--duration", "0.6", "--crop", "--short-side", "64", "--steps", "1", "--device", "cpu", "--dtype", "fp32"]
    assert main(["generate", *wanted, *quick, "--quiet"]) == 0
    assert "emotion" not in capsys.readouterr().err
    with av.open(str(out)) as video:
        assert sum(1 for _ in video.decode(video=0)) == 15
    assert main(["generate", *wanted, *quick, "--quiet", "--emotion", "sad"]) == 0
    assert "no emotions" in capsys.readouterr().err


def test_commands_about_emotions_name_the_model(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "happy.safetensors")
    assert main(["emotion", "mix", "happy", "--models", str(folder), "--out", out]) != 0
    assert "released Sonic, which has no emotions" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_not_taken_for_sonic(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"emo_model\.pth"):
        DiceTalk.load(tmp_path)
