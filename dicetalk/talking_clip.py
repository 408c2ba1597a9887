"""A generated clip that is decoded when somebody looks at it."""

from collections.abc import Iterator
from fractions import Fraction
from os import PathLike
from pathlib import Path

import numpy as np
import torch

from dicetalk.audio.speech import Speech
from dicetalk.checkpoints.load import DiceModel
from dicetalk.denoise.latents import Latents
from dicetalk.errors import SettingError
from dicetalk.files import check_file_target, check_folder_target
from dicetalk.hooks import SILENT, Hooks
from dicetalk.pipeline import check_fps, render
from dicetalk.portrait.paste import FEATHER, SMOOTHING_FRAMES, ColourMatch, CutOut, PasteBack
from dicetalk.portrait.prepare import Portrait
from dicetalk.residency import CPU, Residency
from dicetalk.settings import FPS
from dicetalk.video import exact_fps, frames_to_cover, hold_last_frame, write_mp4, write_png_folder, write_webm
from dicetalk.video.colour import rgb_to_bytes

SUFFIXES = ("", ".mp4", ".webm")
FORMS = "write an .mp4, a .webm, or a folder of PNG frames (a name without extension)"


def check_form(path: Path, alpha: bool, paste_back: bool, name: str = "alpha=True") -> None:
    """Refuse an output that :meth:`TalkingClip.save` cannot write.

    Args:
        path: of the video or folder.
        alpha: with the mask of paste-back.
        paste_back: the crop goes back into the whole picture.
        name: how messages call the choice of alpha.

    Raises:
        SettingError: the extension is unknown or holds no alpha, or there is no mask.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise SettingError(f"{path}: {FORMS}.")
    if not alpha:
        return
    if path.suffix.lower() == ".mp4":
        raise SettingError(
            f"{path}: an .mp4 holds no alpha. With {name} write a .webm, or a folder of PNG frames (a name without "
            "extension)."
        )
    if not paste_back:
        way_on = "--crop --paste-back" if name.startswith("--") else "crop=True, paste_back=True"
        raise SettingError(f"{name} writes the mask of paste-back, which is off. Add {way_on}.")


class TalkingClip:
    """Latents of a clip, with the speech and the portrait that they belong to.

    Frames are decoded in chunks whenever they are asked for, so that memory does not grow with the clip's length;
    each walk over them decodes anew.

    Args:
        model: all networks.
        latents: as :func:`dicetalk.pipeline.generate_latents` made them.
        portrait: that was animated.
        speech: that is spoken.
        interpolate: double the frame rate by RIFE, which the model must have.
        fps: another frame rate, as for :func:`dicetalk.pipeline.render`.
        decode_chunk: frames decoded together; what the model was made for if `None`.
        paste_back: put the animated crop back into the whole picture.
        colour_match: remove slow drift of the colours; always on with `paste_back`.
        feather: width of the soft edge of `paste_back`, as a part of the crop's side.
        residency: where networks run.
        hooks: progress of `decode`, `interpolate` and `write`.

    Raises:
        SettingError: `fps` is out of range, or given without `interpolate`.
    """

    def __init__(
        self,
        model: DiceModel,
        latents: Latents,
        portrait: Portrait,
        speech: Speech,
        *,
        interpolate: bool = True,
        fps: Fraction | float | None = None,
        decode_chunk: int | None = None,
        paste_back: bool = False,
        colour_match: bool = False,
        feather: float = FEATHER,
        residency: Residency = CPU,
        hooks: Hooks = SILENT,
    ):
        self.model, self.latents, self.portrait, self.speech = model, latents, portrait, speech
        check_fps(fps, interpolate)
        self.interpolate, self.asked_fps, self.decode_chunk = interpolate, fps, decode_chunk
        self.paste_back, self.colour_match, self.feather = paste_back, colour_match, feather
        self.residency, self.hooks = residency, hooks

    @property
    def fps(self) -> float:
        """Frames a second."""
        if self.asked_fps is not None:
            return float(exact_fps(self.asked_fps))
        return 2 * FPS if self.interpolate else FPS

    def __len__(self) -> int:
        """Number of frames; the last one is held where the sound ends a little later, so that no syllable is cut."""
        return frames_to_cover(self.speech.sound.shape[1], self.speech.sound_sample_rate, self.fps)

    def chunks(self, alpha: bool = False) -> Iterator[torch.Tensor]:
        """The frames as float tensors ``(n, 3, H, W)`` in 0..1 on the CPU, a few at a time.

        Args:
            alpha: of a clip with `paste_back`: ``(n, 4, H, W)``, see :class:`dicetalk.portrait.paste.CutOut`.
        """
        clip = render(
            self.model,
            self.latents,
            decode_chunk=self.decode_chunk,
            interpolate=self.interpolate,
            fps=self.asked_fps,
            residency=self.residency,
            hooks=self.hooks,
        )
        chunks = clip.chunks
        if self.paste_back or self.colour_match:
            chunks = map(ColourMatch(self.portrait, self._smoothing()), chunks)
        if self.paste_back:
            chunks = (CutOut if alpha else PasteBack)(self.portrait, self.feather).stream(chunks)
        return hold_last_frame(chunks, len(self))

    def _smoothing(self) -> float:
        """Frames over which colours are smoothed: as long a time at every rate that was asked for."""
        return SMOOTHING_FRAMES if self.asked_fps is None else SMOOTHING_FRAMES * self.fps / (2 * FPS)

    def frames(self) -> Iterator[np.ndarray]:
        """The frames one by one, uint8 RGB ``(H, W, 3)``."""
        for chunk in self.chunks():
            for frame in chunk:
                yield rgb_to_bytes(frame)

    def save(self, path: str | PathLike[str], *, crf: int = 18, alpha: bool = False) -> Path:
        """Write an ``.mp4`` or ``.webm`` with the sound, or a folder of PNG frames for a name without extension.

        Args:
            path: of the video or the folder.
            crf: quality of the video, 0 (best; lossless in an ``.mp4``) to 51.
            alpha: add the mask of paste-back as alpha to a ``.webm`` or PNG frames: transparent outside the animated
                crop, soft at its edge. Laid over the picture, the result is what paste-back gives.

        Returns:
            `path`.

        Raises:
            SettingError: the extension is another one or holds no alpha, `alpha` is asked for without `paste_back`, or
                `crf` is out of range.
            OutputError: the file or folder cannot be written.
            Cancelled: the caller asked to stop.
        """
        path = Path(path)
        check_form(path, alpha, self.paste_back)
        chunks = self.chunks(alpha)
        if alpha and self.portrait.crop == (0, 0, *self.portrait.source.shape[1::-1]):
            self.hooks.notice("The animated part is the whole picture, so that alpha is opaque everywhere: add crop.")
        if path.suffix:
            check_file_target(path)
            sound = self.speech.sound, self.speech.sound_sample_rate
            write = write_webm if path.suffix.lower() == ".webm" else write_mp4
            write(path, chunks, fps=Fraction(self.fps), sound=sound, crf=crf, hooks=self.hooks, total=len(self))
        else:
            check_folder_target(path)
            write_png_folder(path, chunks, hooks=self.hooks, total=len(self))
        return path
