"""Any picture to upright 8-bit RGB."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from dicetalk.errors import PortraitError

MIN_SIDE = 64
MAX_SIDE = 8192
MAX_ASPECT = 8

# A closed list: Pillow knows formats whose decoding starts other programs (EPS).
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000")
# What a float picture may overshoot by, as resampling filters do, before it is taken for one in another unit.
OVERSHOOT = 0.1

Picture = str | Path | Image.Image | np.ndarray | torch.Tensor


def read_picture(source: Picture) -> np.ndarray:
    """Read a portrait.

    Files are turned upright by their EXIF orientation; of an animated one the first frame is taken. Transparent pixels
    hold arbitrary colours, often black, so the picture is laid on white, which is what a viewer shows behind a cut-out.

    Args:
        source: a file, a Pillow picture, an array ``(H, W)`` or ``(H, W, 1 | 3 | 4)`` (uint8, uint16, or float in 0..1)
            or a tensor of the same form, which may have a batch axis of 1 in front.

    Returns:
        uint8 RGB ``(H, W, 3)``.

    Raises:
        PortraitError: the source cannot be read, or is not between 64 pixels and 8K, or is longer than 8 times its
            shorter side, or holds NaN or values out of range.
    """
    if isinstance(source, (str, Path)):
        return _read_file(Path(source))
    if isinstance(source, Image.Image):
        with _decoding("The picture"):
            return _from_pillow(source)
    if isinstance(source, torch.Tensor):
        return _from_array(_without_batch(source.detach()))
    if isinstance(source, np.ndarray):
        return _from_array(source)
    raise PortraitError(f"A picture cannot be made from {type(source).__name__}. Give a file, an array or a tensor.")


def _read_file(path: Path) -> np.ndarray:
    if not path.is_file():
        raise PortraitError(f"Picture {path} does not exist or is not a file.")
    with _decoding(f"Picture {path}"), Image.open(path, formats=FORMATS) as picture:
        return _from_pillow(picture)


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    try:
        yield
    except PortraitError:
        raise
    except Image.DecompressionBombError:
        raise PortraitError(f"{name} is larger than {MAX_SIDE} pixels a side. Scale it down.") from None
    except Exception as error:  # a damaged file makes Pillow's decoders fail in any way
        raise PortraitError(f"{name} cannot be read ({error}). Save it again, as PNG or JPEG for example.") from error


def _from_pillow(picture: Image.Image) -> np.ndarray:
    _check_size(picture.width, picture.height)
    return _to_rgb(ImageOps.exif_transpose(picture))


def _to_rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode == "F":
        raise PortraitError("The picture has 32-bit float pixels, whose white is unknown. Save it with 8 or 16 bits.")
    if picture.mode.startswith("I"):  # Pillow's own conversion would clip 16 bits at 255
        return _from_array(_checked_uint16(np.asarray(picture)))
    if "A" in picture.getbands() or "transparency" in picture.info:
        return _on_white(np.asarray(picture.convert("RGBA")))
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


def _from_array(array: np.ndarray) -> np.ndarray:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise PortraitError(
            f"An array of shape {array.shape} is no picture. Give (height, width) or (height, width, 1, 3 or 4)."
        )
    _check_size(array.shape[1], array.shape[0])
    array = _to_uint8(array).reshape(*array.shape[:2], channels)
    if channels == 4:
        return _on_white(array)
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


def _on_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _check_size(width: int, height: int) -> None:
    short, long = sorted((width, height))
    size = f"The picture has {width} x {height} pixels"
    if short < MIN_SIDE:
        raise PortraitError(f"{size}; both sides must have at least {MIN_SIDE}. Take a larger picture.")
    if long > MAX_SIDE:
        raise PortraitError(f"{size}; the longer side may have {MAX_SIDE}. Scale it down.")
    if long > MAX_ASPECT * short:
        raise PortraitError(
            f"{size}; it may be {MAX_ASPECT} times as long as wide at most. Cut out the part with the face."
        )
