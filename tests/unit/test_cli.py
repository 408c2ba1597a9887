"""The command line from files to files, on a small model with random weights in the released formats."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from released_files import SMALL, write_released

from dicetalk.checkpoints.find import tiny_folder
from dicetalk.cli import _LESS_MEMORY, main
from dicetalk.cli.model_folder import found_folder
from dicetalk.cli.options import parse_setting
from dicetalk.cli.parser import build_parser
from dicetalk.config import VAEConfig
from dicetalk.errors import CheckpointError, SettingError
from dicetalk.hooks import Hooks

ROOT = Path(__file__).parents[2]
PORTRAIT, SPEECH = ROOT / "examples" / "portrait.jpg", ROOT / "examples" / "speech.wav"
FAST = ["--steps", "2", "--window", "8", "--short-side", "64", "--device", "cpu", "--dtype", "fp32", "--quiet"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete small model, its four networks in one converted file, which carries the sizes."""
    released, packed = tmp_path_factory.mktemp("released"), tmp_path_factory.mktemp("models")
    write_released(released, replace(SMALL, vae=VAEConfig((32, 32, 32, 32), 1)))
    for part in ("RIFE", "whisper-tiny", "emotion", "stable-video-diffusion-img2vid-xt"):
        (released / part).rename(packed / part)
        (released / part).symlink_to(packed / part)
    convert_small(released, packed / "dicetalk.safetensors")
    return packed


def convert_small(released: Path, out: Path) -> None:
    from dicetalk.checkpoints.convert import convert_model

    convert_model(released, out, config=replace(SMALL, vae=VAEConfig((32, 32, 32, 32), 1)))


def generate(models: Path, out: Path, *options: str, image: Path = PORTRAIT, audio: Path = SPEECH) -> int:
    files = ["--models", str(models), "--image", str(image), "--audio", str(audio), "--out", str(out)]
    return main(["generate", *files, *FAST, *options])


def probe(path: Path) -> dict[str, float]:
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        return {
            "frames": sum(1 for _ in container.decode(video)),
            "fps": float(video.average_rate),
            "width": video.width,
            "height": video.height,
            "sound_seconds": float(audio.duration * audio.time_base),
        }


def test_a_video_as_long_as_the_speech(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "hello.mp4"
    assert generate(models, out, "--emotion", "happy:0.8", "--duration", "1.5") == 0
    assert capsys.readouterr().out.strip() == str(out)
    video = probe(out)
    assert video["fps"] == 25 and video["width"] == video["height"] == 64
    assert abs(video["frames"] / 25 - 1.5) <= 1 / 25
    assert abs(video["sound_seconds"] - 1.5) <= 1 / 25
    assert [p.name for p in tmp_path.iterdir()] == ["hello.mp4"]


def read_frames(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(p)) for p in sorted(folder.iterdir())]).astype(int)


def test_every_choice_changes_the_picture(models: Path, tmp_path: Path) -> None:
    """Options that do nothing would be lies: each of these must change the frames, and the seed must repeat them."""
    track = tmp_path / "track.json"
    track.write_text(json.dumps({"keyframes": [{"time": 0, "emotion": "happy"}, {"time": 0.5, "emotion": "sad"}]}))
    short = ["--duration", "0.7", "--no-interpolation", "--emotion-scale", "5"]
    choices = {
        "plain": [],
        "again": [],
        "happy": ["--emotion", "happy"],
        "track": ["--emotion-track", str(track)],
        "seed": ["--seed", "1"],
        "tight": ["--schedule", "tight"],
        "overlap": ["--overlap", "3"],
        "shift": ["--shift", "2"],
        "window": ["--window", "6"],
        "steps": ["--steps", "3"],
        "portrait_guidance": ["--portrait-guidance", "2"],
        "expression_guidance": ["--expression-guidance", "4:5"],
        "audio_scale": ["--audio-scale", "0"],
        "emotion_scale": ["--emotion-scale", "0"],
        "motion": ["--motion-bucket", "100"],
        "expression": ["--expression-bucket", "100"],
        "strength": ["--noise-strength", "0.5"],
        "portrait_noise": ["--portrait-noise", "0.5"],
        "whole": ["--whole-picture"],
        "box": ["--box", "100,100,200,200"],
        "mask": ["--mask-scale", "2"],
        "crop": ["--crop"],
        "chunk": ["--decode-chunk", "3"],
        "colour": ["--colour-match"],
        "start": ["--start", "1"],
    }
    frames = {}
    for name, options in choices.items():
        assert generate(models, tmp_path / name, *short, *options) == 0
        frames[name] = read_frames(tmp_path / name)
    assert len(frames["plain"]) == 9, "0.7 s are 8.75 frames of 12.5 a second, the last one held"
    assert np.array_equal(frames["plain"], frames["again"])
    unchanged = [name for name in choices if np.array_equal(frames["plain"], frames[name])]
    assert unchanged == ["plain", "again"]


def test_memory_savers_change_nothing_that_can_be_seen(models: Path, tmp_path: Path) -> None:
    frames = []
    for i, options in enumerate(([], ["--one-branch-at-a-time"], ["--key-value-budget", "0"])):
        assert generate(models, tmp_path / str(i), "--duration", "0.5", *options) == 0
        frames.append(read_frames(tmp_path / str(i)))
    for other in frames[1:]:
        assert np.abs(other - frames[0]).max() <= 1


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision_runs_the_whole_line(models: Path, tmp_path: Path, dtype: str) -> None:
    for name, options in (("half", ["--dtype", dtype]), ("full", ["--dtype", "fp32"])):
        assert generate(models, tmp_path / name, "--duration", "0.3", "--noise-strength", "0.5", *options) == 0
    half, full = read_frames(tmp_path / "half"), read_frames(tmp_path / "full")
    assert np.abs(half - full).mean() < 20 and full.std() > 20


def test_paste_back_keeps_the_rest_of_the_picture(models: Path, tmp_path: Path) -> None:
    assert generate(models, tmp_path / "full", "--duration", "0.3", "--crop", "--paste-back") == 0
    frames = read_frames(tmp_path / "full")
    source = np.asarray(Image.open(PORTRAIT).convert("RGB")).astype(int)
    assert frames.shape[1:] == source.shape
    changed = np.abs(frames - source).max(axis=(0, 3)) > 1
    rows, columns = np.nonzero(changed)
    assert changed.any() and rows.min() > 20 and rows.max() < 320 and columns.min() > 100 and columns.max() < 350


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "steps is 0"),
        (["--emotion", "bored"], "'bored' is unknown. Did you mean 'worried'? Known: neutral"),
        (["--emotion", "happy:x"], "'x' of 'happy' is not a number"),
        (["--face-index", "3"], "1"),
        (["--box", "900,900,10,10"], "outside the picture"),
        (["--short-side", "100"], "multiple of 64"),
        (["--crf", "60"], "--crf 60"),
        (["--decode-chunk", "0"], "--decode-chunk 0"),
        (["--device", "abacus"], "device abacus"),
        (["--start", "100"], "100"),
        (["--emotion-track", "nowhere.json"], "nowhere.json"),
        (["--paste-back", "--feather", "2"], "feather is 2"),
        (["--feather", "0.2"], "--feather has no influence without --paste-back"),
        (["--seed", "9" * 400], "seed is 999"),
    ],
)
def test_errors_name_the_thing(
    models: Path, tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert generate(models, tmp_path / "out.mp4", *options) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("out", "message"),
    [("missing/x.mp4", "missing does not exist"), ("folder.mp4", "is a folder"), ("full", "not an empty folder")],
)
def test_where_nothing_can_be_written_is_reported_before_anything_is_read(
    tmp_path: Path, out: str, message: str, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "full" / "file").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    assert generate(tmp_path / "no models", tmp_path / out, audio=tmp_path / "no sound.wav") == 1
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_whole_picture_needs_no_detector(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("the detector was read")

    monkeypatch.setattr("dicetalk.portrait.detector.YoloFace", read)
    assert generate(models, tmp_path / "out", "--duration", "0.2", "--whole-picture") == 0


def test_missing_models_say_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert generate(tmp_path / "nothing", tmp_path / "out.mp4") == 1
    error = capsys.readouterr().err
    assert "unet.pth" in error and "dicetalk download" in error


def test_no_face_names_both_ways_on(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Image.new("RGB", (200, 200), "grey").save(tmp_path / "wall.png")
    assert generate(models, tmp_path / "out.mp4", image=tmp_path / "wall.png") == 1
    error = capsys.readouterr().err
    assert "No face" in error and "box" in error and "whole picture" in error


def test_ctrl_c_leaves_nothing(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dicetalk.video import decode

    def stop(*args: object) -> torch.Tensor:
        raise KeyboardInterrupt

    monkeypatch.setattr(decode, "_decode", stop)
    assert generate(models, tmp_path / "out.mp4") == 130
    assert list(tmp_path.iterdir()) == []


def test_no_memory_is_explained(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def no_memory(*args: object) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore text.")

    monkeypatch.setattr("dicetalk.denoise.conditioning._modes", no_memory)
    assert generate(models, tmp_path / "out.mp4") == 1
    error = capsys.readouterr().err
    assert "not enough memory (CUDA out of memory. Tried to allocate 2 GiB.)" in error and "--short-side" in error
    # Training has no such options; what it can do with less stands in its config.
    monkeypatch.setattr("dicetalk.cli.train.train", no_memory)
    assert main(["train", "embedder", "--config", str(tmp_path / "none.yaml")]) == 1
    error = capsys.readouterr().err
    assert "batch_size" in error and "--short-side" not in error
    assert list(tmp_path.iterdir()) == []


def test_what_is_advised_without_memory_can_be_given(capsys: pytest.CaptureFixture) -> None:
    commands = {"generate": ["generate"], "bench": ["bench"], "prepare": ["prepare"], "evaluate": ["evaluate"]}
    commands |= {"demo": ["demo"], "extract": ["emotion", "extract"], "emotion_make": ["emotion", "voice"]}
    assert commands.keys() == _LESS_MEMORY.keys() - {"train"}  # whose advice is about its config
    for module, command in commands.items():
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        offered = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
        assert set(re.findall(r"--[a-z-]+", _LESS_MEMORY[module])) <= offered, module


def test_doctor_and_its_exit_status(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["doctor", str(models)]) == 0
    table = capsys.readouterr().out
    assert "dicetalk.safetensors" in table and "found" in table
    assert main(["doctor", str(tmp_path)]) == 1
    assert "missing" in capsys.readouterr().out


def test_bench_compares_two_settings(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "bench.json"
    options = ["--size", "small", "--seconds", "0.5", "--short-side", "64", "--repeats", "1", "--device", "cpu"]
    assert main(["bench", *options, "--set", "steps=2", "--against", "savings=off", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    stages = {"speech", "portrait", "sample", "decode", "interpolate", "write"}
    assert set(result["base"][0]["seconds"]) == stages == set(result["against"][0]["peak_bytes"])
    assert result["ratio"]["window"] == pytest.approx(
        result["base"][0]["window_seconds"] / result["against"][0]["window_seconds"]
    )
    low, high = result["ratio_spread"]["total"]
    assert low <= result["ratio"]["total"] <= high
    assert result["import_seconds"] > 0 < result["load_seconds"]
    assert "time of base / time of against" in capsys.readouterr().out


def test_bench_shows_what_grows_with_the_speech(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "bench.json"
    options = ["--size", "small", "--short-side", "64", "--device", "cpu", "--set", "steps=1", "--json", str(out)]
    assert main(["bench", *options, "--growth", "0.6,0.3"]) == 0
    curve = json.loads(out.read_text())["growth"]
    assert [point["speech_seconds"] for point in curve] == [0.3, 0.6]
    assert all(point["peak_bytes"] > 0 and point["seconds_per_second"]["total"] > 0 for point in curve)
    assert main(["bench", *options, "--growth", "5,9999"]) == 1
    assert main(["bench", *options, "--growth", "5", "--repeats", "2"]) == 1
    assert "--repeats has no influence with --growth" in capsys.readouterr().err


def test_bench_tells_first_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for options, message in (
        (["--seconds", "nan"], "--seconds nan: give 0.1 to 3600"),
        (["--seconds", "0"], "--seconds 0"),
        (["--short-side", "-64"], "--short-side -64"),
        (["--short-side", "0"], "--short-side 0"),
        (["--json", str(tmp_path / "missing" / "x.json")], "missing does not exist"),
    ):
        assert main(["bench", "--size", "small", *options]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("pair", ["steps", "steps=x", "speed=3", "savings=maybe", "decode_chunk=0"])
def test_bench_refuses_unknown_settings(pair: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["bench", "--set", pair]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_settings_are_read_by_their_type() -> None:
    assert parse_setting("steps", "3") == 3
    assert parse_setting("portrait_guidance", "1:2.5") == (1.0, 2.5)
    assert parse_setting("batched_guidance", "off") is False
    for name, text in (("steps", "3.5"), ("portrait_guidance", "1:2:3"), ("batched_guidance", "no")):
        with pytest.raises(SettingError, match=name):
            parse_setting(name, text)


def test_help_is_quick_and_the_documents_name_every_option() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, dicetalk.cli; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert loaded.stdout.strip() == "False", "help must not wait for torch"
    text = (ROOT / "docs" / "commands.md").read_text()
    commands = next(a for a in build_parser()._actions if a.choices).choices
    for command, parser in commands.items():
        assert f"dicetalk {command}" in text
        for action in parser._actions:
            for option in action.option_strings:
                assert option in ("-h", "--help") or re.search(rf"`{option}[ `]", text), f"{command} {option}"


def test_without_weights_it_says_what_is_used_or_what_to_install(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    notices: list[str] = []
    hooks = Hooks(notice=notices.append)
    for module in ("dicetalk.cli.model_folder", "dicetalk.checkpoints.find"):
        monkeypatch.setattr(f"{module}.tiny_folder", lambda: Path("bundled"))
    assert found_folder(None, hooks) == Path("bundled") and "dicetalk download" in notices[0]
    assert found_folder(Path("tiny"), hooks) == Path("bundled")
    assert found_folder(Path("elsewhere"), hooks) == Path("elsewhere") and len(notices) == 1
    (tmp_path / "models").mkdir()
    assert found_folder(None, hooks) == Path("bundled") and "models is empty" in notices[1]
    assert found_folder(Path("models"), hooks) == Path("models")
    (tmp_path / "models" / "unet.pth").touch()
    assert found_folder(None, hooks) == Path("models") and len(notices) == 2
    monkeypatch.setattr("dicetalk.checkpoints.find.__file__", str(tmp_path / "a" / "b"))
    with pytest.raises(CheckpointError, match="train tiny"):
        tiny_folder()
