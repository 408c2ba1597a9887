"""Motion of a talking head beside the mouth: lids and head, measured in the pixels."""

from collections.abc import Sequence

import cv2
import numpy as np

Window = tuple[int, int, int, int]
"""Left, top, right and bottom edge of a part of a picture, in pixels."""

DIP = 0.68
"""A lid is down where the eye's contrast falls below this part of what it is around that moment."""

LONGEST_BLINK = 5

LEAST_DIP = 10.0
"""Levels of 255 by which it falls at least: a squinting eye shows so little white that its noise is no blink."""

AROUND = 6
"""Frames before and after that an eye is compared with: half a second, so that a narrowed eye is no blink."""


def eye_windows(eyes: np.ndarray, unit: float, shape: tuple[int, int]) -> list[Window]:
    """Windows around both eyes, with room for a swaying head.

    Args:
        eyes: centres as (x, y), in pixels, ``(2, 2)``.
        unit: half of the distance between the eyes, in pixels.
        shape: height and width of the pictures.
    """
    height, width = shape
    found = []
    for x, y in eyes:
        left, right = round(x - 0.66 * unit), round(x + 0.66 * unit)
        top, bottom = round(y - 0.45 * unit), round(y + 0.45 * unit)
        found.append((max(left, 0), max(top, 0), min(right, width), min(bottom, height)))
    return found


def eye_contrast(frames: np.ndarray, windows: Sequence[Window]) -> np.ndarray:
    """How much white of the eyes is seen: its blue above that of the skin, mean over the windows, ``(N,)``.

    Skin of every colour has least of blue, and a closed lid is skin; brows and lashes do not count.

    Args:
        frames: uint8 RGB ``(N, H, W, 3)``.
        windows: around each eye.
    """
    blue = frames[..., 2].astype(np.float32)
    parts = [blue[:, top:bottom, left:right].reshape(len(blue), -1) for left, top, right, bottom in windows]
    return np.mean([np.percentile(part, 97, axis=1) - np.median(part, axis=1) for part in parts], axis=0)


def closed_eyes(contrast: np.ndarray) -> np.ndarray:
    """Frames in which lids are down for a moment: booleans ``(N,)``."""
    padded = np.pad(contrast, AROUND, mode="reflect" if len(contrast) > AROUND else "edge")
    usual = np.percentile(np.lib.stride_tricks.sliding_window_view(padded, 2 * AROUND + 1), 60, axis=1)
    return (contrast < DIP * usual) & (contrast < usual - LEAST_DIP)


def count_blinks(closed: np.ndarray) -> int:
    """Runs of at most :data:`LONGEST_BLINK` frames with closed eyes ``(N,)``: eyes that stay narrow show a feeling."""
    edges = np.flatnonzero(np.diff(closed.astype(int), prepend=0, append=0))
    return int((edges[1::2] - edges[::2] <= LONGEST_BLINK).sum())


def head_shifts(frames: np.ndarray, window: Window) -> np.ndarray:
    """How far a part of the picture has moved from its mean place, in pixels, ``(N, 2)`` as (x, y).

    By phase correlation with the mean frame (Kuglin and Hines, 1975), to a part of a pixel.

    Args:
        frames: uint8 RGB ``(N, H, W, 3)``.
        window: of the upper head, where no mouth moves.
    """
    left, top, right, bottom = window
    grey = np.stack([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY)[top:bottom, left:right] for f in frames]).astype(np.float32)
    hanning = cv2.createHanningWindow((right - left, bottom - top), cv2.CV_32F)
    middle = grey[len(grey) // 2]
    shifts = np.array([cv2.phaseCorrelate(middle, each, hanning)[0] for each in grey])
    return shifts - shifts.mean(axis=0)


def head_movement(shifts: np.ndarray) -> float:
    """Root mean square of the shifts ``(N, 2)``, in pixels."""
    return float(np.sqrt(np.square(shifts).sum(axis=1).mean()))
