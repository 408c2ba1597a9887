"""HEIF stills (HEIC, AVIF) by FFmpeg, where no plugin of Pillow reads them.

FFmpeg decodes every coded picture of such a file as a stream of its own. The boxes of the file (ISO/IEC 14496-12 and
23008-12) say which of them is meant, of which tiles it consists, how it is turned and cut, and what its colours are.
"""

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from dicetalk.errors import PortraitError
from dicetalk.hooks import Hooks
from dicetalk.media import open_media
from dicetalk.portrait.heif_boxes import CODED, GRID, Still, still_of, top_boxes

BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis")

WAY_ON = "Install the plugin of Pillow that reads it (pip install pillow-heif), or save the picture as JPEG or PNG."

_ALPHA = (b"urn:mpeg:hevc:2015:auxid:1", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha")
_MAX_TILES = 1024
_MAX_TILE_PIXELS = 1 << 27

CheckSize = Callable[[int, int], None]


def is_heif(path: Path) -> bool:
    """Whether a file says that it is HEIF."""
    with path.open("rb") as file:
        start = file.read(12)
    return start[4:8] == b"ftyp" and start[8:] in BRANDS


def is_still(path: Path) -> bool:
    """Whether a file is HEIF with a still picture, and no film beside it."""
    try:
        if not is_heif(path):
            return False
        with path.open("rb") as file:
            boxes = top_boxes(file)
            return b"moov" not in boxes and still_of(file, boxes).primary is not None
    except Exception:  # damaged boxes fail in any way
        return False


def read_heif(path: Path, check_size: CheckSize, hooks: Hooks) -> Image.Image | None:
    """The primary picture of a HEIF file, upright, with its alpha; its ICC profile is among its ``info``.

    Args:
        path: the file.
        check_size: called with width and height before anything is decoded.
        hooks: hears if there are more pictures.

    Returns:
        `None` for a file without stills: an image sequence alone, which is read as a video.

    Raises:
        PortraitError: FFmpeg does not decode it, it is of a kind that is not read here, or `check_size` refuses it.
    """
    try:
        with path.open("rb") as file:
            still = still_of(file, top_boxes(file))
            if still.primary is None:
                return None
            return _whole(path, file, still, check_size, hooks)
    except PortraitError:
        raise
    except Exception as error:  # damaged boxes, and a decoder that FFmpeg lacks, fail in any way
        reason = str(error) or type(error).__name__
        raise PortraitError(f"Picture {path} is HEIC or AVIF, and cannot be read here ({reason}). {WAY_ON}") from error


def _whole(path: Path, file: BinaryIO, still: Still, check_size: CheckSize, hooks: Hooks) -> Image.Image:
    masks = [
        item
        for item, of in still.references.get(b"auxl", {}).items()
        if still.primary in of and (still.property_of(item, b"auxC") or b"")[4:].split(b"\0")[0] in _ALPHA
    ]
    pixels = _picture(path, file, still, still.primary, check_size)
    if masks:
        alpha = _picture(path, file, still, masks[0], check_size)[..., :1]
        if alpha.shape[:2] == pixels.shape[:2]:
            pixels = np.concatenate([pixels, alpha], axis=2)
    for name, content in still.properties.get(still.primary, ()):
        pixels = _transformed(pixels, name, content)
    if still.others():
        hooks.notice(f"Picture {path} holds {still.others() + 1} pictures; the one marked as primary is used.")
    image = Image.fromarray(np.ascontiguousarray(pixels))
    for name, content in still.properties.get(still.primary, ()):
        if name == b"colr" and content[:4] in (b"prof", b"rICC"):
            image.info["icc_profile"] = content[4:]
    return image


def _picture(path: Path, file: BinaryIO, still: Still, item: int, check_size: CheckSize) -> np.ndarray:
    """Pixels of one item, coded or of tiles, before it is turned: uint8 RGB ``(H, W, 3)``."""
    kind = still.kinds[item]
    if kind in CODED:
        width, height = struct.unpack_from(">II", still.property_of(item, b"ispe") or b"", 4)
        check_size(width, height)
        return _decoded(path, [item])[item][:height, :width]
    if kind != GRID:
        name = kind.decode("latin-1")
        raise PortraitError(f"Picture {path} is HEIC of the kind {name!r}, which is not read here. {WAY_ON}")
    content = _content(file, still, item)
    rows, columns = content[2] + 1, content[3] + 1
    width, height = struct.unpack_from(">II" if content[1] & 1 else ">HH", content, 4)
    check_size(width, height)
    tiles = still.related(b"dimg", item)
    if len(tiles) != rows * columns or len(tiles) > _MAX_TILES or any(still.kinds[tile] not in CODED for tile in tiles):
        raise ValueError(f"{len(tiles)} tiles for {rows} x {columns}")
    found = _decoded(path, tiles)
    lines = [np.concatenate([found[t] for t in tiles[i : i + columns]], axis=1) for i in range(0, len(tiles), columns)]
    joined = np.concatenate(lines, axis=0)
    if joined.shape[0] < height or joined.shape[1] < width:
        raise ValueError("the tiles are smaller than the picture")
    return joined[:height, :width]


def _decoded(path: Path, items: Sequence[int]) -> dict[int, np.ndarray]:
    """Decoded items: FFmpeg's streams have the items' numbers."""
    found: dict[int, np.ndarray] = {}
    with path.open("rb") as file, open_media(file) as container:
        streams = {stream.id: stream for stream in container.streams.video if stream.codec_context is not None}
        wanted = [streams[item] for item in dict.fromkeys(items) if item in streams]
        if sum(stream.codec_context.width * stream.codec_context.height for stream in wanted) > _MAX_TILE_PIXELS:
            raise ValueError("too many pixels")
        for stream in wanted:
            stream.codec_context.options = {"max_pixels": str(_MAX_TILE_PIXELS)}
        for packet in container.demux(wanted) if wanted else ():
            for frame in packet.decode():
                found.setdefault(packet.stream.id, frame.to_ndarray(format="rgb24"))
    if len(found) < len(set(items)):
        raise ValueError("FFmpeg does not decode it")
    return found


def _transformed(pixels: np.ndarray, name: bytes, content: bytes) -> np.ndarray:
    """`pixels` ``(H, W, C)`` turned, mirrored or cut as a property says."""
    if name == b"irot":
        return np.rot90(pixels, content[0] & 3)
    if name == b"imir":
        return pixels[:, ::-1] if content[0] & 1 else pixels[::-1]
    if name != b"clap":
        return pixels
    numbers = struct.unpack(">IIIIiIiI", content[:32])
    width, height, right, down = (numbers[i] / numbers[i + 1] for i in range(0, 8, 2))
    full_height, full_width = pixels.shape[:2]
    left, top = round((full_width - width) / 2 + right), round((full_height - height) / 2 + down)
    cut = pixels[max(top, 0) : top + round(height), max(left, 0) : left + round(width)]
    if not cut.size:
        raise ValueError("nothing of it is to be shown")
    return cut


def _content(file: BinaryIO, still: Still, item: int) -> bytes:
    """The data of an item that is no coded picture; such items are short."""
    content = b""
    for offset, length in still.places[item]:
        if offset < 0:
            content += still.data[-1 - offset :][:length]
        else:
            file.seek(offset)
            content += file.read(min(length, 64))
    return content[:64]
