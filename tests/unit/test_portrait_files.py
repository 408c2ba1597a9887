"""Picture files as phones, cameras and print shops make them.

The files in `data/heic` were written by libheif 1.23 with x265, from the pictures that :func:`gradient` makes; `grid`
has six tiles of 64 pixels, as phones have dozens of 512, and `turned2` to `turned8` the turn of that EXIF number.
"""

import io
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from icc_profiles import ADOBE_RGB, PROPHOTO, cmyk_profile, grey_profile, rgb_profile
from PIL import Image, ImageCms, features

from dicetalk.emotion.reference.clip import open_reference
from dicetalk.errors import PortraitError
from dicetalk.hooks import Hooks
from dicetalk.portrait.read import read_picture

HEIC = Path(__file__).parent / "data" / "heic"
TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
TURNS |= {6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}
"""What an orientation asks to be done with the stored picture."""

PROFILES = {
    "Adobe RGB": rgb_profile("Adobe RGB", ADOBE_RGB, 563 / 256),
    "ProPhoto": rgb_profile("ProPhoto", PROPHOTO, 1.8),
    "grey": grey_profile(1.8),
    "CMYK": cmyk_profile(),
}


def gradient(width: int = 96, height: int = 80) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 128)], -1).astype(np.uint8)


def read(source: Path) -> tuple[np.ndarray, list[str]]:
    notices: list[str] = []
    return read_picture(source, Hooks(notice=notices.append)), notices


def off(one: np.ndarray, other: np.ndarray) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other).max())


@pytest.fixture
def without_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)


@pytest.mark.parametrize("turn", range(2, 9))
def test_heic_is_turned(turn: int) -> None:
    upright = np.asarray(Image.fromarray(gradient()).transpose(Image.Transpose[TURNS[turn]]))
    picture, notices = read(HEIC / f"turned{turn}.heic")
    assert off(picture, upright) < 12 and not notices
    (seen,) = open_reference(HEIC / f"turned{turn}.heic").pictures()
    assert np.array_equal(seen, picture)


@pytest.mark.parametrize(
    ("name", "size"), [("grid", (160, 112)), ("odd", (95, 79)), ("two", (96, 80)), ("bt709", (96, 80))]
)
def test_heic_of_tiles_of_odd_size_of_several_pictures_and_of_another_matrix(name: str, size: tuple[int, int]) -> None:
    picture, notices = read(HEIC / f"{name}.heic")
    assert off(picture, gradient(*size)) < 20 and np.abs(picture.astype(int) - gradient(*size)).mean() < 3
    assert ["2 pictures; the one marked as primary is used" in text for text in notices] == [True] * (name == "two")
    reference = open_reference(HEIC / f"{name}.heic")
    assert reference.frames == 1 and np.array_equal(next(reference.pictures()), picture)


def test_heic_with_alpha_and_with_a_profile() -> None:
    picture, notices = read(HEIC / "alpha.heic")
    assert (picture[:, :46] >= 250).all() and off(picture[:, 52:], gradient()[:, 52:]) < 12
    assert len(notices) == 1 and "is laid on white" in notices[0]
    flat = Image.new("RGB", (80, 80), (200, 100, 100))
    assert off(read(HEIC / "adobe.heic")[0], converted(flat, PROFILES["Adobe RGB"])) <= 3


@pytest.mark.parametrize("name", ["grid", "turned6"])
@pytest.mark.usefixtures("without_plugin")
def test_heic_names_its_plugin(name: str) -> None:
    with pytest.raises(PortraitError, match=r"HEIC.*pip install pillow-heif.*JPEG or PNG"):
        read(HEIC / f"{name}.heic")
    with pytest.raises(PortraitError, match="pip install pillow-heif"):
        next(open_reference(HEIC / f"{name}.heic").pictures())


def test_damaged_heic_is_refused(tmp_path: Path) -> None:
    whole = (HEIC / "grid.heic").read_bytes()
    for damaged in (whole[:600], whole.replace(b"hvc1", b"hvc9"), whole.replace(b"dimg", b"none")):
        (tmp_path / "a.heic").write_bytes(damaged)
        with pytest.raises(PortraitError, match="is HEIC, and damaged"):
            read(tmp_path / "a.heic")
        with pytest.raises(PortraitError, match="is HEIC, and damaged"):
            next(open_reference(tmp_path / "a.heic").pictures())


@pytest.mark.usefixtures("without_plugin")
def test_a_heic_sequence_is_read_as_a_film(tmp_path: Path) -> None:
    if not shutil.which("ffmpeg"):
        pytest.skip("the program ffmpeg is not installed")
    command = "ffmpeg -v error -f lavfi -i color=red:s=96x80:r=5:d=1 -c:v libx265 -x265-params log-level=none"
    options = ["-tag:v", "hvc1", "-brand", "msf1", "-f", "mp4", str(tmp_path / "a.heics")]
    if subprocess.run([*command.split(), *options], capture_output=True).returncode:
        pytest.skip("this ffmpeg has no encoder of HEVC")
    picture, notices = read(tmp_path / "a.heics")
    assert off(picture, np.full((80, 96, 3), (254, 0, 0))) < 6
    assert len(notices) == 1 and "more than one picture; the first is used" in notices[0]
    assert open_reference(tmp_path / "a.heics").frames > 5


# Colours


def converted(picture: Image.Image, profile: bytes) -> np.ndarray:
    """The colours as Little CMS gives them, through Pillow's own call."""
    return np.asarray(
        ImageCms.profileToProfile(
            picture,
            io.BytesIO(profile),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    )


def patches(mode: str) -> Image.Image:
    colours = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((84, 72), Image.Resampling.NEAREST).convert(mode)


KINDS = {"PNG": {}, "JPEG": {"quality": 100, "subsampling": 0}, "TIFF": {}, "WEBP": {"lossless": True}}
HELD = {"PNG": ("RGB", "RGBA", "P", "L", "LA"), "JPEG": ("RGB", "L", "CMYK"), "WEBP": ("RGB", "RGBA", "P", "L")}
HELD["TIFF"] = (*HELD["PNG"], "CMYK")
MODES = [("Adobe RGB", "RGB"), ("Adobe RGB", "RGBA"), ("Adobe RGB", "P"), ("Adobe RGB", "L"), ("ProPhoto", "RGB")]
MODES += [("grey", "L"), ("grey", "LA"), ("CMYK", "CMYK")]


@pytest.mark.parametrize(("name", "mode", "kind"), [(n, m, k) for n, m in MODES for k in KINDS if m in HELD[k]])
def test_colours_are_those_of_the_profile(name: str, mode: str, kind: str, tmp_path: Path) -> None:
    patches(mode).save(tmp_path / "a", kind, icc_profile=PROFILES[name], **KINDS[kind])
    picture, notices = read(tmp_path / "a")
    with Image.open(tmp_path / "a") as stored:
        assert stored.info["icc_profile"] == PROFILES[name]
        wanted = converted(stored.convert({"grey": "L", "CMYK": "CMYK"}.get(name, "RGB")), PROFILES[name])
        plain = np.asarray(stored.convert("RGB"))
    assert off(picture, wanted) <= 1 and not notices
    assert off(picture, plain) > 2  # the profile does something


def test_wide_colours_by_hand(tmp_path: Path) -> None:
    """By the curves and matrices of Adobe RGB (1998) and ROMM RGB, worked out outside this program."""
    for name, stored, wanted in (
        ("Adobe RGB", (200, 100, 100), (227, 100, 100)),
        ("Adobe RGB", (128, 128, 128), (129, 129, 129)),
        ("ProPhoto", (128, 128, 128), (146, 146, 146)),
    ):
        Image.new("RGB", (80, 80), stored).save(tmp_path / "a.png", icc_profile=PROFILES[name])
        assert off(read(tmp_path / "a.png")[0][:1, :1], np.array(wanted)[None, None]) <= 2, name
    Image.new("L", (80, 80), 128).save(tmp_path / "a.png", icc_profile=PROFILES["grey"])
    assert off(read(tmp_path / "a.png")[0][:1, :1], np.full((1, 1, 3), 146)) <= 2


def test_a_profile_for_other_pictures_is_named_and_passed_over(tmp_path: Path) -> None:
    """A grey profile would turn colours grey; one of a press says nothing of a screen's colours."""
    for name in ("grey", "CMYK"):
        patches("RGB").save(tmp_path / "a.png", icc_profile=PROFILES[name])
        picture, notices = read(tmp_path / "a.png")
        assert off(picture, np.asarray(patches("RGB"))) == 0
        assert len(notices) == 1 and "colour profile cannot be used" in notices[0]


def deep_png(path: Path, pixels: np.ndarray, profile: bytes | None = None) -> None:
    """A PNG of 16 bits, as ``cv2`` writes it, with a profile."""
    import zlib

    import cv2

    content = cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()
    if profile is not None:
        chunk = b"iCCPx\0\0" + zlib.compress(profile)
        chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        content = content[:33] + chunk + content[33:]
    path.write_bytes(content)


def test_png_of_sixteen_bits(tmp_path: Path) -> None:
    colours = np.random.default_rng(1).integers(0, 65536, (72, 84, 3)).astype(np.uint16)
    deep_png(tmp_path / "a.png", colours)
    assert off(read(tmp_path / "a.png")[0], np.rint(colours / 257)) <= 1
    deep_png(tmp_path / "a.png", colours[..., 0])
    assert off(read(tmp_path / "a.png")[0], np.rint(colours[..., :1] / 257).repeat(3, 2)) <= 1
    deep_png(tmp_path / "a.png", colours[..., 0], PROFILES["grey"])
    grey = Image.fromarray(np.rint(colours[..., 0] / 257).astype(np.uint8))
    picture, notices = read(tmp_path / "a.png")
    assert off(picture, converted(grey, PROFILES["grey"])) <= 2 and not notices
    deep_png(tmp_path / "a.png", colours, PROFILES["ProPhoto"])
    eight = Image.fromarray(np.rint(colours / 257).astype(np.uint8))
    difference = np.abs(read(tmp_path / "a.png")[0].astype(int) - converted(eight, PROFILES["ProPhoto"]))
    assert difference.mean() < 1.5  # a step of 8 bits is several after a steep curve


def deep_tiff(path: Path, pixels: np.ndarray, profile: bytes, orientation: int) -> None:
    """An uncompressed TIFF of 16 bits a colour, as raw converters write it."""
    height, width, _ = pixels.shape
    data = pixels.astype("<u2").tobytes()
    after = 8 + len(data)
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, after), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 8),
        (274, 3, 1, orientation), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(data)),
        (34675, 7, len(profile), after + 6),
    ]  # fmt: skip
    extra = struct.pack("<3H", 16, 16, 16) + profile
    extra += bytes(len(extra) % 2)
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", after + len(extra)) + data + extra + table)


@pytest.mark.parametrize("orientation", [1, 6, 3])
def test_tiff_of_sixteen_bits_keeps_its_profile_and_orientation(orientation: int, tmp_path: Path) -> None:
    """Pillow does not decode it, so FFmpeg does."""
    stored = Image.fromarray(gradient())
    deep_tiff(tmp_path / "a.tif", np.asarray(stored).astype(np.uint16) * 257, PROFILES["Adobe RGB"], orientation)
    if orientation in TURNS:
        stored = stored.transpose(Image.Transpose[TURNS[orientation]])
    picture, notices = read(tmp_path / "a.tif")
    assert off(picture, converted(stored, PROFILES["Adobe RGB"])) <= 3 and not notices


# Orientation and animations


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_orientation_in_every_format(kind: str, orientation: int, tmp_path: Path) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow does not write AVIF")
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind in ("JPEG", "MPO", "AVIF") else {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(gradient()).save(tmp_path / "a", kind, exif=exif, **options)
    upright = np.asarray(Image.fromarray(gradient()).transpose(Image.Transpose[TURNS[orientation]]))
    picture, _ = read(tmp_path / "a")
    assert off(picture, upright) < 16


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_the_first_frame_with_a_note(kind: str, tmp_path: Path) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow does not write AVIF")
    frames = [Image.new("RGB", (80, 72), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / "a", kind, save_all=True, append_images=frames[1:])
    picture, notices = read(tmp_path / "a")
    assert off(picture, np.full((72, 80, 3), (255, 0, 0))) < 8
    assert notices == [f"Picture {tmp_path / 'a'} holds 3 frames; the first is used."]
    assert open_reference(tmp_path / "a").pictures is not None


def test_notices_of_a_still_reference_are_heard(tmp_path: Path) -> None:
    Image.new("RGB", (80, 72)).save(tmp_path / "a.png", icc_profile=b"no profile")
    notices: list[str] = []
    open_reference(tmp_path / "a.png", hooks=Hooks(notice=notices.append))
    assert len(notices) == 1 and "colour profile" in notices[0]
