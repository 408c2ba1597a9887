"""A reference for an emotion: a video, a sound or a picture, as pictures and speech at the network's rates."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dicetalk.audio.decode import array_source
from dicetalk.audio.speech import SAMPLES_PER_FRAME, load_speech
from dicetalk.errors import VideoError
from dicetalk.film import frames_between, measure, speech_parts
from dicetalk.hooks import Hooks
from dicetalk.portrait.read import FORMATS, read_picture
from dicetalk.settings import FPS


@dataclass(frozen=True, eq=False)
class Reference:
    """What an emotion is taken from. Nothing is decoded until it is asked for.

    Args:
        name: what messages call it.
        frames: length at 12.5 fps; a still picture has one.
        pictures: begins to hand out the pictures, uint8 RGB ``(H, W, 3)``, at 12.5 fps; or none. A damaged film may
            end early.
        speech: reads the sound, mono at 16 kHz, float32 ``(n,)``, which begins with the pictures; or none.
    """

    name: str
    frames: int
    pictures: Callable[[], Iterator[np.ndarray]] | None
    speech: Callable[[], np.ndarray] | None


def open_reference(path: Path | str) -> Reference:
    """A file: a video, with or without sound; a sound; a picture.

    Frames of any video are told by their times, so a frame rate that changes does no harm.

    Raises:
        VideoError: the file is missing, damaged, none of these, or longer than an hour.
        PortraitError: it is a picture that cannot be used.
    """
    path = Path(path)
    if not path.is_file():
        raise VideoError(f"{path}: there is no such file.")
    if _is_still(path):
        picture = read_picture(path)
        return Reference(str(path), 1, lambda: iter([picture]), None)
    spans = {}
    problems = []
    for kind in ("video", "audio"):
        try:
            spans[kind] = measure(path, kind)
        except VideoError as error:
            problems.append(error)
    if not spans:
        raise problems[0]
    seen, heard = spans.get("video"), spans.get("audio")
    main = seen or heard
    frames = max(round((main.end - main.start) * FPS), 1)
    pictures = speech = None
    if seen is not None:

        def pictures() -> Iterator[np.ndarray]:
            return frames_between(path, seen.start, frames)

    if heard is not None:

        def speech() -> np.ndarray:
            return next(speech_parts(path, main.start - heard.start, [frames]))

    return Reference(str(path), frames, pictures, speech)


def reference_of(
    frames: np.ndarray | None = None, fps: float = FPS, sound: tuple[Any, float] | None = None
) -> Reference:
    """What lies in memory already.

    Args:
        frames: uint8 RGB ``(N, H, W, 3)``; one is a still picture.
        fps: of `frames`.
        sound: array and sample rate, as :func:`dicetalk.audio.speech.load_speech` takes it; begins with the pictures.

    Raises:
        VideoError: the frames are no such array, or `fps` is out of range.
        SpeechError: the sound is damaged.
    """
    name = "The reference"
    if frames is None and sound is None:
        raise VideoError(f"{name} has neither pictures nor sound.")
    length, pictures, speech = 0, None, None
    if frames is not None:
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
            raise VideoError(f"{name} is {frames.dtype} of shape {frames.shape}; expected uint8 (N, H, W, 3).")
        if not 0 < fps <= 1000:
            raise VideoError(f"{name} has {fps:g} frames a second; expected more than 0, up to 1000.")
        moments = (np.arange(max(round(len(frames) / fps * FPS), 1)) / FPS * fps + 1e-6).astype(int)
        shown = moments.clip(max=len(frames) - 1)
        length = len(shown)

        def pictures() -> Iterator[np.ndarray]:
            return (frames[number] for number in shown)

    if sound is not None:
        array_source(*sound)  # refuses what is no sound now, not later
        samples = load_speech(sound, hooks=Hooks(notice=lambda _: None)).samples
        length = length or max(len(samples) // SAMPLES_PER_FRAME, 1)

        def speech() -> np.ndarray:
            return samples[: length * SAMPLES_PER_FRAME]

    return Reference(name, length, pictures, speech)


def _is_still(path: Path) -> bool:
    try:
        with Image.open(path, formats=FORMATS) as picture:
            return not getattr(picture, "is_animated", False)
    except Image.DecompressionBombError:
        return True  # too large; reading it says so
    except (OSError, ValueError, SyntaxError):
        return False
