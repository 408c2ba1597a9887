"""One picture in the pixel formats of video files and PNG.

In numpy: an encoder's threads leave torch's pool no cores, and a pool that waits for cores is slower than none.
"""

import numpy as np
from torch import Tensor

# ITU-R BT.709: luma weights of red and blue; green has the rest.
KR, KB = 0.2126, 0.0722


def rgb_to_yuv420(picture: Tensor) -> np.ndarray:
    """Convert to BT.709, 8 bit, limited range, with half as many chroma samples in both directions.

    Done here and not by swscale, whose choice of matrix and rounding differs between releases.

    Args:
        picture: (3, H, W) in 0..1; an odd height or width is made even by one more row or column.

    Returns:
        (3 * H // 2, W) uint8, the planes Y, U and V one after another (ffmpeg's ``yuv420p``).
    """
    _, height, width = picture.shape
    red, green, blue = np.pad(_unit_range(picture), ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    luma = KR * red + (1 - KR - KB) * green + KB * blue
    y = 16 + 219 * luma
    u = 128 + 224 * _halved((blue - luma) / (2 - 2 * KB))
    v = 128 + 224 * _halved((red - luma) / (2 - 2 * KR))
    planes = np.concatenate([y.ravel(), u.ravel(), v.ravel()])
    return planes.round().astype(np.uint8).reshape(-1, luma.shape[1])


def yuv420_planes(picture: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What :func:`rgb_to_yuv420` gives, as planes Y (H, W), U and V (H / 2, W / 2)."""
    planes = rgb_to_yuv420(picture)
    height, width = 2 * len(planes) // 3, planes.shape[1]
    u, v = planes[height:].reshape(2, height // 2, width // 2)
    return planes[:height], u, v


def rgba_to_yuva420(picture: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Colours as :func:`rgb_to_yuv420`, and alpha in full range.

    Args:
        picture: (4, H, W) in 0..1; an odd height or width is made even by one more row or column.

    Returns:
        The planes Y (H, W), U and V (H / 2, W / 2) and alpha (H, W), uint8 (ffmpeg's ``yuva420p``).
    """
    planes = yuv420_planes(picture[:3])
    height, width = planes[0].shape
    alpha = _unit_range(picture[3])
    alpha = np.pad(alpha, ((0, height - alpha.shape[0]), (0, width - alpha.shape[1])), mode="edge")
    return *planes, (alpha * 255).round().astype(np.uint8)


def rgb_to_bytes(picture: Tensor) -> np.ndarray:
    """(C, H, W) in 0..1 to (H, W, C) uint8; three channels are RGB, four RGBA."""
    return np.ascontiguousarray((_unit_range(picture) * 255).round().astype(np.uint8).transpose(1, 2, 0))


def _unit_range(picture: Tensor) -> np.ndarray:
    return picture.float().cpu().numpy().clip(0, 1)


def _halved(chroma: np.ndarray) -> np.ndarray:
    """Chroma of H.264 sits on the even columns and between the rows: weigh 1-2-1 across and 1-1 down."""
    rows = chroma[0::2] + chroma[1::2]
    even, odd = rows[:, 0::2], rows[:, 1::2]
    before = np.concatenate([even[:, :1], odd[:, :-1]], axis=1)
    return (before + 2 * even + odd) / 8
