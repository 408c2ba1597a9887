"""A picture to the network's image inputs: reference image, face mask, pixels for the CLIP image encoder.

The arithmetic is the released program's: a face mask of the scaled face box, Lanczos resizing of 8-bit pixels to a
multiple of 64 a side, and the same resized picture once more for the image encoder.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from dicetalk.errors import PortraitError, SettingError
from dicetalk.portrait.centerface import CenterFace
from dicetalk.portrait.faces import FaceBox, FaceDetector, choose_face
from dicetalk.settings import PortraitSettings

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
CROP_EXPAND = 0.5
MIN_CROP = 8
STRIDE = 64

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels of the picture."""

Region = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, the end excluded."""


@dataclass(frozen=True, eq=False)
class Portrait:
    """One picture as the network sees it.

    Args:
        source: the whole picture, uint8 RGB ``(H, W, 3)``.
        image: the part that is animated, float32 ``(3, h, w)`` in -1..1.
        clip_pixels: the same for the image encoder, float32 ``(3, size, size)``, CLIP-normalised.
        mask: where the face may move, float32 ``(1, h, w)`` in 0..1.
        face: the face in pixels of `source`, or none if the whole picture is animated.
        crop: the part that is animated in pixels of `source`: x0, y0, x1, y1.
        passed_over: how many smaller faces a detector found, where nobody said which one is meant.
    """

    source: np.ndarray
    image: torch.Tensor
    clip_pixels: torch.Tensor
    mask: torch.Tensor
    face: FaceBox | None
    crop: Region
    passed_over: int = 0


def prepare_portrait(
    picture: np.ndarray,
    *,
    detector: FaceDetector | None = None,
    face_index: int | None = None,
    box: Box | None = None,
    whole_picture: bool = False,
    crop: bool = False,
    short_side: int = 512,
    mask_scale: float = 1.1,
    clip_size: int = 224,
    margin: float = CROP_EXPAND,
) -> Portrait:
    """Find the face and make the network's inputs.

    Args:
        picture: uint8 RGB ``(H, W, 3)``, as :func:`dicetalk.portrait.read.read_picture` gives it.
        detector: finds the face; none means :class:`dicetalk.portrait.centerface.CenterFace`.
        face_index: which face, counted from the largest; none means the largest.
        box: the face's x, y, width, height, instead of a detector; may reach over the border.
        whole_picture: the face may move anywhere: no detector, a mask of ones.
        crop: animate a square around the face instead of the whole picture.
        short_side: of the network's picture; a multiple of 64 from 64 to 2048.
        mask_scale: size of the mask relative to the face box.
        clip_size: side of the image encoder's picture.
        margin: what `crop` takes on each side of the face box, as a part of the box; 0 to 3.

    Raises:
        NoFaceError: no face was found.
        PortraitError: there is no face of that number, or the box is empty, outside the picture or too small.
        SettingError: a number is out of range, or two choices exclude each other.
    """
    _check_settings(face_index, box, whole_picture, crop, short_side, mask_scale, clip_size, margin)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise PortraitError(
            f"The picture is {picture.dtype} of shape {picture.shape}, not uint8 (H, W, 3). Read it with read_picture."
        )
    height, width = picture.shape[:2]
    face, passed_over = None, 0
    if box is not None:
        face = _given_face(box, width, height)
    elif not whole_picture:
        found = (detector or CenterFace()).detect(picture)
        face = choose_face(found, face_index)
        passed_over = len(found) - 1 if face_index is None else 0

    region = crop_region(face, width, height, margin) if crop and face is not None else (0, 0, width, height)
    x0, y0, x1, y1 = region
    if min(x1 - x0, y1 - y0) < MIN_CROP:
        raise PortraitError(
            f"The crop around the face has {x1 - x0} x {y1 - y0} pixels. Give a larger box, or do not crop."
        )
    size = network_size(x1 - x0, y1 - y0, short_side)
    resized = resize(picture[y0:y1, x0:x1], size)
    if face is None:
        mask = torch.ones(1, size[1], size[0])
    else:
        drawn = face_mask(face, region, mask_scale)
        mask = torch.from_numpy(resize(drawn, size))[None].float() / 255
    return Portrait(picture, to_tensor(resized), to_clip_pixels(resized, clip_size), mask, face, region, passed_over)


def network_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height for the network: the shorter side near `short_side`, both the nearest multiples of 64."""
    shorter = min(width, height)
    columns, rows = (round(side / shorter * short_side / STRIDE) * STRIDE for side in (width, height))
    return columns, rows


def crop_region(face: FaceBox, width: int, height: int, expand: float = CROP_EXPAND) -> Region:
    """The square around a face that is cut out of a picture of `width` x `height`.

    The box is widened by `expand` of its size on each side and clipped; the longer side of the rest is cut to the
    length of the shorter, as near to the face's centre as fits. Rounding may leave it one pixel off a square.
    """
    spans = []
    for start, length, limit in ((face.x, face.width, width), (face.y, face.height, height)):
        low, high = max(start - expand * length, 0), min(start + length + expand * length, limit)
        spans.append((low, high, start + length / 2))
    side = min(high - low for low, high, _ in spans)
    starts = [min(max(centre - side / 2, low), high - side) for low, high, centre in spans]
    x0, y0 = (round(start) for start in starts)
    x1, y1 = (round(start + side) for start in starts)
    return x0, y0, x1, y1


def face_mask(face: FaceBox, region: Region, scale: float) -> np.ndarray:
    """255 inside the face box scaled around its centre, 0 elsewhere, uint8 ``(y1 - y0, x1 - x0)`` for `region`.

    Centre and half sides are cut to whole pixels, as released.

    Raises:
        PortraitError: no pixel lies inside.
    """
    x0, y0, x1, y1 = region
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    centre_x, centre_y = int(face.x - x0 + face.width / 2), int(face.y - y0 + face.height / 2)
    half_width, half_height = int(face.width * scale / 2), int(face.height * scale / 2)
    rows = slice(max(centre_y - half_height, 0), max(centre_y + half_height, 0))
    columns = slice(max(centre_x - half_width, 0), max(centre_x + half_width, 0))
    mask[rows, columns] = 255
    if not mask.any():
        raise PortraitError(f"{_describe(face)} covers no pixel of the picture. Give a larger box inside the picture.")
    return mask


def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Lanczos resizing of 8-bit pixels ``(H, W)`` or ``(H, W, 3)`` to `size` = (width, height)."""
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """uint8 ``(h, w, 3)`` to float32 ``(3, h, w)`` in -1..1."""
    return torch.from_numpy(pixels).permute(2, 0, 1).float().contiguous() / 255 * 2 - 1


def to_clip_pixels(pixels: np.ndarray, size: int) -> torch.Tensor:
    """uint8 ``(h, w, 3)`` to float32 ``(3, size, size)`` as CLIP normalises it; the aspect ratio is not kept."""
    values = torch.from_numpy(resize(pixels, (size, size))).permute(2, 0, 1).float().contiguous() / 255
    return (values - torch.tensor(CLIP_MEAN)[:, None, None]) / torch.tensor(CLIP_STD)[:, None, None]


def _given_face(box: Box, width: int, height: int) -> FaceBox:
    if len(box) != 4 or not all(math.isfinite(value) for value in box):
        raise PortraitError(f"Face box {tuple(box)} is not four finite numbers x, y, width, height.")
    x, y, face_width, face_height = map(float, box)
    face = FaceBox(x, y, face_width, face_height)
    if face.width <= 0 or face.height <= 0:
        raise PortraitError(f"{_describe(face)} is empty. Give x, y, width, height with positive sizes.")
    if face.x >= width or face.y >= height or face.x + face.width <= 0 or face.y + face.height <= 0:
        raise PortraitError(f"{_describe(face)} lies outside the picture of {width} x {height} pixels.")
    return face


def _describe(face: FaceBox) -> str:
    return f"Face box x {face.x:g}, y {face.y:g}, width {face.width:g}, height {face.height:g}"


def _check_settings(
    face_index: int | None,
    box: Box | None,
    whole_picture: bool,
    crop: bool,
    short_side: int,
    mask_scale: float,
    clip_size: int,
    margin: float,
) -> None:
    if whole_picture and (box is not None or crop or face_index is not None):
        raise SettingError("whole_picture uses no face: leave out box, crop and face_index, or give up whole_picture.")
    if box is not None and face_index is not None:
        raise SettingError("box names the face already: leave out face_index, or let the detector look without box.")
    if short_side not in range(STRIDE, 2048 + 1, STRIDE):
        raise SettingError(f"short_side is {short_side}: give a multiple of {STRIDE} from {STRIDE} to 2048.")
    PortraitSettings(face_index=face_index, mask_scale=mask_scale, margin=margin)
    if clip_size not in range(1, 2048 + 1):
        raise SettingError(f"clip_size is {clip_size}: give a whole number from 1 to 2048.")
