"""Real files of every kind that is read, made here; small, because most changes fall into the first kilobyte."""

import io
import json
import tempfile
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
import torch
from icc_profiles import cmyk_profile, grey_profile
from PIL import Image, ImageCms
from torch import nn

from dicetalk.emotion.files import SavedEmotion, save_emotion
from dicetalk.emotion.prior import PRIOR_DIM, EmotionPrior
from dicetalk.emotion.track import EmotionTrack, Keyframe
from fuzz.case import Files
from fuzz.mutate import Marks

ROOT = Path(__file__).parents[2]
SPACE = "0" * 64

SOUNDS = (("wav", "pcm_s16le"), ("m4a", "aac"), ("mp3", "libmp3lame"), ("ogg", "libopus"), ("flac", "flac"))
FILMS = (
    ("mp4", "libx264", "aac"),
    ("mkv", "libx264", "libopus"),
    ("webm", "libvpx", "libopus"),
    ("avi", "mpeg4", "mp3"),
)


def in_folder(write: Callable[[Path], object]) -> Files:
    """The files that `write` leaves in a folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def hum(seconds: float = 0.5, rate: int = 16_000) -> np.ndarray:
    """Stereo float32 ``(samples, 2)``."""
    time = np.arange(round(seconds * rate)) / rate
    loud = np.minimum(1, 3 * np.abs(np.sin(9 * time)))
    return np.stack([0.3 * loud * np.sin(2 * np.pi * f * time) for f in (140, 210)], axis=1).astype(np.float32)


def sounds() -> Files:
    """Sound files of many kinds."""

    def write(folder: Path) -> None:
        for suffix, codec in SOUNDS:
            _write_film(folder / f"coded.{suffix}", None, codec)
        for name, kind, subtype in (
            ("float.wav", "WAV", "FLOAT"),
            ("deep.wav", "WAV", "PCM_24"),
            ("law.wav", "WAV", "ULAW"),
            ("long.w64", "W64", "PCM_16"),
            ("big.aiff", "AIFF", "PCM_16"),
            ("vorbis.ogg", "OGG", "VORBIS"),
            ("sun.au", "AU", "PCM_16"),
            ("apple.caf", "CAF", "PCM_16"),
            ("large.rf64", "RF64", "PCM_16"),
        ):
            soundfile.write(folder / name, hum(), 16_000, subtype, format=kind)

    return in_folder(write)


def films() -> Files:
    """Films with sound, of several containers."""

    def write(folder: Path) -> None:
        for suffix, pictures, sound in FILMS:
            _write_film(folder / f"film.{suffix}", pictures, sound)
        frames = [Image.fromarray(picture) for picture in moving(6)]
        for suffix in ("gif", "webp", "png"):
            frames[0].save(folder / f"moving.{suffix}", save_all=True, append_images=frames[1:], duration=80)

    return in_folder(write)


def moving(count: int) -> list[np.ndarray]:
    """Small pictures with a square that moves."""
    pictures = [np.full((72, 96, 3), 60, np.uint8) for _ in range(count)]
    for number, picture in enumerate(pictures):
        picture[20:50, 10 + number : 40 + number] = 210, 160, 120
    return pictures


def _write_film(path: Path, pictures: str | None, sound: str) -> None:
    """0.8 s, enough for a training clip, with the codecs `pictures`, if any, and `sound`."""
    with av.open(str(path), "w") as container:
        seen = container.add_stream(pictures, rate=Fraction(25)) if pictures else None
        rate = 48_000 if sound == "libopus" else 44_100
        heard = container.add_stream(sound, rate=rate)
        heard.layout = "stereo"
        heard.open()
        if seen is not None:
            seen.width, seen.height, seen.pix_fmt = 96, 72, "yuv420p"
            for picture in moving(20):
                container.mux(seen.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(seen.encode(None))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(hum(0.8, rate).T), format="fltp", layout="stereo")
        frame.sample_rate = rate
        converted = av.AudioResampler(heard.format, "stereo", rate, heard.frame_size or 1024)
        for part in [*converted.resample(frame), *converted.resample(None)]:
            container.mux(heard.encode(part))
        container.mux(heard.encode(None))


def pictures() -> Files:
    """Pictures of every format that is read, and some that are not."""
    colour = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(colour).resize((96, 80), Image.Resampling.BICUBIC)
    made: dict[str, bytes] = {}

    def save(name: str, image: Image.Image, kind: str, **options: object) -> None:
        content = io.BytesIO()
        try:
            image.save(content, kind, **options)
        except (OSError, KeyError, ValueError):  # a Pillow without that codec
            return
        made[name] = content.getvalue()

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    save("turned.jpg", picture, "JPEG", exif=exif, icc_profile=profile)
    save("print.jpg", picture.convert("CMYK"), "JPEG", progressive=True)
    save("see-through.png", picture.convert("RGBA"), "PNG", icc_profile=profile)
    save("table.png", picture.convert("P"), "PNG", transparency=3)
    save("deep.png", Image.fromarray(np.arange(96 * 80, dtype=np.uint16).reshape(80, 96) * 8), "PNG")
    save("deep.tiff", Image.fromarray(np.linspace(0, 1, 96 * 80, dtype=np.float32).reshape(80, 96)), "TIFF")
    save("packed.tiff", picture, "TIFF", compression="tiff_lzw")
    for suffix, kind in (("webp", "WEBP"), ("bmp", "BMP"), ("gif", "GIF"), ("ppm", "PPM"), ("jp2", "JPEG2000")):
        save(f"plain.{suffix}", picture, kind)
    save("plain.avif", picture, "AVIF")
    save("plain.ico", picture, "ICO")
    save("plain.eps", picture, "EPS")
    save("grey.png", picture.convert("L"), "PNG", icc_profile=grey_profile(1.8))
    save("press.jpg", picture.convert("CMYK"), "JPEG", icc_profile=cmyk_profile())
    save("several.tiff", picture, "TIFF", save_all=True, append_images=[picture])
    heic = ROOT / "tests" / "unit" / "data" / "heic"
    return made | {path.name: path.read_bytes() for path in sorted(heic.glob("*.heic"))}


_SRT = """\
1
00:00:00,000 --> 00:00:01,200
[happy 0.8] Good morning!

2
00:00:01,300 --> 00:00:02,500
<i>[a little sad]</i> It rains.

3
00:00:03,000 --> 00:00:04,000
[music] Well [angry:0.5+fear:0.2] then.
"""
_ROLLING = """\
WEBVTT
Kind: captions
Language: en

00:00:00.000 --> 00:00:01.500 align:start position:0%
\x20
[happy]<00:00:00.400><c> good</c>

00:00:01.500 --> 00:00:01.510
[happy] good
\x20
"""
_VTT = """\
WEBVTT - a title

NOTE nothing

STYLE
::cue { color: red }

first
00:01.000 --> 00:02.000
<v Anna>[surprised] Oh!

00:02.000 --> 01:00:03.000 line:0
[neutral] Good.
"""
_TEXT = """\
[happy 0.8] Good morning! [a little sad] It rains.
[very scared 50%] What? [happy:0.5+surprised:0.5] You!
"""
_WIDE = """\
［happy 0.8］おはよう！［悲しい］雨。
[开心] 你好 [traurig] Regen [triste] la pluie [enfadado] no.
"""


def captions() -> Files:
    """Subtitles and texts with tags."""
    content = {"a.srt": _SRT, "b.vtt": _ROLLING, "c.vtt": _VTT, "d.txt": _TEXT, "e.txt": _WIDE, "f.srt": _SRT + _WIDE}
    return {name: text.encode() for name, text in content.items()}


def words() -> Files:
    """Emotions as they are written on the command line, with the suffix ``words``."""
    texts = (
        "happy:0.8",
        "happy:0.5+sad:0.3",
        "a little annoyed",
        "sad but relieved",
        "happy 80%",
        "[happy] Hi! [sad] Oh",
    )
    return {f"{number}.words": text.encode() for number, text in enumerate(texts)}


TRACKS = (
    {
        "keyframes": [
            {"time": 0.0, "emotion": "happy", "intensity": 0.8, "easing": "smooth"},
            {"time": 2.4, "weights": {"sad": 0.7}},
        ]
    },
    {"values": [{"happy": 0.5}, {"happy": 0.6}, "sad:0.5+fear:0.2"], "fps": 12.5},
    {"weights": {"happy": 0.8, "sad": 0.2}, "intensity": 1.0},
)


def arrays() -> Files:
    """``.npy`` files: plain arrays, the released prior's pickled table, and one that would run something."""

    def write(folder: Path) -> None:
        mu = np.random.default_rng(0).standard_normal((1, PRIOR_DIM)).astype(np.float32)
        np.save(folder / "mu.npy", mu)
        np.save(folder / "track.npy", np.repeat(mu, 20, axis=0).astype(np.float64))
        np.save(folder / "released.npy", {"mu": mu}, allow_pickle=True)
        np.save(folder / "hostile.npy", {"mu": Marks("executed")}, allow_pickle=True)
        np.save(folder / "turned.npy", np.asfortranarray(np.repeat(mu, 3, axis=0)))

    return in_folder(write)


def emotions() -> Files:
    """Saved emotions and tracks."""

    def write(folder: Path) -> None:
        generator = torch.Generator().manual_seed(0)
        one, two = (EmotionPrior(torch.randn(PRIOR_DIM, generator=generator), torch.ones(PRIOR_DIM)) for _ in range(2))
        track = EmotionTrack((Keyframe(0.0, one, "smooth"), Keyframe(1.0, two)))
        save_emotion(SavedEmotion(one, SPACE, "me", "CC0"), folder / "one.safetensors")
        save_emotion(SavedEmotion(track, SPACE), folder / "track.safetensors")

    return in_folder(write)


def tables_of_tensors() -> Files:
    """What torch.save makes, also with more in it than tensors."""

    def write(folder: Path) -> None:
        tensors = {"a.weight": torch.randn(4, 3), "a.bias": torch.zeros(4, dtype=torch.float16)}
        torch.save(tensors, folder / "zip.pth")
        torch.save({"state_dict": tensors, "step": 3, "names": ["x"]}, folder / "nested.pth")
        torch.save(tensors, folder / "old.pth", _use_new_zipfile_serialization=False)
        torch.save({"a": Marks("executed")}, folder / "hostile.pth")

    return in_folder(write)


class _Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        found = self.layer(pictures)
        if found.mean() > 0:
            found = found * 2
        return found.flatten(1)


def scripts() -> Files:
    """TorchScript archives."""

    def write(folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scripted = torch.jit.script(_Detector().eval())
            scripted.save(str(folder / "scripted.pt"))
            torch.jit.freeze(scripted).save(str(folder / "frozen.pt"))
        torch.save({"a": torch.zeros(3)}, folder / "no-script.pt")

    return in_folder(write)


def configs() -> Files:
    """The training configs of the examples."""
    return {path.name: path.read_bytes() for path in sorted((ROOT / "examples").glob("*.yaml"))}


def data_table() -> Files:
    """The table of a data set, and a video that it names."""
    rows = [
        "video,identity,emotion,intensity,split",
        "a.mp4,anna,happy,0.5,train",
        '"sub/b, c.mp4",bert,sad,,',
        "a.mp4,x,,,test",
    ]
    return {"table.csv": "\n".join(rows).encode() + b"\n", "a.mp4": b"nothing", "1001_DFA_ANG_XX.flv": b"nothing"}


def description() -> dict[str, object]:
    """What the bundled recogniser's table says, and what may be left out."""
    values = json.loads((ROOT / "dicetalk/assets/face_expression/face_expression.json").read_text())
    return {"colour": "rgb", "layout": "nchw", "output": "logits", "expand": 0.0, "square": False} | values
