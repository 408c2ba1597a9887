"""A whole data set becomes shards, nothing broken is fatal, and the command."""

import argparse
import csv
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from released_files import write_whisper
from small_films import (
    BrightSquare,
    content,
    film,
    listen,
    maker,
    pictures,
    sound,
    talking,
)

from dicetalk.audio.features import SpeechFeatures
from dicetalk.cli import prepare as command
from dicetalk.config import FULL
from dicetalk.emotion.reference.blendshapes import MediaPipeBlendshapes
from dicetalk.errors import (
    Cancelled,
    CheckpointError,
    NoFaceError,
    OutputError,
    SettingError,
)
from dicetalk.hooks import Hooks
from dicetalk.train.clip_record import DatasetError
from dicetalk.train.prepare.datasets import find_videos
from dicetalk.train.prepare.run import check_alike, prepare_shards, without_namesakes
from dicetalk.train.shards import list_clips, read_clip


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV folder: five good videos and five that cannot be used."""
    folder = tmp_path_factory.mktemp("data")
    lines = ["video,identity,emotion,intensity"]
    for number in range(5):
        talking(folder / f"good{number}.mp4", 0.8 + 0.08 * number)
        lines.append(f"good{number}.mp4,person {number % 2},{('happy', 'sad')[number % 2]},0.6")
    data = bytearray((folder / "good4.mp4").read_bytes())
    (folder / "cut.mp4").write_bytes(data[: len(data) // 3])
    (folder / "noise.mp4").write_bytes(np.random.default_rng(1).bytes(5000))
    film(folder / "silent.mp4", pictures(25))
    film(folder / "faceless.mp4", pictures(25, face=False), with_sound=sound(1.0))
    film(folder / "short.mp4", pictures(10), with_sound=sound(0.4))
    lines += [f"{name}.mp4,someone,angry," for name in ("cut", "noise", "silent", "faceless", "short")]
    lines.append("absent.mp4,someone,bored,")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def skipped_rows(folder: Path) -> dict[str, str]:
    with (folder / "skipped.csv").open(encoding="utf-8", newline="") as file:
        return {row["video"]: row["reason"] for row in csv.DictReader(file)}


def test_broken_videos_are_listed(data_set: Path, tmp_path: Path) -> None:
    videos, skipped = find_videos(data_set)
    seen = []
    hooks = Hooks(progress=lambda stage, done, total, preview: seen.append((stage, done, total)))
    result = prepare_shards(videos, tmp_path, maker(), skipped=skipped, clips_per_shard=2, hooks=hooks)
    assert (result.made, result.there, len(result.skipped)) == (5, 0, 6)
    assert seen == [("prepare", n, 10) for n in range(1, 11)]
    records = list_clips(tmp_path)
    assert {r.labels.video for r in records} == {f"good{n}.mp4" for n in range(5)}
    assert sorted(r.frames for r in records) == [10, 11, 12, 13, 14]
    rows = {name.rsplit("-", 1)[0]: reason for name, reason in skipped_rows(tmp_path).items()}
    words = {
        "absent.mp4": "bored",
        "cut": "cut.mp4",
        "noise": "noise.mp4",
        "silent": "no audio stream",
        "faceless": "0 of",
        "short": "0.40 s",
    }
    assert set(rows) == set(words)
    assert all(word in rows[name] for name, word in words.items())


@pytest.mark.parametrize("stops", [(1,), (2, 4), (0, 1, 2, 3)])
def test_a_run_goes_on_where_it_stopped(data_set: Path, tmp_path: Path, stops: tuple[int, ...]) -> None:
    videos, skipped = find_videos(data_set)
    one_go, broken = tmp_path / "one", tmp_path / "broken"
    prepare_shards(videos, one_go, maker(), skipped=skipped, clips_per_shard=2)
    heard = []

    def dying(at: int):
        def hear(samples: np.ndarray) -> SpeechFeatures:
            if len(heard) == at:
                raise KeyboardInterrupt
            heard.append(len(samples))
            return listen(samples)

        return hear

    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            prepare_shards(videos, broken, maker(listen=dying(stop)), skipped=skipped, clips_per_shard=2)
    result = prepare_shards(videos, broken, maker(listen=dying(99)), skipped=skipped, clips_per_shard=2)
    assert len(heard) == 5, "a clip was made twice"
    assert result.made + result.there == 5
    assert sorted(p.name for p in one_go.iterdir()) == sorted(p.name for p in broken.iterdir())
    for path in one_go.iterdir():
        assert path.read_bytes() == (broken / path.name).read_bytes()
    again = prepare_shards(videos, broken, maker(listen=dying(0)), skipped=skipped, clips_per_shard=2)
    assert (again.made, again.there, len(again.skipped)) == (0, 5, 6)


def test_several_workers_and_a_full_stop(data_set: Path, tmp_path: Path) -> None:
    videos, skipped = find_videos(data_set)
    prepare_shards(videos, tmp_path / "one", maker(), skipped=skipped)
    result = prepare_shards(videos, tmp_path / "three", maker(), skipped=skipped, workers=3)
    assert result.made == 5 and content(tmp_path / "three") == content(tmp_path / "one")
    calls = iter(range(1000))
    with pytest.raises(Cancelled):
        prepare_shards(
            videos, tmp_path / "stopped", maker(), workers=2, hooks=Hooks(cancelled=lambda: next(calls) > 30)
        )
    assert prepare_shards(videos, tmp_path / "stopped", maker()).there < 5
    assert content(tmp_path / "stopped") == content(tmp_path / "one")
    with pytest.raises(SettingError, match="workers"):
        prepare_shards(videos, tmp_path / "one", maker(), workers=0)


def test_an_error_of_the_disk_is_not_a_broken_video(
    tmp_path: Path, data_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr("dicetalk.train.shards._write", full)
    with pytest.raises(OutputError, match="the disk is full"):
        prepare_shards(find_videos(data_set)[0], tmp_path, maker())


@pytest.mark.parametrize("error", [ValueError, TypeError, RuntimeError, cv2.error, av.error.InvalidDataError])
def test_a_video_that_breaks_something_is_listed(data_set: Path, tmp_path: Path, error: type[Exception]) -> None:
    calls = iter(range(99))

    def hear(samples: np.ndarray) -> SpeechFeatures:
        if next(calls) == 1:
            raise error(1, "strange") if error is av.error.InvalidDataError else error("strange")
        return listen(samples)

    result = prepare_shards(find_videos(data_set)[0], tmp_path, maker(listen=hear))
    assert result.made == 4
    (reason,) = [s.reason for s in result.skipped if "strange" in s.reason]
    assert reason.startswith(f"{error.__name__}: ")


def test_a_machine_without_memory_is_no_broken_video(data_set: Path, tmp_path: Path) -> None:
    def hear(samples: np.ndarray) -> SpeechFeatures:
        raise RuntimeError("CUDA out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        prepare_shards(find_videos(data_set)[0], tmp_path, maker(listen=hear))


def test_data_sets_add_up_in_one_folder(data_set: Path, tmp_path: Path) -> None:
    """Each keeps its lines in the list of what was skipped, and a second run of one changes those alone."""
    other = tmp_path / "other"
    talking(other / "01-01-03-02-01-01-12.mp4")
    film(other / "01-01-04-02-01-01-12.mp4", pictures(25))
    videos, skipped = find_videos(data_set)
    for _ in range(2):
        prepare_shards(videos, tmp_path / "out", maker(), skipped=skipped, dataset="one")
        prepare_shards(find_videos(other)[0], tmp_path / "out", maker(), dataset="two, other")
    assert len(list_clips(tmp_path / "out")) == 6
    with (tmp_path / "out" / "skipped.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["dataset"], row["video"]) for row in csv.DictReader(file)]
    assert len(rows) == len(set(rows)) == 7
    assert [row for row in rows if row[0] != "one"] == [("two, other", "01-01-04-02-01-01-12")]


def test_a_name_that_another_data_set_has_taken_is_reported(tmp_path: Path) -> None:
    found = {}
    for name, identity in (("one", "Anna"), ("two", "Ben")):
        talking(tmp_path / name / "a.mp4", 0.8)
        (tmp_path / name / "labels.csv").write_text(f"video,identity,emotion\na.mp4,{identity},sad\n")
        found[name] = find_videos(tmp_path / name)[0]
    assert without_namesakes(tmp_path / "out", found["one"]) == (found["one"], [])
    prepare_shards(found["one"], tmp_path / "out", maker())
    assert without_namesakes(tmp_path / "out", found["one"]) == (found["one"], [])
    kept, (skipped,) = without_namesakes(tmp_path / "out", found["two"])
    assert kept == [] and skipped.name == found["two"][0].name and "of Anna, sad" in skipped.reason


def test_values_that_float16_cannot_hold(data_set: Path, tmp_path: Path) -> None:
    for wrong in (1e6, float("nan")):
        result = prepare_shards(
            find_videos(data_set)[0], tmp_path, maker(express=lambda crops, w=wrong: np.full((len(crops), 3), w))
        )
        assert result.made == 0 and sum("coefficients" in s.reason for s in result.skipped) == 5


# Blendshapes


@pytest.fixture
def mediapipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[types.ModuleType]:
    """A stand-in that sees a face in bright pictures; the mean colour fills the blendshapes."""
    module = types.ModuleType("mediapipe")
    module.__version__ = "0.10.33"
    module.ImageFormat = types.SimpleNamespace(SRGB="srgb")
    module.Image = lambda image_format, data: data

    class Landmarker:
        @staticmethod
        def create_from_options(options: dict) -> "Landmarker":
            if options["base_options"] != b"model":
                raise RuntimeError("no model")
            return Landmarker()

        def detect(self, pixels: np.ndarray) -> types.SimpleNamespace:
            mean = float(pixels.mean()) / 255
            shapes = [types.SimpleNamespace(score=mean) for _ in range(52)]
            return types.SimpleNamespace(face_blendshapes=[shapes] if mean > 0.1 else [])

        def close(self) -> None:
            module.closed = True

    module.tasks = types.SimpleNamespace(
        BaseOptions=lambda model_asset_buffer: model_asset_buffer,
        vision=types.SimpleNamespace(FaceLandmarker=Landmarker, FaceLandmarkerOptions=lambda **options: options),
    )
    monkeypatch.setitem(sys.modules, "mediapipe", module)
    (tmp_path / "face.task").write_bytes(b"model")
    return module


def test_blendshapes(mediapipe: types.ModuleType, tmp_path: Path) -> None:
    levels = [0, 51, 0, 0, 204, 204, 0]
    crops = np.stack([np.full((8, 8, 3), level, np.uint8) for level in levels])
    with MediaPipeBlendshapes(tmp_path / "face.task") as express:
        with pytest.raises(NoFaceError, match="3 of 7"):
            express(crops)
        found = express(crops[1:])
    assert mediapipe.closed and found.shape == (6, 52) and found.dtype == np.float32
    assert found[:, 0] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_blendshapes_that_cannot_be(
    mediapipe: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match=r"none\.task"):
        MediaPipeBlendshapes(tmp_path / "none.task")
    (tmp_path / "bad.task").write_bytes(b"other")
    with pytest.raises(CheckpointError, match=r"bad\.task"):
        MediaPipeBlendshapes(tmp_path / "bad.task")
    mediapipe.__version__ = "0.10.35"
    with pytest.raises(SettingError, match="network"):
        MediaPipeBlendshapes(tmp_path / "face.task")
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(SettingError, match="pip install"):
        MediaPipeBlendshapes(tmp_path / "face.task")


# The command


def options(tmp_path: Path, **changes) -> argparse.Namespace:
    values = {
        "dataset": str(tmp_path / "data"),
        "out": tmp_path / "out",
        "kind": "auto",
        "models": tmp_path / "models",
        "size": 64,
        "limit": None,
        "workers": 1,
        "seed": 0,
        "landmarker": None,
        "device": "cpu",
        "quiet": True,
    }
    return argparse.Namespace(**{**values, **changes})


def test_the_command(
    data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(command, "open_ears", lambda *_: listen)
    monkeypatch.setattr(command, "CenterFace", BrightSquare)
    assert command.prepare(options(tmp_path, dataset=str(data_set))) == 0
    assert "5 clips made, 0 were there, 6 videos skipped" in capsys.readouterr().out
    assert command.prepare(options(tmp_path, dataset=str(data_set), limit=3, out=tmp_path / "few")) in (0, 1)
    few = len(list_clips(tmp_path / "few")) + sum("-" in name for name in skipped_rows(tmp_path / "few"))
    assert few == 3


def test_the_command_tells_that_nobody_reads_the_faces(
    data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(command, "open_ears", lambda *_: listen)
    monkeypatch.setattr(command, "CenterFace", BrightSquare)
    command.prepare(options(tmp_path, dataset=str(data_set), limit=6))
    assert "Without --landmarker" in capsys.readouterr().err
    assert len(list_clips(tmp_path / "out")) > 0


@pytest.mark.parametrize("finished", [True, False])
def test_clips_of_another_kind_are_not_mixed_in(data_set: Path, tmp_path: Path, finished: bool) -> None:
    """Also where the first run was stopped before its first shard."""
    with pytest.raises(SettingError, match=r"--landmarker") if finished else pytest.raises(KeyboardInterrupt):
        seen = iter(range(9))

        def express(crops: np.ndarray) -> np.ndarray:
            if next(seen) == 1 and not finished:
                raise KeyboardInterrupt
            return np.zeros((len(crops), 52))

        prepare_shards(find_videos(data_set)[0], tmp_path / "out", maker(express=express))
        command.prepare(options(tmp_path, dataset=str(data_set)))
    assert bool(list((tmp_path / "out").glob("shard-*"))) == finished
    check_alike(tmp_path / "out", 64, 52)
    check_alike(tmp_path / "absent", 128, None)
    for size, coefficients, message in (
        (128, 52, r"--size 128.*64 pixels.*--size 64"),
        (64, None, "52 expression coefficients already, and the new ones would have no expression"),
        (64, 17, "would have 17 expression"),
    ):
        with pytest.raises(SettingError, match=message):
            check_alike(tmp_path / "out", size, coefficients)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_the_command_draws_and_hears_with_a_whisper_folder(tmp_path: Path) -> None:
    (tmp_path / "models" / "whisper-tiny").mkdir(parents=True)
    write_whisper(tmp_path / "models" / "whisper-tiny", FULL.audio)
    assert command.prepare(options(tmp_path, dataset="train", kind="procedural", limit=1)) == 0
    (record,) = list_clips(tmp_path / "out")
    states = read_clip(record, ["whisper"])["whisper"].float()
    assert states.shape == (4 + 4 * record.frames + 6, FULL.audio.layers, FULL.audio.channels)
    assert not states[:4].any() and not states[-6:].any() and (states[4:-6].std(dim=-1) > 0).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 100}, "--size 100"),
        ({"limit": 0}, "--limit 0"),
        ({"kind": "procedural", "dataset": "train"}, "--limit"),
        ({"kind": "procedural", "dataset": "train", "limit": 1, "landmarker": Path("x")}, "--landmarker"),
        ({"landmarker": Path("x"), "workers": 2}, "one worker"),
        ({"kind": "procedural", "dataset": "train", "limit": 1}, "Whisper"),
        ({}, "is no folder"),
    ],
)
def test_the_command_refuses(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises((SettingError, CheckpointError, DatasetError), match=message):
        command.prepare(options(tmp_path, **changes))
