"""Any picture to upright 8-bit RGB."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from dicetalk.errors import PortraitError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.paths import checked_path
from dicetalk.portrait.files import open_picture, read_by_ffmpeg, to_srgb

MIN_SIDE = 64
MAX_SIDE = 8192
MAX_ASPECT = 8

MAX_PIXELS = MAX_SIDE * MAX_SIDE
"""A picture of more is not decoded; one with a longer side is scaled down."""

OPAQUE = 250
"""Alpha from which on a pixel counts as opaque: lossy formats store a little less than 255."""

# What a float picture may overshoot by, as resampling filters do, before it is taken for one in another unit.
OVERSHOOT = 0.1

Picture = str | Path | Image.Image | np.ndarray | torch.Tensor


def read_picture(source: Picture, hooks: Hooks = SILENT) -> np.ndarray:
    """Read a portrait.

    Files are turned upright by their EXIF orientation, and the colours of an ICC profile become sRGB; of an animated
    one the first frame is taken. Transparent pixels hold arbitrary colours, often black, so the picture is laid on
    white, which is what a viewer shows behind a cut-out. A side of more than 8192 pixels is scaled down to that.

    Args:
        source: a file, a Pillow picture, an array ``(H, W)`` or ``(H, W, 1 | 3 | 4)`` (uint8, uint16, or float in 0..1)
            or a tensor of the same form, which may have a batch axis of 1 in front.
        hooks: hears if it was scaled down, has more than one frame, transparent pixels, or an unusable profile.

    Returns:
        uint8 RGB ``(H, W, 3)``.

    Raises:
        PortraitError: the source cannot be read, has a side under 64 pixels or more than 67 million pixels, is longer
            than 8 times its shorter side, or holds NaN or values out of range.
    """
    if isinstance(source, (str, Path)):
        return _scaled(_read_file(checked_path(source, PortraitError), hooks), hooks)
    if isinstance(source, Image.Image):
        with _decoding("The picture"):
            return _scaled(_from_pillow(source, "The picture", hooks), hooks)
    if isinstance(source, torch.Tensor):
        return _scaled(_from_array(_without_batch(source.detach()), hooks), hooks)
    if isinstance(source, np.ndarray):
        return _scaled(_from_array(source, hooks), hooks)
    raise PortraitError(f"A picture cannot be made from {type(source).__name__}. Give a file, an array or a tensor.")


def _read_file(path: Path, hooks: Hooks) -> np.ndarray:
    if not path.is_file():
        raise PortraitError(f"Picture {path} does not exist or is not a file.")
    with _decoding(f"Picture {path}"):
        try:
            with open_picture(path) as picture:
                frames = getattr(picture, "n_frames", 1)
                if picture.format == "HEIF" and frames > 1:  # opened at the one marked as primary
                    hooks.notice(f"Picture {path} holds {frames} pictures; the one marked as primary is used.")
                elif picture.format != "MPO" and frames > 1:
                    hooks.notice(f"Picture {path} holds {frames} frames; the first is used.")
                if picture.format == "JPEG" and picture.width * picture.height > MAX_PIXELS:
                    picture.draft(picture.mode, (picture.width // 2, picture.height // 2))  # scales while it decodes
                return _from_pillow(picture, f"Picture {path}", hooks)
        except UnidentifiedImageError:
            return _from_pillow(read_by_ffmpeg(path, _check_size, hooks), f"Picture {path}", hooks)


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    try:
        yield
    except PortraitError:
        raise
    except Image.DecompressionBombError:
        raise PortraitError(f"{name} has more than {MAX_PIXELS // 10**6} million pixels. Scale it down.") from None
    except Exception as error:  # a damaged file makes Pillow's decoders fail in any way
        raise PortraitError(f"{name} cannot be read ({error}). Save it again, as PNG or JPEG for example.") from error


def _from_pillow(picture: Image.Image, name: str, hooks: Hooks) -> np.ndarray:
    _check_size(picture.width, picture.height)
    return _to_rgb(to_srgb(ImageOps.exif_transpose(picture), name, hooks), name, hooks)


def _scaled(picture: np.ndarray, hooks: Hooks) -> np.ndarray:
    """`picture` with no side of more than :data:`MAX_SIDE`."""
    height, width = picture.shape[:2]
    if max(width, height) <= MAX_SIDE:
        return picture
    scale = MAX_SIDE / max(width, height)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    hooks.notice(
        f"The picture has {width} x {height} pixels; it is scaled down to {size[0]} x {size[1]}, in whose pixels a "
        "face's box counts."
    )
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def _to_rgb(picture: Image.Image, name: str, hooks: Hooks) -> np.ndarray:
    if picture.mode == "F":
        raise PortraitError("The picture has 32-bit float pixels, whose white is unknown. Save it with 8 or 16 bits.")
    if picture.mode.startswith("I"):  # Pillow's own conversion would clip 16 bits at 255
        return _from_array(_checked_uint16(np.asarray(picture)), hooks)
    if "A" in picture.getbands() or "transparency" in picture.info:
        return _on_white(np.asarray(picture.convert("RGBA")), name, hooks)
    return np.array(picture.convert("RGB"))


def _checked_uint16(grey: np.ndarray) -> np.ndarray:
    if grey.min() < 0 or grey.max() > 65535:
        raise PortraitError("The picture has more than 16 bits a channel. Save it with 8 or 16 bits.")
    return grey.astype(np.uint16)


def _without_batch(tensor: torch.Tensor) -> np.ndarray:
    if tensor.ndim == 4:
        if len(tensor) != 1:
            raise PortraitError(f"A portrait is one picture, the tensor holds {len(tensor)}. Choose one of them.")
        tensor = tensor[0]
    if tensor.is_floating_point():
        tensor = tensor.float()
    return tensor.cpu().numpy()


def _from_array(array: np.ndarray, hooks: Hooks) -> np.ndarray:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise PortraitError(
            f"An array of shape {array.shape} is no picture. Give (height, width) or (height, width, 1, 3 or 4)."
        )
    _check_size(array.shape[1], array.shape[0])
    array = _to_uint8(array).reshape(*array.shape[:2], channels)
    if channels == 4:
        return _on_white(array, "The picture", hooks)
    return np.array(np.broadcast_to(array, (*array.shape[:2], 3)), order="C")


def _to_uint8(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise PortraitError(f"A picture of {array.dtype} has no known white. Give uint8, uint16, or float in 0..1.")
    low, high = float(array.min()), float(array.max())
    if not (low >= -OVERSHOOT and high <= 1 + OVERSHOOT):  # NaN is in no range
        raise PortraitError(
            f"The picture's values run from {low:g} to {high:g}. Float pictures lie in 0..1, without NaN."
        )
    return np.rint(array.clip(0, 1) * 255).astype(np.uint8)


def _on_white(rgba: np.ndarray, name: str, hooks: Hooks) -> np.ndarray:
    alpha = rgba[..., 3:].astype(np.uint16)
    if clear := np.count_nonzero(alpha < OPAQUE):
        share = f"{percent} %" if (percent := 100 * clear // alpha.size) else "less than 1 %"
        hooks.notice(f"{name} is transparent in {share} of its area; it is laid on white.")
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _check_size(width: int, height: int) -> None:
    short, long = sorted((width, height))
    size = f"The picture has {width} x {height} pixels"
    if short < MIN_SIDE:
        raise PortraitError(f"{size}; both sides must have at least {MIN_SIDE}. Take a larger picture.")
    if short * long > MAX_PIXELS:
        raise PortraitError(f"{size}; all in all it may have {MAX_PIXELS // 10**6} million. Scale it down.")
    if long > MAX_ASPECT * short:
        raise PortraitError(
            f"{size}; it may be {MAX_ASPECT} times as long as wide at most. Cut out the part with the face."
        )
