"""Tracks a face over time: finds it, follows it, cuts it out, and reads each frame with a network."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from dicetalk.emotion.reference.clip import Reference
from dicetalk.errors import NoFaceError, VideoError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.portrait.faces import FaceBox, FaceDetector
from dicetalk.settings import FPS

LOOK_EVERY = 3
"""A face is looked for in every third picture, four times a second; between, its box moves evenly. It is read in
every picture."""

LOOK_SIDE = 640
"""Pictures are searched at this size at most: a face worth reading is a tenth of the picture or more."""

KEPT_SIDE = 1280
"""Faces are cut out of pictures of this size at most, which bounds what waiting pictures occupy."""

BRIDGE_LOOKS = 1
"""If the detector misses a face so many times in a row, at most, it is taken to be where it moved to meanwhile."""

SAME_FACE = 0.1
"""Intersection over union from which two boxes are one face that moved; below, the scene has changed."""

EARLY_SECONDS = 0.5
"""Pictures that end so much before their file's stated length are reported."""

BATCH = 16


@dataclass(frozen=True)
class FaceCrop:
    """Crop of a face that a network expects.

    Args:
        size: side of the crop in pixels.
        expand: the face box is widened by this part of its size on each side.
        square: take a square as long as the box's longer side; otherwise the box itself is stretched to a square.
    """

    size: int
    expand: float = 0.0
    square: bool = True

    def __call__(self, picture: np.ndarray, face: FaceBox) -> np.ndarray:
        """Cut `face` out of `picture` (uint8 RGB ``(H, W, 3)``).

        The picture's edge is drawn out where the crop reaches over it.

        Returns:
            uint8 ``(size, size, 3)``.
        """
        longer = max(face.width, face.height)
        width, height = (longer, longer) if self.square else (face.width, face.height)
        rows = _pixels(face.y + face.height / 2, height * (1 + 2 * self.expand), picture.shape[0])
        columns = _pixels(face.x + face.width / 2, width * (1 + 2 * self.expand), picture.shape[1])
        cut = picture[rows[:, None], columns]
        smaller = self.size < min(len(rows), len(columns))
        return cv2.resize(cut, (self.size, self.size), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


class FaceReader(Protocol):
    """Reads some numbers off faces: emotions, expression coefficients."""

    @property
    def crop(self) -> FaceCrop:
        """How it wants faces cut out."""
        ...

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """Numbers ``(N, d)`` of `crops` (uint8 RGB ``(N, size, size, 3)``); NaN where there is no face after all."""
        ...


@dataclass(frozen=True)
class LostSpan:
    """Seconds during which no face was seen."""

    start: float
    end: float


@dataclass(frozen=True, eq=False)
class FaceReadings:
    """Readings of a face at 12.5 fps.

    Args:
        values: float32 ``(frames, d)``; where the face was lost, what lies between.
        lost: true where it was, ``(frames,)``.
    """

    values: np.ndarray
    lost: np.ndarray

    @property
    def spans(self) -> tuple[LostSpan, ...]:
        """When the face was lost."""
        edges = np.flatnonzero(np.diff(np.concatenate(([False], self.lost, [False])))).tolist()
        return tuple(LostSpan(a / FPS, b / FPS) for a, b in zip(edges[::2], edges[1::2], strict=True))


def watch(reference: Reference, reader: FaceReader, detector: FaceDetector, hooks: Hooks = SILENT) -> FaceReadings:
    """Read every frame of a reference, with a few pictures in memory.

    Args:
        reference: with pictures.
        reader: reads faces.
        detector: finds them.
        hooks: hears the stage ``watch``, in frames, of lost faces, and of pictures that end early.

    Raises:
        NoFaceError: no face was found in any picture.
        VideoError: the reference has no pictures, or is damaged from the start.
    """
    if reference.pictures is None:
        reason = f" ({' '.join(reference.problems)})" if reference.problems else ""
        raise VideoError(f"{reference.name} holds no pictures; take the emotion from its sound.{reason}")
    read: dict[int, np.ndarray] = {}
    frames = 0
    waiting: list[tuple[int, np.ndarray]] = []
    for frames, crop in enumerate(follow(reference.pictures(), reader.crop, detector, hooks), start=1):
        if crop is not None:
            waiting.append((frames - 1, crop))
        if len(waiting) == BATCH:
            read |= _read(reader, waiting)
            waiting = []
        hooks.report("watch", min(frames, reference.frames), reference.frames)
    if not frames:
        raise VideoError(f"{reference.name}: none of its pictures can be decoded.")
    if reference.frames - frames > EARLY_SECONDS * FPS:
        hooks.notice(
            f"{reference.name}: its pictures end after {frames / FPS:.1f} of {reference.frames / FPS:.1f} s; it may be "
            "damaged."
        )
    read |= _read(reader, waiting)
    if not read:
        raise NoFaceError(f"No face was found in {reference.name}. Give a clip that shows one face from the front.")
    readings = bridged(read, frames)
    if readings.lost.any():
        hooks.notice(_lost_notice(reference, readings, frames))
    return readings


def bridged(read: dict[int, np.ndarray], frames: int) -> FaceReadings:
    """Readings of all `frames` out of those of some frames, in order."""
    known = np.array(list(read))
    values = np.stack(list(read.values()))
    everywhere = [np.interp(np.arange(frames), known, column) for column in values.T]
    lost = np.ones(frames, bool)
    lost[known] = False
    return FaceReadings(np.stack(everywhere, axis=1).astype(np.float32), lost)


def follow(
    pictures: Iterable[np.ndarray], crop: FaceCrop, detector: FaceDetector, hooks: Hooks = SILENT
) -> Iterator[np.ndarray | None]:
    """Cut the face out of every picture: the largest first, then whichever overlaps it.

    Yields:
        What `crop` cut out, or none where the face is lost.
    """
    waiting: list[np.ndarray] = []  # from the last picture with a face, or behind it, up to the next look
    last: FaceBox | None = None
    for number, picture in enumerate(pictures):
        picture = _at_most(picture, KEPT_SIDE)
        if number % LOOK_EVERY:
            waiting.append(picture)
            continue
        hooks.check()
        face = _look(picture, detector, last)
        if face is None and last is not None and len(waiting) <= BRIDGE_LOOKS * LOOK_EVERY:
            waiting.append(picture)
            continue
        yield from _cut(waiting, crop, last, face)
        waiting, last = [picture], face
    # No look is due any more: the face is still where it was.
    yield from _cut(waiting, crop, last, last if len(waiting) <= LOOK_EVERY else None)


def _cut(
    pictures: Sequence[np.ndarray], crop: FaceCrop, first: FaceBox | None, after: FaceBox | None
) -> Iterator[np.ndarray | None]:
    """Crops of `pictures`, of which the first shows the face at `first`; the one after the last, at `after`.

    Where one of the two is missing, nobody knows when the face came or went, and only what was looked at is believed.
    """
    for place, picture in enumerate(pictures):
        if first is None or (after is None and place):
            yield None
        else:
            yield crop(picture, first if after is None else _between(first, after, place / len(pictures)))


def _between(first: FaceBox, after: FaceBox, way: float) -> FaceBox:
    """The box that has gone the part `way` from `first` to `after`; it jumps where the two are different faces."""
    if _overlap(first, after) < SAME_FACE:
        return first if way < 0.5 else after
    ends = np.array([(box.x, box.y, box.width, box.height) for box in (first, after)])
    return FaceBox(*((1 - way) * ends[0] + way * ends[1]).tolist())


def _look(picture: np.ndarray, detector: FaceDetector, last: FaceBox | None) -> FaceBox | None:
    small = _at_most(picture, LOOK_SIDE)
    scale = picture.shape[1] / small.shape[1]
    faces = [
        FaceBox(scale * face.x, scale * face.y, scale * face.width, scale * face.height)
        for face in detector.detect(small)
    ]
    return max(faces, key=lambda face: (_overlap(face, last) if last else 0.0, face.area), default=None)


def _overlap(one: FaceBox, other: FaceBox) -> float:
    """Intersection over union."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (one.area + other.area - shared)


def _at_most(picture: np.ndarray, side: int) -> np.ndarray:
    scale = side / max(picture.shape[:2])
    if scale >= 1:
        return picture
    width, height = (max(1, round(length * scale)) for length in (picture.shape[1], picture.shape[0]))
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _pixels(centre: float, length: float, limit: int) -> np.ndarray:
    """Numbers of the pixels around `centre`, those outside 0..limit-1 replaced by the nearest inside."""
    start = round(centre - length / 2)
    return np.arange(start, start + max(round(length), 1)).clip(0, limit - 1)


def _read(reader: FaceReader, waiting: list[tuple[int, np.ndarray]]) -> dict[int, np.ndarray]:
    if not waiting:
        return {}
    numbers, crops = zip(*waiting, strict=True)
    rows = zip(numbers, reader(np.stack(crops)), strict=True)
    return {number: row for number, row in rows if np.isfinite(row).all()}


def _lost_notice(reference: Reference, readings: FaceReadings, frames: int) -> str:
    spans = readings.spans
    shown = ", ".join(f"{span.start:.1f} to {span.end:.1f} s" for span in spans[:4])
    more = f" and {len(spans) - 4} more times" if len(spans) > 4 else ""
    part = readings.lost.mean()
    return f"{reference.name}: no face was seen at {shown}{more} ({part:.0%}); what lies between is taken there."
