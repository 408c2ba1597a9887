"""Clips of a small random Sonic through the library's front door and the command line."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from small_models import write_small_sonic

from dicetalk import DiceTalk
from dicetalk.cli import main
from dicetalk.emotion.prior import PRIOR_DIM, EmotionPrior
from dicetalk.emotion.track import EmotionTrack, Keyframe
from dicetalk.errors import Cancelled, CheckpointError, EmotionError, SpeechError
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


def test_a_long_clip_is_pasted_back_and_leaves_a_track_out(talk: DiceTalk, notices: list[str]) -> None:
    """Three windows of 25 frames in a ring, of which the last goes on with the clip's beginning."""
    sad = EmotionPrior(torch.ones(PRIOR_DIM), name="sad")
    track = EmotionTrack((Keyframe(0.0, sad), Keyframe(2.0, EmotionPrior(torch.zeros(PRIOR_DIM)))))
    speech = np.tile(HUM[0], 9)[: 5 * 16_000], HUM[1]
    notices.clear()
    clip = talk.generate(PORTRAIT, speech, track, crop=True, paste_back=True, short_side=64, steps=1)
    assert [("no emotions" in notice, "not used" in notice) for notice in notices] == [(True, True)]
    with Image.open(PORTRAIT) as picture:
        still = np.asarray(picture.convert("RGB"))
    changed, frames = np.zeros(still.shape[:2], bool), 0
    for frame in clip.frames():
        assert frame.shape == still.shape
        changed |= (frame != still).any(axis=2)
        frames += 1
    assert frames == 125 and clip.fps == 25
    assert changed.any() and not changed.all(), "pasted into the picture, which stays elsewhere"


def test_a_preview_at_every_step_and_cancel_before_the_next_call(talk: DiceTalk) -> None:
    seen: list[torch.Tensor] = []

    def progress(stage: str, done: int, total: int, preview: torch.Tensor | None = None) -> None:
        if stage == "sample" and preview is not None:
            seen.append(preview)

    watched = DiceTalk(talk.model, talk.residency, Hooks(progress=progress))
    watched.generate(PORTRAIT, HUM, **QUICK)
    assert len(seen) == QUICK["steps"] and seen[0].shape == (7, 4, 8, 8)
    calls = []
    handle = talk.model.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    stopped = DiceTalk(talk.model, talk.residency, Hooks(cancelled=lambda: len(calls) >= 3))
    try:
        with pytest.raises(Cancelled):
            stopped.generate(PORTRAIT, HUM, **QUICK | {"steps": 100})
    finally:
        handle.remove()
    assert len(calls) == 3


def test_the_shortest_speech(talk: DiceTalk) -> None:
    """The released program fails on 0.4 s; a frame more of 40 ms is enough."""
    with pytest.raises(SpeechError, match=r"0\.40 s long.*0\.44 s or more.*pad_end"):
        talk.generate(PORTRAIT, (HUM[0][:6400], HUM[1]), **QUICK)
    assert len(list(talk.generate(PORTRAIT, (HUM[0][:7040], HUM[1]), **QUICK).frames())) == 6


def test_commands_about_emotions_name_the_model(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "happy.safetensors")
    assert main(["emotion", "mix", "happy", "--models", str(folder), "--out", out]) != 0
    assert "released Sonic, which has no emotions" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_not_taken_for_sonic(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"emo_model\.pth"):
        DiceTalk.load(tmp_path)
