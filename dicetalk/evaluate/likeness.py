"""How close pictures are to the truth that they should show: structure, error, sharpness, colour and stillness."""

import cv2
import numpy as np

WINDOW = 1.5
"""Deviation in pixels of the window in which SSIM compares."""

STABLE_LUMINANCE, STABLE_CONTRAST = (0.01 * 255) ** 2, (0.03 * 255) ** 2
"""Keep the ratios of SSIM finite where pictures are dark or flat."""

STILL_MARGIN = 9
"""Side in pixels of the square around a still pixel in which nothing moves either."""

PEAK = 255.0


def structural_similarity(made: np.ndarray, truth: np.ndarray) -> float:
    """Mean structural similarity of two clips, 1 for equal ones.

    Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004, with its Gaussian
    window and constants, of each colour channel.

    Args:
        made: uint8 ``(N, H, W, 3)``.
        truth: likewise.
    """
    return float(np.mean([_similarity(*pair).mean() for pair in zip(made, truth, strict=True)]))


def _similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float32), b.astype(np.float32)
    mean_a, mean_b = _window(a), _window(b)
    var_a, var_b = _window(a * a) - mean_a**2, _window(b * b) - mean_b**2
    both = _window(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + STABLE_LUMINANCE) / (mean_a**2 + mean_b**2 + STABLE_LUMINANCE)
    return luminance * (2 * both + STABLE_CONTRAST) / (var_a + var_b + STABLE_CONTRAST)


def _window(picture: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(picture, (11, 11), WINDOW, borderType=cv2.BORDER_REFLECT)


def peak_signal_to_noise(made: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two clips in decibels, of the mean square over all frames; infinite for equal ones.

    Arguments are those of :func:`structural_similarity`.
    """
    error = np.square(made.astype(np.float32) - truth).mean(dtype=np.float64)
    return float(10 * np.log10(PEAK**2 / error)) if error else float("inf")


def gradient_energy(frames: np.ndarray) -> float:
    """Mean square of the differences between neighbouring pixels' brightness: of a blurred picture it is small.

    Args:
        frames: uint8 RGB ``(N, H, W, 3)``.
    """
    grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]).astype(np.float32)
    return float(np.square(np.diff(grey, axis=1)).mean() + np.square(np.diff(grey, axis=2)).mean())


def still_pixels(truth: np.ndarray) -> np.ndarray:
    """Where nothing moves in a clip, nor within :data:`STILL_MARGIN` around: booleans ``(H, W)``.

    Args:
        truth: uint8 ``(N, H, W, 3)``.
    """
    moves = (np.ptp(truth, axis=0).max(axis=-1) > 0).astype(np.uint8)
    return cv2.dilate(moves, np.ones((STILL_MARGIN, STILL_MARGIN), np.uint8)) == 0


def flicker(made: np.ndarray, still: np.ndarray) -> float:
    """Mean absolute difference between neighbouring frames where nothing should move, as a part of the range.

    Args:
        made: uint8 ``(N, H, W, 3)``.
        still: as :func:`still_pixels` gives it.

    Returns:
        NaN if no pixel is still.
    """
    part = made[:, still].astype(np.int16)
    return float(np.abs(np.diff(part, axis=0)).mean() / PEAK) if still.any() and len(made) > 1 else float("nan")


def colour_drift(made: np.ndarray, reference: np.ndarray, region: np.ndarray) -> float:
    """How far the colour of a region leaves that of a reference picture.

    Args:
        made: uint8 RGB ``(N, H, W, 3)``.
        reference: of the same scene, uint8 RGB ``(H, W, 3)``.
        region: booleans ``(H, W)``. Medians are compared: a part of it may be covered now and then.

    Returns:
        Largest difference of a channel, of the medians over the region and over all frames, as a part of the range;
        NaN for an empty region.
    """
    if not region.any():
        return float("nan")
    shown = np.median(made[:, region].reshape(-1, 3), axis=0)
    return float(np.abs(shown - np.median(reference[region], axis=0)).max() / PEAK)
