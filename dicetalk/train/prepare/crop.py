"""One still crop around a face that moves."""

from collections.abc import Iterable, Sequence

import numpy as np

from dicetalk.errors import NoFaceError, PortraitError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.portrait.faces import FaceBox, FaceDetector
from dicetalk.portrait.prepare import Region, crop_region, resize

LOOK_EVERY = 5
"""A face is looked for in every fifth picture: 2.5 times a second."""

MIN_SHARE = 0.5
"""Of the pictures that were searched, those in which the face must be found."""

MIN_OVERLAP = 0.3
"""Intersection over union of a box and the median of its neighbours from which it is believed."""

MAX_GROWTH = 3.0
"""A union of boxes that is so much longer than one of them means a cut to another scene, or a walk."""

MIN_SIDE = 64


def track_face(pictures: Iterable[np.ndarray], detector: FaceDetector, hooks: Hooks = SILENT) -> list[FaceBox | None]:
    """Where the face is in some of `pictures` (uint8 RGB ``(H, W, 3)``): the largest first, then whichever overlaps it.

    Returns:
        One entry for every picture that was searched, none where no face was found there.
    """
    boxes: list[FaceBox | None] = []
    last = None
    for number, picture in enumerate(pictures):
        if number % LOOK_EVERY:
            continue
        hooks.check()
        faces = detector.detect(picture)
        face = max(faces, key=lambda face: (_overlap(face, last), face.area), default=None)
        boxes.append(face)
        last = face or last
    return boxes


def unite(boxes: Sequence[FaceBox | None]) -> FaceBox:
    """The box in which a face stays for a whole clip.

    A box that hardly overlaps the median of itself and its neighbours in time is a slip of the detector, and is not
    counted.

    Raises:
        NoFaceError: the face was found in less than half of the pictures.
        PortraitError: it moves so far that no crop can follow it.
    """
    found = [box for box in boxes if box is not None]
    if not found or len(found) < MIN_SHARE * len(boxes):
        raise NoFaceError(f"A face was found in {len(found)} of {len(boxes)} pictures only.")
    edges = np.array([(box.x, box.y, box.x + box.width, box.y + box.height) for box in found])
    padded = np.concatenate([edges[:1], edges, edges[-1:]])
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, 3, axis=0), axis=-1)
    kept = edges[_overlaps(edges, smooth) >= MIN_OVERLAP]
    low, high = kept[:, :2].min(axis=0), kept[:, 2:].max(axis=0)
    usual = np.median(smooth[:, 2:] - smooth[:, :2], axis=0)
    if ((high - low) > MAX_GROWTH * usual).any():
        raise PortraitError("The face moves through more than three times its size, or the scene changes.")
    x, y, width, height = map(float, (*low, *(high - low)))
    return FaceBox(x, y, width, height)


def region_of(face: FaceBox, width: int, height: int) -> Region:
    """The square that is cut out of pictures of `width` x `height`, the face box widened by half as for a portrait.

    Raises:
        PortraitError: it is smaller than 64 pixels.
    """
    region = crop_region(face, width, height)
    side = min(region[2] - region[0], region[3] - region[1])
    if side < MIN_SIDE:
        raise PortraitError(f"The crop around the face has {side} pixels; at least {MIN_SIDE} are needed.")
    return region


def cut_out(picture: np.ndarray, region: Region, size: int) -> np.ndarray:
    """`region` of a picture, resized to uint8 ``(size, size, 3)``."""
    x0, y0, x1, y1 = region
    return resize(picture[y0:y1, x0:x1], (size, size))


def box_in(face: FaceBox, region: Region, size: int) -> np.ndarray:
    """`face` in pixels of the cut-out picture: x, y, width, height, float32 ``(4,)``, clipped to it."""
    x0, y0, x1, y1 = region
    scale = np.array([size / (x1 - x0), size / (y1 - y0)])
    low = ((np.array([face.x, face.y]) - (x0, y0)) * scale).clip(0, size)
    high = ((np.array([face.x + face.width, face.y + face.height]) - (x0, y0)) * scale).clip(0, size)
    return np.concatenate([low, high - low]).astype(np.float32)


def _overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union of two rows of corners x0, y0, x1, y1, ``(n,)``."""
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    shared = sides.clip(0).prod(axis=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (one, other)]
    return shared / (areas[0] + areas[1] - shared)


def _overlap(face: FaceBox, last: FaceBox | None) -> float:
    """Shared area, or 0 if there was no face before."""
    if last is None:
        return 0.0
    width = min(face.x + face.width, last.x + last.width) - max(face.x, last.x)
    height = min(face.y + face.height, last.y + last.height) - max(face.y, last.y)
    return max(width, 0.0) * max(height, 0.0)
