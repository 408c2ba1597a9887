"""MP4 files and PNG folders: what is in them, and that they are there whole or not at all."""

import errno
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dicetalk.errors import Cancelled, OutputError, SettingError, VideoError
from dicetalk.hooks import SILENT
from dicetalk.video import write_mp4, write_png_folder
from dicetalk.video.colour import rgb_to_yuv420
from dicetalk.video.write import MP4, _frame

COLOURS = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "skin": (0.88, 0.67, 0.54),
}


def plain(count, height=32, width=48, colour=(0.5, 0.5, 0.5)):
    return torch.tensor(colour)[None, :, None, None].expand(count, 3, height, width)


def noise(count, height=32, width=48):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(3))


def tone(seconds, sample_rate, channels=1):
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    return np.float32(0.4 * np.sin(2 * np.pi * 440 * t))[None].repeat(channels, axis=0), sample_rate


def read_pictures(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def read_sound(path):
    """(channels, samples), and the time of the first sample."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        return np.concatenate([frame.to_ndarray() for frame in frames], axis=1), float(frames[0].time)


def to_rgb(planes):
    """Middle pixel of a yuv420p picture by the inverse of BT.709 as ITU-R writes it."""
    height, width = planes.shape[0] * 2 // 3, planes.shape[1]
    u, v = planes.ravel()[height * width :].reshape(2, height // 2, width // 2).astype(float)
    y = (planes[height // 2, width // 2] - 16) / 219
    cb, cr = ((c[height // 4, width // 4] - 128) / 224 for c in (u, v))
    return y + 1.5748 * cr, y - 0.1873 * cb - 0.4681 * cr, y + 1.8556 * cb


def test_pictures_and_sound_are_all_there(tmp_path):
    path = tmp_path / "clip.mp4"
    write_mp4(path, noise(26).split(10), fps=25, sound=tone(1.03, 16000), total=26)
    with av.open(str(path)) as container:
        pictures, sound = container.streams.video[0], container.streams.audio[0]
        assert (pictures.codec_context.name, sound.codec_context.name) == ("h264", "aac")
        assert pictures.codec_context.pix_fmt == "yuv420p"
        assert pictures.average_rate == 25
        assert pictures.frames == 26
        assert float(pictures.duration * pictures.time_base) == pytest.approx(26 / 25)
        assert float(sound.duration * sound.time_base) == pytest.approx(1.03, abs=1e-3)
        assert (sound.rate, sound.layout.name) == (16000, "mono")
    assert len(read_pictures(path)) == 26


@pytest.mark.parametrize("name", COLOURS)
def test_colours_come_back(tmp_path, name):
    path = tmp_path / "clip.mp4"
    write_mp4(path, [plain(3, colour=COLOURS[name])], fps=25, total=3)
    assert to_rgb(read_pictures(path)[1]) == pytest.approx(COLOURS[name], abs=3 / 255)
    with av.open(str(path)) as container:
        tags = container.streams.video[0].codec_context
        assert (tags.colorspace, tags.color_primaries, tags.color_trc, tags.color_range) == (1, 1, 1, 1)


def test_pictures_come_back_in_order(tmp_path):
    path = tmp_path / "clip.mp4"
    grey = torch.linspace(0, 1, 30)[:, None, None, None].expand(30, 3, 32, 32)
    write_mp4(path, grey.split(7), fps=12.5, total=30)
    back = [to_rgb(picture)[1] for picture in read_pictures(path)]
    assert back == pytest.approx(grey[:, 0, 0, 0].tolist(), abs=3 / 255)


def test_chroma_sits_on_even_columns():
    ramp = torch.zeros(3, 4, 16)
    ramp[0] = torch.arange(16) / 32
    planes = rgb_to_yuv420(ramp)
    v = planes.ravel()[4 * 16 :].reshape(2, 2, 8)[1]
    expected = 128 + 224 * (1 - 0.2126) / (2 - 2 * 0.2126) * np.arange(0, 16, 2) / 32
    assert np.abs(v[:, 1:] - expected[1:]).max() <= 0.5


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9))
def test_odd_sizes_repeat_their_edge(height, width):
    picture = noise(1, height, width)[0]
    even = torch.cat([picture, picture[:, -1:]], dim=1) if height % 2 else picture
    even = torch.cat([even, even[:, :, -1:]], dim=2) if width % 2 else even
    planes = rgb_to_yuv420(picture)
    assert planes.shape == (even.shape[1] * 3 // 2, even.shape[2])
    assert np.array_equal(planes, rgb_to_yuv420(even))


@pytest.mark.parametrize(("height", "width"), [(33, 47), (1, 1), (64, 35)])
def test_odd_sizes_in_a_file(tmp_path, height, width):
    path = tmp_path / "clip.mp4"
    write_mp4(path, [plain(2, height, width, COLOURS["skin"])], fps=25, total=2)
    picture = read_pictures(path)[0]
    assert picture.shape == ((height + height % 2) * 3 // 2, width + width % 2)
    assert to_rgb(picture) == pytest.approx(COLOURS["skin"], abs=3 / 255)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("sample_rate", "written"),
    [(8000, 8000), (9999, 11025), (16000, 16000), (24000, 24000), (44100, 44100), (48000, 48000), (96000, 48000)],
)
def test_sound_of_any_rate(tmp_path, sample_rate, written, channels):
    path = tmp_path / "clip.mp4"
    sound = tone(0.7, sample_rate, channels)
    write_mp4(path, [plain(20)], fps=25, sound=sound, total=20)
    with av.open(str(path)) as container:
        track = container.streams.audio[0]
        assert (track.rate, track.channels) == (written, channels)
        assert float(track.duration * track.time_base) == pytest.approx(0.7, abs=0.002)
    back, _ = read_sound(path)
    spectrum = np.abs(np.fft.rfft(back[0, : round(0.7 * written)]))
    assert spectrum.argmax() / 0.7 == pytest.approx(440, abs=3)
    assert back[:, written // 10 : written // 2].std() == pytest.approx(0.4 / 2**0.5, rel=0.1)


def test_sound_stays_in_step(tmp_path):
    path = tmp_path / "clip.mp4"
    click = np.zeros((1, 32000), np.float32)
    click[0, 16000:16160] = 0.9
    write_mp4(path, [plain(50)], fps=25, sound=(click, 16000), total=50)
    back, start = read_sound(path)
    assert start + np.abs(back[0]).argmax() / 16000 == pytest.approx(1.005, abs=0.006)


@pytest.mark.parametrize(("frames", "seconds"), [(5, 2.0), (50, 0.3)])
def test_neither_sound_nor_pictures_are_cut_to_the_other(tmp_path, frames, seconds):
    path = tmp_path / "clip.mp4"
    write_mp4(path, plain(frames).split(10), fps=25, sound=tone(seconds, 16000), total=frames)
    assert len(read_pictures(path)) == frames
    assert read_sound(path)[0].shape[1] >= seconds * 16000


def test_loud_sound_is_limited(tmp_path):
    path = tmp_path / "clip.mp4"
    samples, rate = tone(0.5, 16000)
    write_mp4(path, [plain(13)], fps=25, sound=(samples * 1e30, rate), total=13)
    assert np.abs(read_sound(path)[0]).max() < 2


def test_index_comes_first_so_that_browsers_start_at_once(tmp_path):
    path = tmp_path / "clip.mp4"
    write_mp4(path, [noise(5)], fps=25, total=5)
    data = path.read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")


def test_quality(tmp_path):
    sizes = []
    for crf in (10, 40):
        write_mp4(tmp_path / "clip.mp4", [noise(5)], fps=25, crf=crf, total=5)
        sizes.append((tmp_path / "clip.mp4").stat().st_size)
    assert sizes[0] > 2 * sizes[1]


@pytest.mark.parametrize("fps", [12.5, 25, 29.97, Fraction(30000, 1001)])
def test_frame_rates(tmp_path, fps):
    write_mp4(tmp_path / "clip.mp4", [plain(5)], fps=fps, total=5)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(float(fps), rel=1e-6)


def test_progress(tmp_path):
    seen = []
    hooks = replace(SILENT, progress=lambda stage, done, total, preview: seen.append((stage, done, total)))
    write_mp4(tmp_path / "a.mp4", plain(5).split(3), fps=25, hooks=hooks, total=5)
    write_png_folder(tmp_path / "a", plain(5).split(3), hooks=hooks, total=5)
    assert seen == [("write", 3, 5), ("write", 5, 5)] * 2


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt, GeneratorExit, Cancelled])
@pytest.mark.parametrize("after", [0, 2])
def test_whatever_ends_the_work_early_leaves_everything_as_it_was(tmp_path, stop, after):
    (tmp_path / "clip.mp4").write_bytes(b"old")
    (tmp_path / "frames").mkdir()

    def chunks():
        yield from noise(10 * after).split(10) if after else ()
        raise stop

    with pytest.raises(stop):
        write_mp4(tmp_path / "clip.mp4", chunks(), fps=25, sound=tone(1, 16000), total=30)
    with pytest.raises(stop):
        write_png_folder(tmp_path / "frames", chunks(), total=30)
    assert sorted(os.listdir(tmp_path)) == ["clip.mp4", "frames"]
    assert (tmp_path / "clip.mp4").read_bytes() == b"old"
    assert not os.listdir(tmp_path / "frames")


def test_cancelled_by_the_caller(tmp_path):
    hooks = replace(SILENT, cancelled=lambda: True)
    with pytest.raises(Cancelled):
        write_mp4(tmp_path / "a.mp4", [plain(5)], fps=25, hooks=hooks, total=5)
    with pytest.raises(Cancelled):
        write_png_folder(tmp_path / "a", [plain(5)], hooks=hooks, total=5)
    assert not os.listdir(tmp_path)


def test_errors_of_who_makes_the_frames_keep_their_name(tmp_path):
    def chunks():
        yield plain(2)
        raise FileNotFoundError(errno.ENOENT, "gone", "weights.pth")

    with pytest.raises(FileNotFoundError, match="weights"):
        write_mp4(tmp_path / "a.mp4", chunks(), fps=25, total=5)


def test_file_size_limit_is_met_at_any_moment(tmp_path):
    """The system refuses every further byte from some point on: at the first, in the middle, in the last ones."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "clip.mp4"

    def write():
        write_mp4(path, noise(12).split(5), fps=25, sound=tone(0.48, 16000), total=12)

    write()
    whole = path.stat().st_size
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    written = []
    for limit in [*range(0, whole, whole // 20), whole - 9, whole - 1, whole + 5000]:
        path.write_bytes(b"old")
        message = None
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            write()
        except OutputError as error:
            message = str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        written.append(message is None)
        assert os.listdir(tmp_path) == ["clip.mp4"]
        if message is None:
            assert len(read_pictures(path)) == 12
        else:
            assert str(path) in message and "free some space" in message
            assert path.read_bytes() == b"old"
    assert written[-1] and not any(written[:10])


FULL_DISK = """
import os, sys, torch
from dicetalk.errors import OutputError
from dicetalk.video import write_mp4, write_png_folder
os.chdir(sys.argv[1])
clip = torch.rand(60, 3, 64, 64)
for name, write in {"a.mp4": lambda *a, **k: write_mp4(*a, **k, fps=25), "a": write_png_folder}.items():
    try:
        write(name, clip.split(9), total=60)
    except OutputError as error:
        print(os.listdir(), error.__cause__.errno, error)
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare (Linux)")
def test_disk_full(tmp_path):
    """On a real file system of 48 kB that only a child process sees."""
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs -o size=48k x "$0" && "$@"']
    if subprocess.run([*mount, str(tmp_path), "true"], capture_output=True).returncode:
        pytest.skip("this machine lets no child process mount a file system")
    repository = Path(__file__).parents[2]
    run = subprocess.run(
        [*mount, str(tmp_path), sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(repository)},
    )
    assert run.returncode == 0, run.stderr
    video, pictures = run.stdout.splitlines()
    assert video.startswith(f"[] {errno.ENOSPC} a.mp4 could not be written") and "free some space" in video
    assert pictures.startswith(f"[] {errno.ENOSPC} a could not be written") and "free some space" in pictures


def never():
    raise AssertionError("the first frame was asked for")
    yield


@pytest.mark.parametrize("write", [write_png_folder, lambda *a, **k: write_mp4(*a, **k, fps=25)])
def test_on_a_read_only_disk_the_reason_is_given_although_nothing_can_be_removed(tmp_path, monkeypatch, write):
    def refused(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("open", "mkdir", "unlink"):
        monkeypatch.setattr(Path, name, refused)
    with pytest.raises(OutputError, match=r"a\.mp4 .*No permission to write there"):
        write(tmp_path / "a.mp4", never(), total=1)


@pytest.mark.parametrize("write", [write_png_folder, lambda *a, **k: write_mp4(*a, **k, fps=25)])
def test_places_that_cannot_be_written_are_refused_before_the_first_frame(tmp_path, monkeypatch, write):
    with pytest.raises(OutputError, match=r"missing.*does not exist"):
        write(tmp_path / "missing" / "a.mp4", never(), total=1)
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "folder.mp4" / "file").touch()
    with pytest.raises(OutputError, match=r"folder\.mp4 (is a folder|exists)"):
        write(tmp_path / "folder.mp4", never(), total=1)

    def refused(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(OutputError, match=r"a\.mp4 .*No permission.*another folder"):
        write(tmp_path / "a.mp4", never(), total=1)


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        ((np.full((1, 100), np.nan, np.float32), 16000), "not finite"),
        ((np.full((2, 100), -np.inf, np.float32), 16000), "not finite"),
        ((np.zeros((1, 0), np.float32), 16000), "shape"),
        ((np.zeros(100, np.float32), 16000), "shape"),
        ((np.zeros((6, 100), np.float32), 16000), "shape"),
        ((np.zeros((1, 100), np.float32), 0), "sample rate"),
    ],
)
def test_sound_that_cannot_be_written(tmp_path, sound, message):
    with pytest.raises(VideoError, match=message):
        write_mp4(tmp_path / "a.mp4", never(), fps=25, sound=sound, total=1)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("crf", [-1, 52])
def test_quality_out_of_range(tmp_path, crf):
    with pytest.raises(SettingError, match="crf"):
        write_mp4(tmp_path / "a.mp4", never(), fps=25, crf=crf, total=1)


def test_no_frames(tmp_path):
    with pytest.raises(VideoError, match="no frames"):
        write_mp4(tmp_path / "a.mp4", [], fps=25, total=0)
    with pytest.raises(VideoError, match="no frames"):
        write_png_folder(tmp_path / "a", [], total=0)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("exists", [False, True])
def test_png_folder(tmp_path, exists):
    folder = tmp_path / "frames"
    if exists:
        folder.mkdir()
    clip = noise(5, 7, 9)
    write_png_folder(folder, clip.split(2), total=5)
    assert sorted(os.listdir(folder)) == [f"frame_{i:05}.png" for i in range(1, 6)]
    for i, picture in enumerate(clip, 1):
        with Image.open(folder / f"frame_{i:05}.png") as image:
            back = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
        assert (back - picture).abs().max() <= 0.5 / 255 + 1e-6
    with pytest.raises(OutputError, match="not an empty folder"):
        write_png_folder(folder, never(), total=5)


def test_nothing_is_left_behind_the_rows_of_a_frame() -> None:
    """Encoders look at it: with whatever memory held there, equal frames gave different files."""
    planes = _frame(torch.rand(3, 36, 50), MP4).planes
    assert any(plane.line_size > plane.width for plane in planes)
    for plane in planes:
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        assert rows[:, : plane.width].any() and not rows[:, plane.width :].any()
