"""Picture files as Pillow opens them, their colours in sRGB; what Pillow does not know is left to FFmpeg."""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from dicetalk.errors import PortraitError
from dicetalk.hooks import Hooks
from dicetalk.media import open_media

_FORMATS = (
    *("PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF"),
    *("TGA", "ICO", "ICNS", "QOI", "DDS", "PCX", "PSD", "SGI", "SUN"),
)
"""A closed list: Pillow knows formats whose decoding starts other programs (EPS)."""

SEVERAL_STILLS = ("MPO", "HEIF")
"""Formats whose pictures are no animation: one is meant, others are views or parts of it, or pictures of their own."""

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1")
"""Stills; image sequences are films, which FFmpeg reads."""

_TIFF_PROFILE = 34675

_COLOURLESS = 16
"""Difference of channels that lossy codecs leave in a grey picture."""

_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}


def picture_formats() -> tuple[str, ...]:
    """Formats that are read, as far as the installed Pillow knows them."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


class HeicError(PortraitError):
    """A picture is HEIC, and damaged, or the plugin that reads it is not installed.

    FFmpeg reads HEIC too, but shows tiles, masks and thumbnails as pictures of one kind, and turns none.
    """


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """A picture file, opened but not decoded.

    Raises:
        HeicError: it is HEIC, and cannot be read.
        OSError: Pillow does not know it.
    """
    heic = _is_heic(path)
    if heic:
        _add_heic_plugin(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # its size is checked by whoever decodes it
        try:
            picture = Image.open(path, formats=picture_formats())
        except UnidentifiedImageError as error:
            if heic:
                raise HeicError(f"Picture {path} is HEIC, and damaged. Save it again, as JPEG or PNG.") from error
            raise
    with picture:
        yield picture


def read_by_ffmpeg(path: Path, check_size: Callable[[int, int], None], hooks: Hooks) -> Image.Image:
    """The first picture of what FFmpeg reads: formats that Pillow lacks, and videos.

    Of a TIFF that Pillow does not decode, as those of 16 bits a colour, it has the profile and the orientation.

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
        picture = Image.fromarray(np.ascontiguousarray(np.rot90(first.to_ndarray(format="rgb24"), turns)))
        if next(frames, None) is not None:
            hooks.notice(f"Picture {path} holds more than one picture; the first is used.")
    picture.info.update(_tiff_tags(path))
    return picture


def _tiff_tags(path: Path) -> dict[str, bytes]:
    """Profile and orientation of a TIFF, as Pillow names them; empty for other files, and where it is damaged."""
    found: dict[str, bytes] = {}
    with path.open("rb") as file:
        header = file.read(8)
        if header[:4] not in (b"II*\0", b"MM\0*"):
            return found
        try:
            tags = TiffImagePlugin.ImageFileDirectory_v2(header)
            file.seek(tags.next)
            tags.load(file)
            profile, orientation = tags.get(_TIFF_PROFILE), tags.get(ExifTags.Base.Orientation)
        except Exception:  # damaged tags make Pillow's reader fail in any way; FFmpeg has read the pixels
            return found
    if isinstance(profile, bytes):
        found["icc_profile"] = profile
    if orientation in range(2, 9):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        found["exif"] = exif.tobytes()
    return found


def to_srgb(picture: Image.Image, name: str, hooks: Hooks) -> Image.Image:
    """`picture` with the colours that its ICC profile means, as sRGB; alpha stays.

    Without a profile it is sRGB already. A picture of 16 bits has 8 afterwards.

    Args:
        picture: decoded or not.
        name: what a notice calls it.
        hooks: hears of a profile that cannot be used.
    """
    content = picture.info.get("icc_profile")
    if not content or picture.mode == "F":
        return picture
    try:
        from PIL import ImageCms

        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        if (ImageCms.getProfileDescription(profile) or "").strip().lower().startswith("srgb"):
            return picture
        mode = _PROFILE_MODES[profile.profile.xcolor_space.strip()]
        if picture.mode.startswith("I"):
            picture = _eight_bits(picture)
        see_through = "A" in picture.getbands() or "a" in picture.getbands() or "transparency" in picture.info
        whole = picture.convert("RGBA") if see_through else picture
        plain = whole.convert("RGB") if see_through or picture.mode == "P" else picture
        if mode == "L" and plain.mode == "RGB":
            plain = _grey(plain)
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


def _eight_bits(picture: Image.Image) -> Image.Image:
    """A grey picture of 16 bits as one of 8, which profiles are applied to."""
    values = np.asarray(picture)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("it is for 16 bits")
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


def _grey(picture: Image.Image) -> Image.Image:
    """The one channel of a picture whose three are alike; of another one a grey profile says nothing."""
    channels = np.asarray(picture).astype(np.int16)
    if np.abs(channels - channels[..., :1]).max() > _COLOURLESS:
        raise ValueError("it is for grey pictures")
    return picture.convert("L")


def _is_heic(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(40)
    return start[4:8] == b"ftyp" and start[8:12] in _HEIC_BRANDS and b"avif" not in start[8:]


def _add_heic_plugin(path: Path) -> None:
    Image.init()
    if "HEIF" in Image.OPEN:
        return
    try:
        import pillow_heif
    except ImportError as error:
        raise HeicError(
            f"Picture {path} is HEIC, as phones save it, which Pillow reads with a plugin only: pip install "
            "pillow-heif, or save the picture as JPEG or PNG."
        ) from error
    pillow_heif.register_heif_opener()
