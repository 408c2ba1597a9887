"""Data sets become shards: names, pictures and sound in step, still crops, and nothing broken is fatal."""

import argparse
import csv
import shutil
import sys
import types
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path, PurePath

import av
import numpy as np
import pytest
import torch
from released_files import write_whisper

from dicetalk.audio.features import SpeechFeatures, join_states
from dicetalk.audio.speech import load_speech
from dicetalk.cli import prepare as command
from dicetalk.config import FULL
from dicetalk.errors import (
    Cancelled,
    CheckpointError,
    NoFaceError,
    PortraitError,
    SettingError,
    SpeechError,
    VideoError,
)
from dicetalk.hooks import Hooks
from dicetalk.portrait.faces import FaceBox
from dicetalk.train.clip_record import ClipLabels, DatasetError
from dicetalk.train.prepare.blendshapes import MediaPipeBlendshapes
from dicetalk.train.prepare.clip import MAX_FRAMES, part_lengths
from dicetalk.train.prepare.crop import box_in, region_of, track_face, unite
from dicetalk.train.prepare.datasets import SkippedVideo, SourceVideo, find_videos
from dicetalk.train.prepare.drawn import DrawnMaker, plan_sources
from dicetalk.train.prepare.film import frames_between, measure, speech_parts
from dicetalk.train.prepare.labels import parse_cremad, parse_mead, parse_ravdess, split_of
from dicetalk.train.prepare.run import prepare_shards
from dicetalk.train.prepare.video import VideoMaker
from dicetalk.train.shards import list_clips, read_clip
from dicetalk.video import write_mp4

RATE = 16_000
WIDTH, HEIGHT, FACE = 192, 160, 64


class BrightSquare:
    """A detector that takes the bright, blueless part of a picture for a face."""

    def detect(self, picture: np.ndarray) -> list[FaceBox]:
        rows, columns = np.nonzero((picture[..., 0] > 128) & (picture[..., 2] < 90))
        if len(rows) < 100:
            return []
        x, y = columns.min(), rows.min()
        return [FaceBox(float(x), float(y), float(columns.max() + 1 - x), float(rows.max() + 1 - y))]


def listen(samples: np.ndarray) -> SpeechFeatures:
    """The loudness of each step in place of Whisper's states."""
    steps = len(samples) // 640 * 2
    loud = torch.from_numpy(np.abs(samples[: steps * 320]).reshape(steps, 320).max(axis=1))
    states = join_states([loud[:, None, None].expand(-1, 2, 3)], steps)
    return SpeechFeatures(states, len(samples) // 1280, len(samples) / RATE)


def pictures(count: int, face: bool = True, blank: Iterable[int] = ()) -> torch.Tensor:
    """Frames whose blue tells their number, with a face that sways; in `blank` ones it shows white."""
    frames = torch.zeros(count, 3, HEIGHT, WIDTH)
    frames[:, 2] = (torch.arange(count) * 7 % 238 / 255)[:, None, None]
    if face:
        for number in range(count):
            x, y = 50 + round(6 * np.sin(number / 4)), 40 + number % 3
            frames[number, :, y : y + FACE, x : x + FACE] = torch.tensor([0.9, 0.5, 0.1])[:, None, None]
    for number in blank:
        frames[number] = 1.0
    return frames


def sound(seconds: float, clicks: Iterable[float] = ()) -> tuple[np.ndarray, int]:
    samples = 0.01 * np.sin(np.arange(round(seconds * RATE)) / 9).astype(np.float32)
    for click in clicks:
        samples[round(click * RATE) :][:320] = 0.9
    return samples[None], RATE


def film(path: Path, frames: torch.Tensor, fps: int = 25, with_sound: tuple | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(path, [frames], fps=Fraction(fps), sound=with_sound, crf=8, total=len(frames))
    return path


def talking(path: Path, seconds: float = 1.2) -> Path:
    return film(path, pictures(round(seconds * 25)), with_sound=sound(seconds))


def number_of(picture: np.ndarray) -> int:
    """Which frame of :func:`pictures` this is, by a corner's blue."""
    return round(float(picture[:12, -12:, 2].mean()) / 7)


def source(path: Path, name: str = "clip") -> SourceVideo:
    return SourceVideo(name, path, path, ClipLabels("anna", "happy", 0.6, name, "train"))


def maker(**changes) -> VideoMaker:
    return VideoMaker(**{"listen": listen, "detector": BrightSquare(), "size": 64, **changes})


def content(folder: Path) -> dict:
    return {r.id: (r.labels, {k: v.numpy().tobytes() for k, v in read_clip(r).items()}) for r in list_clips(folder)}


# Names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("M003/video/front/happy/level_3/001.mp4", ("M003", "happy", 1.0, "M003-happy-3-001")),
        ("some/where/W011/video/front/sad/level_1/030.mp4", ("W011", "sad", 0.3, "W011-sad-1-030")),
        ("M003/video/front/neutral/level_1/002.mp4", ("M003", "neutral", 0.0, "M003-neutral-1-002")),
        ("M003/video/left_30/happy/level_3/001.mp4", None),
        ("M003/video/front/joyful/level_3/001.mp4", None),
        ("M003/video/front/happy/level_4/001.mp4", None),
        ("001.mp4", None),
    ],
)
def test_mead(name: str, expected: tuple | None) -> None:
    named = parse_mead(PurePath(name))
    if expected is None:
        assert named is None
    else:
        labels = named.labels
        assert (labels.identity, labels.emotion, labels.intensity, labels.video) == expected
        assert str(named.sound) == name.replace("video/front", "audio").replace(".mp4", ".m4a")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Actor_12/01-01-03-02-01-01-12.mp4", ("ravdess-12", "happy", 1.0)),
        ("01-01-06-01-02-02-03.mp4", ("ravdess-03", "fear", 0.6)),
        ("01-01-02-02-01-01-12.mp4", ("ravdess-12", "neutral", 0.0)),  # calm
        ("01-01-07-01-01-01-24.MP4", ("ravdess-24", "disgusted", 0.6)),
        ("02-01-03-02-01-01-12.mp4", None),  # no sound
        ("01-02-03-02-01-01-12.mp4", None),  # sung
        ("03-01-03-02-01-01-12.wav", None),
        ("01-01-09-02-01-01-12.mp4", None),
    ],
)
def test_ravdess(name: str, expected: tuple | None) -> None:
    named = parse_ravdess(PurePath(name))
    found = named and (named.labels.identity, named.labels.emotion, named.labels.intensity)
    assert found == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1001_DFA_ANG_XX.flv", ("cremad-1001", "angry", None)),
        ("VideoFlash/1091_IEO_SAD_LO.flv", ("cremad-1091", "sad", 0.3)),
        ("1091_IEO_FEA_HI.mp4", ("cremad-1091", "fear", 1.0)),
        ("1091_TAI_NEU_X.flv", ("cremad-1091", "neutral", 0.0)),
        ("1091_TAI_SUR_XX.flv", None),
        ("1091_TAI_NEU.flv", None),
    ],
)
def test_cremad(name: str, expected: tuple | None) -> None:
    named = parse_cremad(PurePath(name))
    found = named and (named.labels.identity, named.labels.emotion, named.labels.intensity)
    assert found == expected


def test_identities_keep_their_side() -> None:
    for known, names in (
        ({"04", "10", "24"}, [f"{n:02}" for n in range(1, 25)]),  # RAVDESS; a change here leaks test identities
    ):
        assert {n for n in names if split_of(f"ravdess-{n}") == "test"} == known
    assert 0.08 < np.mean([split_of(f"someone {n}") == "test" for n in range(2000)]) < 0.12


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_data_sets_are_found(tmp_path: Path) -> None:
    mead, ravdess, cremad = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    touch(mead, *(f"M003/video/front/happy/level_1/{n:03}.mp4" for n in range(3)), "M003/audio/happy/level_1/001.m4a")
    touch(mead, "M003/video/top/happy/level_1/001.mp4")
    touch(
        ravdess,
        "Actor_12/01-01-03-02-01-01-12.mp4",
        "Actor_12/02-01-03-02-01-01-12.mp4",
        "again/01-01-03-02-01-01-12.mp4",
    )
    touch(cremad, "1001_DFA_ANG_XX.flv", "1002_DFA_HAP_HI.flv")
    videos, skipped = find_videos(mead)
    assert not skipped and {v.name for v in videos} == {f"M003-happy-1-{n:03}" for n in range(3)}
    assert {v.name: v.sound.name for v in videos} == {
        "M003-happy-1-000": "000.mp4",
        "M003-happy-1-001": "001.m4a",
        "M003-happy-1-002": "002.mp4",
    }
    assert [v.name for v in find_videos(ravdess)[0]] == ["01-01-03-02-01-01-12"]
    assert {v.labels.emotion for v in find_videos(cremad, "cremad")[0]} == {"angry", "happy"}
    with pytest.raises(DatasetError, match="holds no videos"):
        find_videos(cremad, "mead")
    with pytest.raises(DatasetError, match="holds no videos"):
        find_videos(tmp_path / "b" / "Actor_12", "cremad")
    with pytest.raises(DatasetError, match="is no folder"):
        find_videos(tmp_path / "none")
    with pytest.raises(DatasetError, match="mead, ravdess"):
        find_videos(mead, "hdtf")


def test_the_order_is_mixed_and_stable(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{a}_DFA_{e}_XX.flv" for a in range(1001, 1041) for e in ("ANG", "HAP", "SAD", "FEA")))
    names = [v.name for v in find_videos(tmp_path)[0]]
    assert names == [v.name for v in find_videos(tmp_path)[0]] and names != sorted(names)
    assert len({name[:4] for name in names[:20]}) > 10 and len({name[9:12] for name in names[:20]}) == 4


def test_a_table(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(
        "\ufeffidentity,video,emotion,intensity,split,notes\n"
        "Anna,films/a b.mp4,Happiness,0.5,test,x\n"
        "Ben,films/ä.mov,,,,\n"
        "Ben,../secret.mp4,sad,,,\n"
        "Ben,/etc/passwd,sad,,,\n"
        "Ben,,sad,,,\n"
        "Ben,.,sad,,,\n"
        "Ben,c.mp4,bored,,,\n"
        "Ben,c.mp4,sad,much,,\n"
        "Ben,c.mp4,sad,nan,,\n"
        ",c.mp4,sad\n"
        "Ben,c.mp4,sad,1,training,\n"
        "Anna,films/a b.mp4,sad,,,\n",
        encoding="utf-8",
    )
    videos, skipped = find_videos(tmp_path)
    by_path = {v.path: v for v in videos}
    anna, ben = by_path[tmp_path / "films/a b.mp4"], by_path[tmp_path / "films/ä.mov"]
    assert anna.labels == ClipLabels("Anna", "happy", 0.5, "films/a b.mp4", "test")
    assert ben.labels == ClipLabels("Ben", None, None, "films/ä.mov", split_of("Ben"))
    assert anna.name.startswith("films-a-b-") and ben.name != anna.name
    reasons = {int(s.reason.split("line ")[1].split(":")[0]): s.reason for s in skipped}
    assert set(by_path) == {anna.path, ben.path, tmp_path}  # the last is no file, which its reader says
    for line, word in ((4, "inside"), (5, "inside"), (6, "inside"), (8, "bored"), (9, "much"), (10, "nan")):
        assert word in reasons[line]
    assert "identity" in reasons[11] and "training" in reasons[12] and "earlier line" in reasons[13]


@pytest.mark.parametrize(
    "text", ["video,emotion\na.mp4,sad\n", "", "video;identity;emotion\n", b"video,identity,emotion\n\xff\xfe"]
)
def test_a_table_that_is_none(tmp_path: Path, text: str | bytes) -> None:
    (tmp_path / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DatasetError, match=r"t\.csv"):
        find_videos(tmp_path, "csv")
    (tmp_path / "u.csv").write_bytes(b"")
    with pytest.raises(DatasetError, match="several CSV"):
        find_videos(tmp_path)


# Pictures and sound


def test_25_fps_give_every_second_picture(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", pictures(30), with_sound=sound(1.2))
    assert [number_of(p) for p in frames_between(path, 0.0, 15)] == list(range(0, 30, 2))
    assert [number_of(p) for p in frames_between(path, 0.2, 4)] == [5, 7, 9, 11]
    assert len(list(frames_between(path, 0.0, 99))) in (15, 16)
    span = measure(path, "video")
    assert (span.start, span.end) == pytest.approx((0, 1.2), abs=0.002)
    assert measure(path, "audio").start == pytest.approx(0, abs=1e-3)
    slow = film(tmp_path / "slow.mp4", pictures(5), fps=5)
    shown = [number_of(p) for p in frames_between(slow, 0.0, 10)]
    assert shown == [int(i / 12.5 * 5 + 1e-6) for i in range(10)]


def test_a_changing_frame_rate_is_told_by_times(tmp_path: Path) -> None:
    path = tmp_path / "vfr.mp4"
    times = np.cumsum([0, 0.02, 0.3, 0.01, 0.01, 0.05, 0.4, 0.033, 0.033, 0.5])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, seconds in enumerate(times):
            pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            pixels[..., 2] = 20 * number
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(seconds * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    moments = np.arange(17) / 12.5
    expected = [int(np.searchsorted(times, moment + 0.002, "right")) - 1 for moment in moments]
    shown = [round(float(p[..., 2].mean()) / 20) for p in frames_between(path, 0.0, 17)]
    assert shown == expected and len(set(shown)) > 5


def test_speech_in_parts_is_speech_in_one(tmp_path: Path) -> None:
    path = talking(tmp_path / "a.mp4", 2.0)
    whole = load_speech(path).samples
    parts = list(speech_parts(path, 0.0, [7, 5, 13, 9]))
    assert [len(p) for p in parts[:2]] == [7 * 1280, 5 * 1280] and len(parts[3]) < 9 * 1280
    joined = np.concatenate(parts)
    assert len(joined) == len(whole) and np.abs(joined - whole).max() < 1e-4
    assert np.abs(next(speech_parts(path, 0.5, [5])) - whole[8000 : 8000 + 6400]).max() < 1e-4
    late = next(speech_parts(path, -0.25, [10]))
    assert not late[:4000].any() and np.abs(late[4000:] - whole[: 12800 - 4000]).max() < 1e-4


def test_files_that_are_no_video(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("#EXTM3U\nfile:///etc/passwd\n")
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name in ("text.mp4", "empty.mp4", "missing.mp4"):
        with pytest.raises(VideoError, match=name):
            measure(tmp_path / name, "video")
    silent = film(tmp_path / "silent.mp4", pictures(20))
    with pytest.raises(VideoError, match="no audio stream"):
        measure(silent, "audio")
    with pytest.raises(SpeechError, match="silent"):
        next(speech_parts(silent, 0, [5]))


# Crops


def test_a_box_for_the_whole_clip() -> None:
    boxes = [FaceBox(10 + n, 20, 30, 40) for n in range(5)]
    assert unite(boxes) == FaceBox(10, 20, 34, 40)
    slip = [*boxes[:2], FaceBox(400, 0, 300, 300), *boxes[2:]]
    assert unite(slip) == FaceBox(10, 20, 34, 40)
    swaying = [FaceBox(10 + n % 2 * 8, 20, 30, 40) for n in range(7)]
    assert unite(swaying) == FaceBox(10, 20, 38, 40)
    assert unite([None, *boxes, None]) == unite(boxes)
    with pytest.raises(NoFaceError, match="1 of 3"):
        unite([None, boxes[0], None])
    with pytest.raises(NoFaceError):
        unite([])
    with pytest.raises(PortraitError, match="scene"):
        unite([*boxes, *(FaceBox(300, 20, 30, 40) for _ in range(5))])
    with pytest.raises(PortraitError, match="20 pixels"):
        region_of(FaceBox(100, 100, 10, 10), 300, 300)


def test_the_box_inside_the_crop() -> None:
    face = FaceBox(100, 60, 80, 80)
    region = region_of(face, 400, 300)
    assert region == (60, 20, 220, 180)
    assert box_in(face, region, 64).tolist() == [16, 16, 32, 32]
    assert box_in(FaceBox(0, 0, 500, 500), region, 64).tolist() == [0, 0, 64, 64]


def test_the_same_face_is_followed_past_a_larger_one() -> None:
    mine, other = FaceBox(10, 10, 50, 50), FaceBox(200, 10, 90, 90)

    class Two:
        def __init__(self):
            self.calls = 0

        def detect(self, picture: np.ndarray) -> list[FaceBox]:
            self.calls += 1
            return [mine] if self.calls == 1 else [] if self.calls == 2 else [other, mine]

    detector = Two()
    assert track_face([np.zeros((4, 4, 3), np.uint8)] * 16, detector) == [mine, None, mine, mine]
    assert detector.calls == 4


# One video


def test_a_clip(tmp_path: Path) -> None:
    path = talking(tmp_path / "a.mp4")
    (clip,) = maker(express=lambda crops: crops.reshape(len(crops), -1)[:, :4] / 255)(source(path))
    assert clip.name == "clip.1of1" and clip.labels == source(path).labels
    frames, box = clip.tensors["frames"], clip.tensors["box"]
    assert frames.shape == (15, 64, 64, 3) and clip.tensors["coefficients"].shape == (15, 4)
    assert clip.tensors["whisper"].shape[0] == 4 + 60 + 6
    # The face sways in a crop that stands still: its box holds it in all frames, and tightly in their union.
    x, y, width, height = box.tolist()
    seen = (frames[..., 0] > 128) & (frames[..., 2] < 90)
    rows, columns = torch.nonzero(seen.any(dim=0)).T
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.allclose([x, y, x + width, y + height], edges, atol=3)
    assert len({int(torch.nonzero(s)[:, 1].min()) for s in seen}) > 3


def test_pictures_and_sound_stay_in_step_over_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicetalk.train.prepare.clip.MAX_FRAMES", 20)
    clicks = [0.4, 1.04, 2.0, 3.28]
    path = film(tmp_path / "a.mp4", pictures(100, blank=[round(c * 25) for c in clicks]), with_sound=sound(4.0, clicks))
    made = list(maker()(source(path)))
    assert [c.name for c in made] == ["clip.1of3", "clip.2of3", "clip.3of3"]
    lengths = [len(c.tensors["frames"]) for c in made]
    assert lengths == part_lengths(50) == [17, 17, 16]
    flashes, heard = [], []
    for first, clip in zip((0, 17, 34), made, strict=True):
        flashes += [
            first + int(n) for n in torch.nonzero(clip.tensors["frames"][..., 2].float().mean(dim=(1, 2)) > 200)
        ]
        steps = clip.tensors["whisper"][4:-6, 0, 0]
        heard += [first + int(n) / 4 for n in torch.nonzero(steps > 0.5)]
    frames = [round(c * 12.5) for c in clicks]
    assert flashes == frames
    assert all(min(abs(h - f) for f in frames) <= 0.5 for h in heard)
    assert all(min(abs(h - f) for h in heard) <= 0.25 for f in frames)
    # A part that is there is not made again, and the others are the same.
    (again,) = maker()(source(path), there=["clip.1of3", "clip.3of3"])
    assert again.name == "clip.2of3" and again.tensors["frames"].equal(made[1].tensors["frames"])
    assert again.tensors["whisper"].equal(made[1].tensors["whisper"])


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "flv"])
@pytest.mark.parametrize("late", [-10, 10])
def test_pictures_and_sound_that_start_apart(tmp_path: Path, suffix: str, late: int) -> None:
    """Pictures start `late` frames (of 25 a second) after the sound; flash and click are at 1.2 s of the sound."""
    path = tmp_path / f"a.{suffix}"
    (samples,), rate = sound(2.4, [1.2])
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": "8"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("aac", rate=rate)
        audio.layout = "mono"
        for number, picture in enumerate(pictures(50, blank=[30 - late])):
            pixels = (picture.permute(1, 2, 0) * 255).byte().numpy()
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number + max(late, 0), Fraction(1, 25)
            container.mux(video.encode(frame))
            block = av.AudioFrame.from_ndarray(
                samples[None, number * 640 :][:, :640].copy(), format="fltp", layout="mono"
            )
            block.sample_rate, block.time_base = rate, Fraction(1, rate)
            block.pts = number * 640 + max(-late, 0) * 640
            container.mux(audio.encode(block))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    (clip,) = maker()(source(path))
    flash = int(clip.tensors["frames"][..., 2].float().mean(dim=(1, 2)).argmax())
    click = int(clip.tensors["whisper"][4:-6, 0, 0].argmax())
    assert flash == (30 - late) // 2
    assert click == pytest.approx(4 * flash, abs=1)


def test_sound_in_a_file_of_its_own(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", pictures(40))
    other = film(tmp_path / "b.m4a.mp4", pictures(40), with_sound=sound(1.2, [0.8]))
    video = SourceVideo("clip", path, other, source(path).labels)
    (clip,) = maker()(video)
    assert len(clip.tensors["frames"]) == 15  # the shorter of both
    assert int(clip.tensors["whisper"][4:-6, 0, 0].argmax()) == pytest.approx(40, abs=1)


def test_a_part_without_a_face_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicetalk.train.prepare.clip.MAX_FRAMES", 20)
    frames = torch.cat([pictures(40), pictures(40, face=False), pictures(40)])
    path = film(tmp_path / "a.mp4", frames, with_sound=sound(4.8))
    first, second, third = maker()(source(path))
    assert isinstance(second, SkippedVideo) and second.name == "clip.2of3" and "of 4 pictures" in second.reason
    assert first.name == "clip.1of3" and third.name == "clip.3of3"
    assert first.tensors["frames"].shape == third.tensors["frames"].shape == (20, 64, 64, 3)


def test_parts_are_of_one_length() -> None:
    for frames in (8, 124, 125, 126, 300, 45_000):
        lengths = part_lengths(frames)
        assert sum(lengths) == frames and max(lengths) <= MAX_FRAMES and max(lengths) - min(lengths) <= 1


# A whole data set


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
        raise VideoError("the disk is full")

    monkeypatch.setattr("dicetalk.train.shards._write", full)
    with pytest.raises(VideoError, match="the disk is full"):
        prepare_shards(find_videos(data_set)[0], tmp_path, maker())


def test_values_that_float16_cannot_hold(data_set: Path, tmp_path: Path) -> None:
    for wrong in (1e6, float("nan")):
        result = prepare_shards(
            find_videos(data_set)[0], tmp_path, maker(express=lambda crops, w=wrong: np.full((len(crops), 3), w))
        )
        assert result.made == 0 and sum("coefficients" in s.reason for s in result.skipped) == 5


# Procedural clips


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_drawn_clips(tmp_path: Path) -> None:
    sources = plan_sources("test", 2, seed=5)
    assert sources == plan_sources("test", 3, seed=5)[:2]
    prepare_shards(sources, tmp_path, DrawnMaker(listen, 64))
    for record, plan in zip(list_clips(tmp_path), (s.plan for s in sources), strict=True):
        labels, clip = record.labels, read_clip(record)
        assert (labels.split, labels.emotion, labels.intensity) == ("test", plan.emotion, plan.intensity)
        assert labels.identity == f"drawn-{plan.identity_seed}"
        assert clip["frames"].shape == (record.frames, 64, 64, 3) and clip["coefficients"].shape == (record.frames, 17)
        assert clip["mouth"].min() >= 0 and clip["mouth"].max() <= 1
        x, y, width, height = clip["box"].tolist()
        assert x >= 0 and y >= 0 and x + width <= 64 and y + height <= 64 and min(width, height) > 16
    assert prepare_shards(sources, tmp_path, DrawnMaker(listen, 64)).made == 0


def test_plans_are_checked() -> None:
    with pytest.raises(DatasetError, match="train or test"):
        plan_sources("val", 3)
    with pytest.raises(SettingError, match="0"):
        plan_sources("train", 0)


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
    monkeypatch.setattr(command, "_ears", lambda _: listen)
    monkeypatch.setattr(command, "CenterFace", BrightSquare)
    assert command.prepare(options(tmp_path, dataset=str(data_set))) == 0
    assert "5 clips made, 0 were there, 6 videos skipped" in capsys.readouterr().out
    assert command.prepare(options(tmp_path, dataset=str(data_set), limit=3, out=tmp_path / "few")) in (0, 1)
    few = len(list_clips(tmp_path / "few")) + sum("-" in name for name in skipped_rows(tmp_path / "few"))
    assert few == 3


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
