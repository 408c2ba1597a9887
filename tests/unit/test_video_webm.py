"""WebM files with alpha and without, as the ffmpeg program reads them."""

import json
import shutil
import subprocess

import numpy as np
import pytest
import torch

from dicetalk.errors import VideoError
from dicetalk.video import write_mp4, write_png_folder, write_webm

pytestmark = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="the program ffmpeg is not installed")

HEIGHT, WIDTH = 48, 64


def probed(path):
    command = ["ffprobe", "-v", "error", "-show_streams", "-show_format", "-count_frames", "-of", "json", str(path)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return {stream["codec_type"]: stream for stream in found["streams"]}, found["format"]


def read(path, height=HEIGHT, width=WIDTH):
    """(n, H, W, 4) uint8"""
    source = ["ffmpeg", "-v", "error", "-c:v", "libvpx-vp9", "-i", str(path)]
    raw = subprocess.run([*source, "-f", "rawvideo", "-pix_fmt", "rgba", "-"], capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 4)


def clip(count=10, height=HEIGHT, width=WIDTH):
    """Colours that are smooth, alpha that is a soft-edged disc; (n, 4, H, W)."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    alpha = ((0.9 - (x**2 + y**2).sqrt()) * 3).clamp(0, 1)
    colours = torch.stack([(x + 1) / 2, (y + 1) / 2, torch.full_like(x, 0.3)])
    frames = torch.cat([colours, alpha[None]]).repeat(count, 1, 1, 1)
    frames[:, 2] *= torch.linspace(0.5, 1, count)[:, None, None]
    return frames


def tone(seconds, rate):
    return np.float32(0.4 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate))[None], rate


def test_alpha_and_colours_come_back(tmp_path):
    frames = clip()
    write_webm(tmp_path / "a.webm", frames.split(4), fps=25, sound=tone(0.4, 16000), total=10)
    seen = read(tmp_path / "a.webm") / 255
    assert len(seen) == 10
    wanted = frames.permute(0, 2, 3, 1).numpy()
    assert np.abs(seen[..., 3] - wanted[..., 3]).max() < 6 / 255
    assert np.abs(seen[..., :3] - wanted[..., :3]).mean() < 3 / 255
    streams, _ = probed(tmp_path / "a.webm")
    assert streams["video"]["tags"]["alpha_mode"] == "1" or streams["video"]["tags"]["ALPHA_MODE"] == "1"
    assert (streams["video"]["codec_name"], streams["audio"]["codec_name"]) == ("vp9", "opus")


def test_the_same_frames_make_the_same_file(tmp_path):
    for name in ("a.webm", "b.webm"):
        write_webm(tmp_path / name, [clip(3)], fps=25, sound=tone(0.12, 16000), total=3)
    assert (tmp_path / "a.webm").read_bytes() == (tmp_path / "b.webm").read_bytes()


def test_without_alpha_it_is_opaque(tmp_path):
    write_webm(tmp_path / "a.webm", [clip()[:, :3]], fps=25, total=10)
    assert (read(tmp_path / "a.webm")[..., 3] == 255).all()
    assert "audio" not in probed(tmp_path / "a.webm")[0]


def test_odd_sizes_become_even(tmp_path):
    write_webm(tmp_path / "a.webm", [clip(3, 47, 63)], fps=25, total=3)
    assert read(tmp_path / "a.webm").shape == (3, 48, 64, 4)


@pytest.mark.parametrize("fps", [24, 25, 30, 50, 60])
@pytest.mark.parametrize(("write", "suffix"), [(write_mp4, "mp4"), (write_webm, "webm")])
def test_rate_and_lengths(tmp_path, fps, write, suffix):
    """The sound begins with the pictures, and is as long."""
    seconds = 0.9
    count, path = round(seconds * fps), tmp_path / f"a.{suffix}"
    write(path, [clip(count)[:, :3]], fps=fps, sound=tone(seconds, 22050), total=count)
    streams, whole = probed(path)
    assert streams["video"]["r_frame_rate"] == f"{fps}/1"
    assert int(streams["video"]["nb_read_frames"]) == count
    assert float(whole["duration"]) == pytest.approx(seconds, abs=0.5 / fps + 0.03)
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "f32le", "-ac", "1", "-ar", "22050", "-"]
    sound = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.float32)
    wanted = tone(seconds, 22050)[0][0]
    first = int((np.abs(sound) > 0.2).argmax()), int((np.abs(wanted) > 0.2).argmax())
    assert abs(first[0] - first[1]) / 22050 < 0.005
    assert len(sound) / 22050 == pytest.approx(seconds, abs=0.03)


def test_png_frames_hold_alpha(tmp_path):
    frames = clip(3)
    write_png_folder(tmp_path / "frames", [frames], total=3)
    command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "frames" / "frame_%05d.png"), "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", "rgba", "-"], capture_output=True, check=True).stdout
    seen = np.frombuffer(raw, np.uint8).reshape(3, HEIGHT, WIDTH, 4)
    assert np.array_equal(seen, (frames.permute(0, 2, 3, 1) * 255).round().byte().numpy())


def test_an_mp4_holds_no_alpha(tmp_path):
    with pytest.raises(VideoError, match="mp4 holds no alpha"):
        write_mp4(tmp_path / "a.mp4", [clip(2)], fps=25, total=2)
    assert not list(tmp_path.iterdir())
