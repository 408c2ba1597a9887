"""Picture files as Pillow opens them, their colours in sRGB; what Pillow does not know is left to FFmpeg."""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from dicetalk.errors import PortraitError
from dicetalk.hooks import Hooks
from dicetalk.media import open_media

_FORMATS = (
    *("PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF"),
    *("TGA", "ICO", "ICNS", "QOI", "DDS", "PCX", "PSD", "SGI", "SUN"),
)
"""A closed list: Pillow knows formats whose decoding starts other programs (EPS)."""

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}


def picture_formats() -> tuple[str, ...]:
    """Formats that are read, as far as the installed Pillow knows them."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """A picture file, opened but not decoded.

    Raises:
        PortraitError: it is HEIC, and no plugin of Pillow reads that.
        OSError: Pillow does not know it.
    """
    _check_heic(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # its size is checked by whoever decodes it
        picture = Image.open(path, formats=picture_formats())
    with picture:
        yield picture


def read_by_ffmpeg(path: Path, check_size: Callable[[int, int], None], hooks: Hooks) -> np.ndarray:
    """The first picture of what FFmpeg reads: formats that Pillow lacks, and videos.

    Args:
        path: the file.
        check_size: called with width and height before anything is decoded.
        hooks: hears if there are more pictures.

    Raises:
        FFmpegError: it is no such file.
        PortraitError: it holds no picture, or `check_size` refuses it.
    """
    with path.open("rb") as file, open_media(file) as container:
        if not container.streams.video:
            raise PortraitError(f"Picture {path} holds no picture.")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise PortraitError(f"Picture {path} is of a kind that is not read here. Save it as PNG or JPEG.")
        if not stream.codec_context.width or not stream.codec_context.height:
            raise ValueError("it is no picture")
        check_size(stream.codec_context.width, stream.codec_context.height)
        frames = container.decode(stream)
        first = next(frames)
        check_size(first.width, first.height)
        turns = round(first.rotation / 90) % 4
        pixels = np.ascontiguousarray(np.rot90(first.to_ndarray(format="rgb24"), turns))
        if next(frames, None) is not None:
            hooks.notice(f"Picture {path} holds more than one picture; the first is used.")
        return pixels


def to_srgb(picture: Image.Image, name: str, hooks: Hooks) -> Image.Image:
    """`picture` with the colours that its ICC profile means, as sRGB; alpha stays.

    Without a profile it is sRGB already.

    Args:
        picture: decoded or not.
        name: what a notice calls it.
        hooks: hears of a profile that cannot be used.
    """
    content = picture.info.get("icc_profile")
    if not content or picture.mode.startswith(("I", "F")):
        return picture
    try:
        from PIL import ImageCms

        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        if (ImageCms.getProfileDescription(profile) or "").strip().lower().startswith("srgb"):
            return picture
        mode = _PROFILE_MODES[profile.profile.xcolor_space.strip()]
        see_through = "A" in picture.getbands() or "a" in picture.getbands() or "transparency" in picture.info
        whole = picture.convert("RGBA") if see_through else picture
        plain = whole.convert("RGB") if see_through or picture.mode == "P" else picture
        if mode == "L" and plain.mode == "RGB":
            plain = plain.convert("L")
        elif mode == "RGB" and plain.mode in ("1", "L"):
            plain = plain.convert("RGB")
        converted = ImageCms.profileToProfile(
            plain,
            profile,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except Exception as error:  # a damaged profile makes the reader, or the table above, fail in any way
        reason = str(error) or type(error).__name__
        hooks.notice(f"{name}: its colour profile cannot be used ({reason[:80]}); the colours are taken for sRGB.")
        return picture
    if converted is None:  # by Pillow's types; only a conversion in place returns nothing
        return picture
    if see_through:
        converted.putalpha(whole.getchannel("A"))
    return converted


def _check_heic(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(40)
    if start[4:8] != b"ftyp" or start[8:12] not in _HEIC_BRANDS or b"avif" in start[8:]:
        return
    Image.init()
    if "HEIF" in Image.OPEN:
        return
    try:
        import pillow_heif
    except ImportError as error:
        raise PortraitError(
            f"Picture {path} is HEIC, as phones save it, which Pillow reads with a plugin only: pip install "
            "pillow-heif, or save the picture as JPEG or PNG."
        ) from error
    pillow_heif.register_heif_opener()
