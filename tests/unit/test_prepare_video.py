"""One video becomes clips: pictures and sound in step, and still crops."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from small_films import HEIGHT, WIDTH, film, maker, number_of, pictures, sound, source, talking
from small_films import listen as small_listen

from dicetalk.audio.features import SpeechFeatures
from dicetalk.audio.speech import load_speech
from dicetalk.errors import (
    NoFaceError,
    PortraitError,
    SpeechError,
    VideoError,
)
from dicetalk.film import frames_between, measure, speech_parts
from dicetalk.hooks import Hooks
from dicetalk.portrait.faces import FaceBox
from dicetalk.train.prepare.clip import MAX_FRAMES, part_lengths
from dicetalk.train.prepare.crop import box_in, region_of, track_face, unite
from dicetalk.train.prepare.datasets import SkippedVideo, SourceVideo


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


def test_a_changing_frame_rate_follows_the_time_stamps(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("name", ["ordinary", "offset", "very quiet", "very quiet with an offset"])
def test_training_hears_speech_as_generation_does(tmp_path: Path, name: str) -> None:
    samples, rate = soundfile.read(Path(__file__).parents[2] / "examples" / "speech.wav", dtype="float32")
    samples = samples[: 3 * rate]
    changed = {
        "ordinary": samples,
        "offset": samples * 0.5 + 0.3,
        "very quiet": samples * 1e-3,
        "very quiet with an offset": samples * 1e-3 + 0.05,
    }[name]
    soundfile.write(tmp_path / "a.wav", changed, rate, subtype="FLOAT")
    path = film(tmp_path / "a.mp4", pictures(75))
    heard, notices = [], []

    def listen(samples: np.ndarray) -> SpeechFeatures:
        heard.append(samples)
        return small_listen(samples)

    video = SourceVideo("clip", path, tmp_path / "a.wav", source(path).labels)
    list(maker(listen=listen)(video, hooks=Hooks(notice=notices.append)))
    expected = load_speech(tmp_path / "a.wav").samples
    difference = heard[0] - expected[: len(heard[0])]
    assert np.abs(difference[1600:-3200]).max() < 0.02 * np.abs(expected).max()
    assert abs(heard[0].mean()) < 0.05 * np.abs(heard[0]).max() and np.abs(heard[0]).max() > 0.1
    assert any("offset" in each for each in notices) == ("offset" in name)
    assert any("very quiet" in each for each in notices) == ("quiet" in name)
