"""Any picture to upright 8-bit RGB: every mode, every damage."""

import io
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from dicetalk.errors import PortraitError
from dicetalk.hooks import Hooks
from dicetalk.portrait.read import MAX_ASPECT, MAX_PIXELS, MAX_SIDE, MIN_SIDE, read_picture


def gradient(height: int = 70, width: int = 90) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=-1).astype(np.uint8)


def close(actual: np.ndarray, expected: np.ndarray, tolerance: int = 0) -> bool:
    assert actual.dtype == np.uint8 and actual.shape == expected.shape
    return bool(np.abs(actual.astype(int) - expected).max() <= tolerance)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm", "a.webp", "a.gif", "a.jpg"])
def test_formats(name: str, tmp_path: Path) -> None:
    flat = np.full((70, 90, 3), (200, 30, 90), np.uint8)
    options = {"lossless": True} if name.endswith("webp") else {}
    Image.fromarray(flat).save(tmp_path / name, **options)
    picture = read_picture(tmp_path / name)
    assert close(picture, flat, tolerance=3 if name.endswith("jpg") else 0)
    assert picture.flags.c_contiguous and picture.flags.writeable
    assert close(read_picture(str(tmp_path / name)), picture)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, tmp_path: Path) -> None:
    upright = np.zeros((80, 120, 3), np.uint8)
    upright[:20, :20] = (255, 0, 0)  # a mark in the upper left corner
    upright[:20, -20:] = (0, 255, 0)
    turn_back = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
    turn_back |= {6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose[turn_back[orientation]])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    assert close(read_picture(tmp_path / "turned.png"), upright)
    with Image.open(tmp_path / "turned.png") as opened:
        assert close(read_picture(opened), upright)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "LAB"])
def test_modes(mode: str) -> None:
    grey = np.full((70, 90, 3), 255, np.uint8)
    grey[:, :40] = 0
    converted = Image.fromarray(grey).convert("P" if mode == "P" else "L" if mode in ("1", "L") else "RGB")
    if mode == "LAB":
        lab = np.zeros((70, 90, 3), np.uint8)
        lab[:, 40:, 0] = 255  # L of white; a and b of 0 are neutral
        converted = Image.frombytes("LAB", (90, 70), lab.tobytes())
    elif mode not in ("P", "L"):
        converted = converted.convert(mode)
    assert converted.mode == mode
    assert close(read_picture(converted), grey, tolerance=1)


def test_sixteen_bits(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 70 * 90).reshape(70, 90).astype(np.uint16)
    expected = np.rint(grey / 257).astype(np.uint8)[..., None].repeat(3, axis=2)
    Image.fromarray(grey).save(tmp_path / "grey16.png")
    assert close(read_picture(tmp_path / "grey16.png"), expected)
    assert close(read_picture(Image.fromarray(grey.astype(np.int32))), expected)
    assert close(read_picture(grey), expected)
    with pytest.raises(PortraitError, match="16 bits"):
        read_picture(Image.fromarray(np.full((70, 90), 1 << 20, np.int32)))
    with pytest.raises(PortraitError, match="float"):
        read_picture(Image.fromarray(np.zeros((70, 90), np.float32)))


def test_transparent_pixels_are_laid_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((70, 90, 4), np.uint8)
    rgba[:, 30:, 3] = 255
    rgba[:, 60:] = (100, 0, 200, 128)
    expected = np.zeros((70, 90, 3), np.uint8)
    expected[:, :30] = 255
    expected[:, 60:] = (177, 127, 227)
    assert close(read_picture(rgba), expected)
    assert close(read_picture(torch.from_numpy(rgba).float() / 255), expected)
    assert close(read_picture(Image.fromarray(rgba)), expected)
    assert close(
        read_picture(Image.fromarray(rgba[..., 2:]).convert("RGBA")), read_picture(Image.fromarray(rgba[..., 2:]))
    )
    palette = Image.fromarray(gradient()).quantize(4)
    palette.info["transparency"] = 0
    palette.save(tmp_path / "palette.png")
    picture = read_picture(tmp_path / "palette.png")
    where = np.asarray(palette) == 0
    assert where.any() and (picture[where] == 255).all() and not (picture[~where] == 255).all()


ALPHA_KINDS = ["PNG", "WEBP", "TIFF", "LA", "16 bits", "palette", "GIF", "AVIF", "array", "tensor", "Pillow"]


@pytest.mark.parametrize("kind", ALPHA_KINDS)
def test_a_note_names_transparency_and_an_opaque_channel_none(kind: str, tmp_path: Path) -> None:
    """A tenth of the picture is cut out; of the other file the channel is there, and full."""
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")

    def source(cut: bool) -> Any:
        rgba = np.dstack([gradient(100, 100), np.full((100, 100), 255, np.uint8)])
        if cut:
            rgba[:10, :, 3] = 0
        path = tmp_path / f"a.{kind.lower()}"
        if kind == "array":
            return rgba
        if kind == "tensor":
            return torch.from_numpy(rgba)[None].float() / 255
        picture = Image.fromarray(rgba)
        if kind == "Pillow":
            return picture
        if kind == "16 bits":
            return rgba.astype(np.uint16) * 257
        if kind == "LA":
            picture, path = picture.convert("LA"), tmp_path / "a.png"
        if kind == "palette":  # a colour that is transparent, and is used or not
            indices = np.asarray(picture.convert("RGB").quantize(8)).copy()
            indices[: 10 * cut] = 9
            palette = picture.convert("RGB").quantize(16).getpalette()
            picture, path = Image.fromarray(indices), tmp_path / "a.png"
            picture.putpalette(palette)
            picture.save(path, transparency=9)
            return path
        picture.save(path, "PNG" if kind == "LA" else kind)
        return path

    for cut in (False, True):
        notices: list[str] = []
        picture = read_picture(source(cut), Hooks(notice=notices.append))
        share = "10 % of its area; it is laid on white."
        assert [text.split(" is transparent in ")[1] for text in notices] == [share] * cut
        assert (picture[:8] > 247).all() == cut
        assert not cut or ("a." in notices[0]) == isinstance(source(cut), Path)


def test_a_hole_of_a_few_pixels_is_noted_too() -> None:
    rgba = np.full((80, 80, 4), 255, np.uint8)
    rgba[:2, :2, 3] = 128
    notices: list[str] = []
    read_picture(rgba, Hooks(notice=notices.append))
    assert len(notices) == 1 and "transparent in less than 1 % of its area" in notices[0]


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (90, 70), colour) for colour in ("red", "blue")]
    for name in ("animated.gif", "animated.webp", "animated.png"):
        options = {"lossless": True} if name.endswith("webp") else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        assert close(read_picture(tmp_path / name), np.full((70, 90, 3), (255, 0, 0), np.uint8))


def test_arrays_and_tensors_of_every_form() -> None:
    picture = gradient()
    assert close(read_picture(picture), picture)
    assert close(read_picture(picture.astype(np.float64) / 255), picture)
    assert close(read_picture(torch.from_numpy(picture).float()[None] / 255), picture)
    assert close(read_picture((torch.from_numpy(picture).float() / 255).bfloat16()), picture, tolerance=1)
    assert close(read_picture(torch.from_numpy(picture)), picture)
    assert not np.shares_memory(read_picture(picture), picture)
    grey = picture[..., :1].repeat(3, axis=2)
    assert close(read_picture(picture[..., 0]), grey)
    assert close(read_picture(picture[..., :1]), grey)
    assert close(read_picture(torch.tensor(1.05).expand(70, 90, 3)), np.full_like(picture, 255))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (np.full((70, 90, 3), np.nan, np.float32), "nan"),
        (np.full((70, 90, 3), np.inf, np.float32), "inf"),
        (np.full((70, 90, 3), 200.0), "200"),
        (np.full((70, 90, 3), -1.0), "-1"),
        (np.zeros((70, 90, 3), np.int64), "int64"),
        (np.zeros((70, 90, 3), bool), "bool"),
        (np.zeros((70, 90, 5), np.uint8), r"\(70, 90, 5\)"),
        (np.zeros((2, 70, 90, 3), np.uint8), r"\(2, 70, 90, 3\)"),
        (np.zeros((), np.uint8), r"\(\)"),
        (torch.zeros(2, 70, 90, 3), "2"),
        (torch.zeros(3, 70, 90), r"\(3, 70, 90\)"),
        (np.zeros((0, 90, 3), np.uint8), "90 x 0"),
        (17, "int"),
    ],
)
def test_sources_that_are_no_picture(source: object, says: str) -> None:
    with pytest.raises(PortraitError, match=says):
        read_picture(source)


@given(
    width=st.one_of(st.integers(1, 200), st.sampled_from([MAX_SIDE, MAX_SIDE + 1])),
    height=st.one_of(st.integers(1, 200), st.sampled_from([MAX_SIDE, MAX_SIDE + 1])),
)
def test_sizes(width: int, height: int) -> None:
    short, long = sorted((width, height))
    pixels = np.broadcast_to(np.uint8(7), (height, width))
    if short >= MIN_SIDE and short * long <= MAX_PIXELS and long <= MAX_ASPECT * short:
        if long <= 200:
            assert read_picture(pixels).shape == (height, width, 3)
    else:
        with pytest.raises(PortraitError, match=f"{width} x {height}"):
            read_picture(pixels)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header promises a size and whose data does not hold it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [MAX_SIDE + 1, 11_000, 60_000])
def test_decompression_bombs_are_refused_by_their_header(side: int, tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_of_size(side, side))
    with pytest.raises(PortraitError, match="Scale it down"):
        read_picture(tmp_path / "bomb.png")


@pytest.mark.parametrize(
    "content", [b"", b"<html></html>", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n"]
)
def test_files_that_are_no_picture(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(PortraitError, match=r"a\.png cannot be read"):
        read_picture(tmp_path / "a.png")
    with pytest.raises(PortraitError, match="does not exist"):
        read_picture(tmp_path / "b.png")
    with pytest.raises(PortraitError, match="not a file"):
        read_picture(tmp_path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_truncated_files(kind: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    whole = buffer.getvalue()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PortraitError, match="cut"):
        read_picture(tmp_path / "cut")


@given(st.data())
def test_damaged_bytes_never_escape_as_another_error(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF"]))
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(gradient()).save(buffer, kind, exif=exif)
    raw = bytearray(buffer.getvalue())
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=8)
    ):
        raw[position] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged"
        path.write_bytes(raw)
        try:
            picture = read_picture(path)
        except PortraitError:
            return
        assert picture.dtype == np.uint8 and picture.shape[2] == 3


# Files as people have them


def profile_of(primaries: str) -> bytes:
    """Display P3, as phones and their cameras write it: sRGB's curve, and primaries of its own (ICC.1, matrix/TRC)."""
    columns = {
        "P3": [(0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)],
        "swapped": [(0.14307, 0.06061, 0.71410), (0.38515, 0.71688, 0.09708), (0.43607, 0.22249, 0.01392)],
    }[primaries]

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"para\0\0\0\0\0\3\0\0" + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    name = primaries.encode() + b"\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)
    tags = {b"desc": text, b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249)}
    for letter, column in zip("rgb", columns, strict=True):
        tags[f"{letter}XYZ".encode()] = b"XYZ \0\0\0\0" + fixed(*column)
        tags[f"{letter}TRC".encode()] = curve
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        content += bytes(-len(content) % 4)
        table += tag + struct.pack(">II", start + len(data), len(content))
        data += content
    body = struct.pack(">I", len(tags)) + table + data
    header = struct.pack(">I4sI", 128 + len(body), b"\0\0\0\0", 0x04000000) + b"mntrRGB XYZ " + bytes(12) + b"acsp"
    return header.ljust(68, b"\0") + fixed(0.9642, 1, 0.8249) + bytes(48) + body


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("alpha", [False, True])
def test_colours_follow_the_profile(kind: str, alpha: bool, tmp_path: Path) -> None:
    """A pure red of Display P3 is more than sRGB has; one of half the saturation is a stronger red in numbers."""
    if alpha and kind == "JPEG":
        pytest.skip("it has none")
    stored = Image.new("RGBA" if alpha else "RGB", (80, 80), (200, 100, 100, 255)[: 3 + alpha])
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
    stored.save(tmp_path / "a", kind, icc_profile=profile_of("P3"), **options)
    # By the matrices of SMPTE EG 432-1 and IEC 61966-2-1, worked out by hand.
    assert np.abs(read_picture(tmp_path / "a")[40, 40].astype(int) - [213, 95, 97]).max() <= 2
    stored.save(tmp_path / "a", kind, icc_profile=profile_of("swapped"), **options)
    assert np.abs(read_picture(tmp_path / "a")[40, 40].astype(int) - [100, 100, 200]).max() <= 2


def test_a_damaged_profile_is_named_and_passed_over(tmp_path: Path) -> None:
    notices: list[str] = []
    Image.new("RGB", (80, 80), (200, 100, 100)).save(tmp_path / "a.png", icc_profile=b"no profile")
    assert read_picture(tmp_path / "a.png", Hooks(notice=notices.append))[0, 0].tolist() == [200, 100, 100]
    assert len(notices) == 1 and "colour profile" in notices[0]


def test_cmyk_grey_palette_and_16_bits(tmp_path: Path) -> None:
    grey = np.full((80, 80), 153, np.uint8)  # one of the palette
    for mode, kind in (("CMYK", "JPEG"), ("CMYK", "TIFF"), ("P", "PNG"), ("LA", "PNG"), ("L", "JPEG")):
        Image.fromarray(np.stack([grey] * 3, axis=2)).convert(mode).save(tmp_path / "a", kind)
        assert np.abs(read_picture(tmp_path / "a").astype(int) - 153).max() <= 3, (mode, kind)
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "a", "PNG")
    assert read_picture(tmp_path / "a")[0, 0].tolist() == [153] * 3


def test_formats_that_pillow_lacks_are_read_by_ffmpeg(tmp_path: Path) -> None:
    """16-bit RGB in TIFF, and a video, of which the first picture is taken."""
    import av

    notices: list[str] = []
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 96
        for value in (200, 20):
            frame = av.VideoFrame.from_ndarray(np.full((96, 96, 3), value, np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert abs(int(read_picture(tmp_path / "a.mp4", Hooks(notice=notices.append))[48, 48, 0]) - 200) < 6
    assert len(notices) == 1 and "more than one picture; the first" in notices[0]


def test_avif(tmp_path: Path) -> None:
    if not features.check("avif"):
        pytest.skip("this Pillow does not write AVIF")
    Image.fromarray(gradient()).save(tmp_path / "a.avif", quality=95)
    assert np.abs(read_picture(tmp_path / "a.avif").astype(int) - gradient()).mean() < 4


def test_panoramas_are_scaled_down_with_a_notice(tmp_path: Path) -> None:
    notices: list[str] = []
    Image.new("RGB", (9000, 1200), (10, 20, 30)).save(tmp_path / "a.jpg")
    assert read_picture(tmp_path / "a.jpg", Hooks(notice=notices.append)).shape == (1092, 8192, 3)
    assert read_picture(np.zeros((1200, 9000, 3), np.uint8), Hooks(notice=notices.append)).shape == (1092, 8192, 3)
    assert len(notices) == 2 and all("9000 x 1200" in notice and "8192 x 1092" in notice for notice in notices)


def test_an_animation_names_how_many_frames_it_has(tmp_path: Path) -> None:
    notices: list[str] = []
    frames = [Image.new("RGB", (80, 80), (value, 0, 0)) for value in (200, 20)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / "a.gif", Hooks(notice=notices.append))[0, 0, 0] == 200
    assert notices == [f"Picture {tmp_path / 'a.gif'} holds 2 frames; the first is used."]


@pytest.mark.parametrize("name", ["a" * 300 + ".png", "a\0.png", "/".join(["a" * 200] * 40)])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(PortraitError, match="cannot be used as a path"):
        read_picture(name)
