"""Frame rates and alpha of clips and of ``dicetalk generate``, as the ffmpeg program reads the files."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from small_models import write_small_model

from dicetalk import DiceTalk
from dicetalk.cli import main
from dicetalk.errors import SettingError
from dicetalk.hooks import Hooks
from dicetalk.portrait.paste import paste_mask
from dicetalk.talking_clip import TalkingClip

pytestmark = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="the program ffmpeg is not installed")

ROOT = Path(__file__).parents[2]
PORTRAIT = ROOT / "examples" / "portrait.jpg"
QUICK = {"steps": 1, "short_side": 64, "box": (150, 100, 220, 260)}
SECONDS = 0.9


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    samples, rate = soundfile.read(ROOT / "examples" / "speech.wav")
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, samples[rate // 2 :][: round(SECONDS * rate)], rate)
    return path


@pytest.fixture(scope="module")
def clip(models: Path, speech: Path) -> TalkingClip:
    talk = DiceTalk.load(models, device="cpu")
    return talk.generate(PORTRAIT, speech, crop=True, paste_back=True, **QUICK)


def at(clip: TalkingClip, fps: float | None, **changes: object) -> TalkingClip:
    """The same clip at another rate."""
    model = replace(clip.model, flownet=None) if changes.pop("without_rife", False) else clip.model
    kept = {"paste_back": clip.paste_back, "feather": clip.feather, "hooks": clip.hooks}
    return TalkingClip(model, clip.latents, clip.portrait, clip.speech, **kept | {"fps": fps} | changes)


def probed(path: Path) -> dict[str, dict]:
    command = ["ffprobe", "-v", "error", "-show_streams", "-count_frames", "-of", "json", str(path)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return {stream["codec_type"]: stream for stream in found["streams"]}


@pytest.mark.parametrize("fps", [24, 25, 30, 50, 60])
@pytest.mark.parametrize("without_rife", [False, True])
def test_a_rate_of_choice(clip: TalkingClip, tmp_path: Path, fps: int, without_rife: bool) -> None:
    notices: list[str] = []
    other = at(clip, fps, without_rife=without_rife, hooks=Hooks(notice=notices.append))
    streams = probed(other.save(tmp_path / "a.mp4"))
    pictures = streams["video"]
    assert pictures["r_frame_rate"] == f"{fps}/1" and other.fps == fps
    assert int(pictures["nb_read_frames"]) == len(other)
    assert 0 <= float(pictures["duration"]) - float(streams["audio"]["duration"]) < 1 / fps + 1e-3
    assert float(pictures["start_time"]) == float(streams["audio"]["start_time"]) == 0
    assert [("flownet.pkl" in notice, f"make {fps}" in notice) for notice in notices] == [(True, True)] * without_rife
    kept = at(clip, None, interpolate=False, paste_back=False).chunks()
    originals = [frame for chunk in kept for frame in chunk]
    frames = [frame for chunk in at(clip, fps, paste_back=False, hooks=Hooks()).chunks() for frame in chunk]
    assert (frames[0] == originals[0]).all() and (frames[-1] == originals[-1]).all()


def test_25_is_what_is_made_anyway(clip: TalkingClip, tmp_path: Path) -> None:
    assert clip.fps == 25
    made = [made.save(tmp_path / f"{i}.mp4").read_bytes() for i, made in enumerate((clip, at(clip, 25)))]
    assert made[0] == made[1]


def test_alpha_is_the_mask(clip: TalkingClip, tmp_path: Path) -> None:
    path = clip.save(tmp_path / "a.webm", alpha=True)
    height, width = clip.portrait.source.shape[:2]
    command = ["ffmpeg", "-v", "error", "-c:v", "libvpx-vp9", "-i", str(path), "-vf", "alphaextract,format=gray"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-"], capture_output=True, check=True).stdout
    seen = np.frombuffer(raw, np.uint8).reshape(-1, height + height % 2, width + width % 2)
    mask = (paste_mask(clip.portrait, clip.feather).numpy() * 255).round()
    assert len(seen) == len(clip)
    assert np.abs(seen[:, :height, :width] - mask).mean() < 1 and np.abs(seen[:, :height, :width] - mask).max() < 16
    streams = probed(path)
    assert streams["audio"]["codec_name"] == "opus"

    frames = sorted(clip.save(tmp_path / "frames", alpha=True).iterdir())
    first = np.asarray(Image.open(frames[0]))
    assert len(frames) == len(clip) and first.shape == (height, width, 4)
    assert np.array_equal(first[..., 3], mask)
    over = first[..., :3] * (mask / 255)[..., None] + clip.portrait.source * (1 - mask / 255)[..., None]
    assert np.abs(over - next(clip.frames())).max() < 2  # laid over the picture it is paste-back


@pytest.mark.parametrize("name", ["a.webm", "frames"])
def test_an_alpha_that_is_opaque_everywhere_is_noted(
    clip: TalkingClip, models: Path, speech: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    notices: list[str] = []
    at(clip, 12.5, hooks=Hooks(notice=notices.append)).save(tmp_path / "cropped.webm", alpha=True)
    assert notices == []
    files = ["--image", PORTRAIT, "--audio", speech, "--models", models, "--out", tmp_path / name]
    quick = ["--steps", "1", "--short-side", "64", "--device", "cpu", "--whole-picture", "--no-interpolation"]
    assert main([*map(str, ["generate", *files, *quick, "--paste-back", "--alpha"])]) == 0
    said = capsys.readouterr().err
    assert "The animated part is the whole picture, so that alpha is opaque everywhere: add crop" in said
    if name == "a.webm":
        command = ["ffmpeg", "-v", "error", "-c:v", "libvpx-vp9", "-i", str(tmp_path / name), "-vf"]
        command += ["alphaextract,format=gray", "-f", "rawvideo", "-"]
        raw = subprocess.run(command, capture_output=True, check=True).stdout
        assert raw and set(raw) == {255}
    else:
        assert {Image.open(path).getchannel("A").getextrema() for path in (tmp_path / name).iterdir()} == {(255, 255)}


def test_the_command_line_has_both(models: Path, speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.webm"
    files = ["--image", PORTRAIT, "--audio", speech, "--models", models, "--out", out, "--box", "150,100,220,260"]
    quick = ["--steps", "1", "--short-side", "64", "--device", "cpu", "--quiet"]
    options = ["--fps", "30", "--crop", "--paste-back", "--alpha"]
    assert main([*map(str, ["generate", *files, *quick, *options])]) == 0
    assert probed(out)["video"]["r_frame_rate"] == "30/1"
    assert [path.name for path in tmp_path.iterdir()] == ["a.webm"]  # nothing unfinished stays


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("a.mp4", ["--alpha", "--crop", "--paste-back"], "an .mp4 holds no alpha. With --alpha write a .webm"),
        ("a.webm", ["--alpha"], "--alpha writes the mask of paste-back, which is off. Add --crop --paste-back."),
        ("a.webm", ["--fps", "12"], "--fps 12.0: give a number from 12.5 to 120"),
        ("a.webm", ["--fps", "nan"], "--fps nan: give a number from 12.5 to 120"),
        ("a.webm", ["--fps", "30", "--no-interpolation"], "--fps has no influence with --no-interpolation"),
        ("a.gif", [], "write an .mp4, a .webm, or a folder of PNG frames"),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(
    out: str, options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["generate", "--image", "no.png", "--audio", "no.wav", "--out", str(tmp_path / out), *options]
    assert main(command) == 1
    assert message in capsys.readouterr().err


def test_what_cannot_be_saved(clip: TalkingClip, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"alpha=True writes the mask.*Add crop=True, paste_back=True"):
        at(clip, None, paste_back=False).save(tmp_path / "a.webm", alpha=True)
    with pytest.raises(SettingError, match="interpolation is off"):
        at(clip, 30, interpolate=False)
