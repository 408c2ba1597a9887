"""Generated frames back into the full picture, in the picture's own colours. Both steps stream."""

import math
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from dicetalk.errors import PortraitError, SettingError
from dicetalk.portrait.prepare import Portrait

FEATHER = 1 / 16
SMOOTHING_FRAMES = 6.0
MAX_GAIN = 1.5
MAX_SHIFT = 0.25
# Below this contrast a region says nothing about gain; it is a ninth of what a typical photograph has.
FLAT = 0.03
STILL_SHARE = 0.1
PART_BYTES = 256 << 20
# Upscalers round to whole pixels; a frame that was cut differs by more.
MAX_STRETCH = 0.02


class ColourMatch:
    """Removes the slow drift of a clip's colours: each channel gets the portrait's mean and contrast.

    Both are measured where the picture stays still, outside the face mask, or everywhere if that is less than a tenth
    of the picture. What is measured is smoothed over about a quarter of a second, so that the correction cannot flicker
    itself, and bounded, so that a moving background is not mistaken for drift without limit.

    An object belongs to one clip: it remembers the frames that it has seen.

    Args:
        portrait: what the clip was made from.
        smoothing: frames over which measurements are smoothed; more than 6 where there are more than 25 a second.
    """

    def __init__(self, portrait: Portrait, smoothing: float = SMOOTHING_FRAMES):
        self.smoothing = smoothing
        still = portrait.mask[0] < 0.5
        self.still = still if still.float().mean() >= STILL_SHARE else torch.ones_like(still)
        self.size = tuple(portrait.image.shape)
        self.target = self._measure((portrait.image[None] + 1) / 2)[0]
        self.measured: torch.Tensor | None = None

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """Match the next frames of the clip, ``(n, 3, h, w)`` in 0..1 on the CPU, in any size.

        Raises:
            PortraitError: the frames do not have the shape of the portrait's image.
        """
        _check_frames(frames, self.size)
        target_mean, target_contrast = self.target
        matched = torch.empty_like(frames, dtype=torch.float32)
        small = F.interpolate(frames.float(), self.size[1:], mode="area") if frames.shape[1:] != self.size else frames
        for index, measured in enumerate(self._measure(small)):
            mean, contrast = self._smooth(measured)
            gain = ((target_contrast + FLAT) / (contrast + FLAT)).clamp(1 / MAX_GAIN, MAX_GAIN)
            shift = (target_mean - mean).clamp(-MAX_SHIFT, MAX_SHIFT)
            matched[index] = ((frames[index] - mean) * gain + mean + shift).clamp(0, 1)
        return matched

    def _measure(self, frames: torch.Tensor) -> torch.Tensor:
        """Mean and standard deviation of each frame's channels, ``(n, 2, 3, 1, 1)``."""
        pixels = frames[:, :, self.still].float()
        deviation, mean = torch.std_mean(pixels, dim=2, correction=0)
        return torch.stack([mean, deviation], dim=1)[..., None, None]

    def _smooth(self, measured: torch.Tensor) -> torch.Tensor:
        if self.measured is None:
            self.measured = measured
        self.measured = self.measured.lerp(measured, 1 - math.exp(-1 / self.smoothing))
        return self.measured


def check_feather(feather: float) -> None:
    """Refuse a soft edge that :class:`PasteBack` cannot make.

    Raises:
        SettingError: it is out of range.
    """
    if not 0 <= feather <= 0.5:
        raise SettingError(f"feather is {feather}: give a part of the crop's side from 0 to 0.5.")


class PasteBack:
    """Puts generated frames into the full picture.

    The edge of the crop fades into the picture, except where the crop ends at the picture's own border. Outside the
    crop the picture keeps its pixels.

    Args:
        portrait: what the clip was made from.
        feather: width of the soft edge as a part of the crop's side, 0 (a hard edge) to 0.5.

    Raises:
        SettingError: `feather` is out of range.
    """

    def __init__(self, portrait: Portrait, feather: float = FEATHER):
        check_feather(feather)
        self.portrait = portrait
        height, width = portrait.source.shape[:2]
        self.alpha = torch.from_numpy(crop_weight(portrait.crop, width, height, feather))

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """Paste frames ``(n, 3, h, w)`` in 0..1 on the CPU, upscaled or not, into the picture: ``(n, 3, H, W)``.

        All full pictures are in memory at once; :meth:`stream` keeps that bounded.

        Raises:
            PortraitError: the frames do not have the shape of the portrait's image.
        """
        _check_frames(frames, tuple(self.portrait.image.shape))
        x0, y0, x1, y1 = self.portrait.crop
        picture = torch.from_numpy(self.portrait.source).permute(2, 0, 1)
        pasted = torch.empty(len(frames), *picture.shape)
        for frame, full in zip(frames, pasted, strict=True):
            full.copy_(picture).div_(255)
            full[:, y0:y1, x0:x1].lerp_(_resize(frame, x1 - x0, y1 - y0), self.alpha)
        return pasted

    def stream(self, chunks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Paste a clip chunk by chunk; the chunks that come out are cut smaller where the picture is large."""
        frame_bytes = self.portrait.source.size * 4
        part = max(PART_BYTES // frame_bytes, 1)
        for chunk in chunks:
            for frames in chunk.split(part):
                yield self(frames)


class CutOut:
    """Generated frames at their place in the full picture, with the mask of :class:`PasteBack` as alpha.

    The colours are not premultiplied and not mixed with the picture: laid over it by their alpha, they give what
    :class:`PasteBack` gives. Where alpha is 0 they are the picture's.

    Args:
        portrait: what the clip was made from.
        feather: as for :class:`PasteBack`.

    Raises:
        SettingError: `feather` is out of range.
    """

    def __init__(self, portrait: Portrait, feather: float = FEATHER):
        self.mask = paste_mask(portrait, feather)
        self.unmixed = PasteBack(portrait)
        self.unmixed.alpha = torch.ones(())

    def stream(self, chunks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Frames ``(n, 3, h, w)`` in 0..1, chunk by chunk, to ``(n, 4, H, W)``.

        Raises:
            PortraitError: the frames do not have the shape of the portrait's image.
        """
        for frames in self.unmixed.stream(chunks):
            yield torch.cat([frames, self.mask.expand(len(frames), 1, *self.mask.shape)], dim=1)


def paste_mask(portrait: Portrait, feather: float = FEATHER) -> torch.Tensor:
    """Weight of the generated frame at each pixel of the full picture, float32 ``(H, W)`` in 0..1.

    Raises:
        SettingError: `feather` is out of range.
    """
    check_feather(feather)
    height, width = portrait.source.shape[:2]
    x0, y0, x1, y1 = portrait.crop
    mask = torch.zeros(height, width)
    mask[y0:y1, x0:x1] = torch.from_numpy(crop_weight(portrait.crop, width, height, feather))[0]
    return mask


def crop_weight(crop: tuple[int, int, int, int], width: int, height: int, feather: float = FEATHER) -> np.ndarray:
    """Weight of the crop against the picture of `width` x `height`, float32 ``(1, y1 - y0, x1 - x0)`` in 0..1."""
    x0, y0, x1, y1 = crop
    along_x = _ramp(x1 - x0, feather, fade_in=x0 > 0, fade_out=x1 < width)
    along_y = _ramp(y1 - y0, feather, fade_in=y0 > 0, fade_out=y1 < height)
    return (along_y[:, None] * along_x)[None].astype(np.float32)


def _ramp(length: int, feather: float, fade_in: bool, fade_out: bool) -> np.ndarray:
    rising = ((np.arange(length) + 0.5) / max(length * feather, 1)).clip(max=1)
    rising = (1 - np.cos(np.pi * rising)) / 2
    return (rising if fade_in else 1) * (rising[::-1] if fade_out else np.ones(length))


def _resize(frame: torch.Tensor, width: int, height: int) -> torch.Tensor:
    pixels = frame.permute(1, 2, 0).float().numpy().copy()
    if pixels.shape[:2] != (height, width):
        shrinks = width * height < pixels.shape[0] * pixels.shape[1]
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LANCZOS4)
    return torch.from_numpy(pixels).clamp_(0, 1).permute(2, 0, 1)  # Lanczos overshoots at edges


def _check_frames(frames: torch.Tensor, size: tuple[int, ...]) -> None:
    """Frames may have been upscaled on the way, but not cut or stretched."""
    channels, height, width = size
    fits = frames.ndim == 4 and frames.shape[1] == channels
    if not fits or abs(frames.shape[3] / frames.shape[2] * height / width - 1) > MAX_STRETCH:
        raise PortraitError(
            f"Frames of shape {tuple(frames.shape)} do not belong to this portrait: expected (frames, {channels}, "
            f"{height}, {width}), or the same scaled."
        )
