"""A generated clip that is decoded when somebody looks at it."""

from collections.abc import Iterator
from fractions import Fraction
from os import PathLike
from pathlib import Path

import numpy as np
import torch

from dicetalk.audio.speech import Speech
from dicetalk.checkpoints.load import DiceModel
from dicetalk.errors import SettingError
from dicetalk.files import check_file_target, check_folder_target
from dicetalk.hooks import SILENT, Hooks
from dicetalk.pipeline import Latents, render
from dicetalk.portrait.paste import FEATHER, ColourMatch, PasteBack
from dicetalk.portrait.prepare import Portrait
from dicetalk.residency import CPU, Residency
from dicetalk.settings import FPS
from dicetalk.video import frames_to_cover, hold_last_frame, write_mp4, write_png_folder
from dicetalk.video.colour import rgb_to_bytes


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
        decode_chunk: frames decoded together.
        paste_back: put the animated crop back into the whole picture.
        colour_match: remove slow drift of the colours; always on with `paste_back`.
        feather: width of the soft edge of `paste_back`, as a part of the crop's side.
        residency: where networks run.
        hooks: progress of `decode`, `interpolate` and `write`.
    """

    def __init__(
        self,
        model: DiceModel,
        latents: Latents,
        portrait: Portrait,
        speech: Speech,
        *,
        interpolate: bool = True,
        decode_chunk: int = 10,
        paste_back: bool = False,
        colour_match: bool = False,
        feather: float = FEATHER,
        residency: Residency = CPU,
        hooks: Hooks = SILENT,
    ):
        self.model, self.latents, self.portrait, self.speech = model, latents, portrait, speech
        self.interpolate, self.decode_chunk = interpolate, decode_chunk
        self.paste_back, self.colour_match, self.feather = paste_back, colour_match, feather
        self.residency, self.hooks = residency, hooks

    @property
    def fps(self) -> float:
        """Frames a second."""
        return 2 * FPS if self.interpolate else FPS

    def __len__(self) -> int:
        """Number of frames; the last one is held where the sound ends a little later, so that no syllable is cut."""
        return frames_to_cover(self.speech.sound.shape[1], self.speech.sound_sample_rate, self.fps)

    def chunks(self) -> Iterator[torch.Tensor]:
        """The frames as float tensors ``(n, 3, H, W)`` in 0..1 on the CPU, a few at a time."""
        clip = render(
            self.model,
            self.latents,
            decode_chunk=self.decode_chunk,
            interpolate=self.interpolate,
            residency=self.residency,
            hooks=self.hooks,
        )
        chunks = clip.chunks
        if self.paste_back or self.colour_match:
            chunks = map(ColourMatch(self.portrait), chunks)
        if self.paste_back:
            chunks = PasteBack(self.portrait, self.feather).stream(chunks)
        return hold_last_frame(chunks, len(self))

    def frames(self) -> Iterator[np.ndarray]:
        """The frames one by one, uint8 RGB ``(H, W, 3)``."""
        for chunk in self.chunks():
            for frame in chunk:
                yield rgb_to_bytes(frame)

    def save(self, path: str | PathLike[str], *, crf: int = 18) -> Path:
        """Write an ``.mp4`` with the sound, or a folder of PNG frames for a name without extension.

        Args:
            path: of the video or the folder.
            crf: quality of the video, 0 (lossless) to 51.

        Returns:
            `path`.

        Raises:
            SettingError: the extension is another one, or `crf` is out of range.
            OutputError: the file or folder cannot be written.
            Cancelled: the caller asked to stop.
        """
        path = Path(path)
        if path.suffix.lower() not in ("", ".mp4"):
            raise SettingError(f"{path}: write an .mp4, or a folder of PNG frames (a name without extension).")
        if path.suffix:
            check_file_target(path)
            sound = self.speech.sound, self.speech.sound_sample_rate
            write_mp4(
                path, self.chunks(), fps=Fraction(self.fps), sound=sound, crf=crf, hooks=self.hooks, total=len(self)
            )
        else:
            check_folder_target(path)
            write_png_folder(path, self.chunks(), hooks=self.hooks, total=len(self))
        return path
