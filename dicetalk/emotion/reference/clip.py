"""A reference for an emotion: a video, a sound or a picture, as pictures and speech at the network's rates."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dicetalk.audio.decode import array_source, choose_stream
from dicetalk.audio.level import as_heard
from dicetalk.audio.speech import SAMPLES_PER_FRAME, load_speech
from dicetalk.audio.timeline import NOTED_SECONDS
from dicetalk.errors import SpeechError, VideoError
from dicetalk.film import MAX_SECONDS, NoStreamError, Span, frames_between, measure, missing_seconds, speech_parts
from dicetalk.hooks import SILENT, Hooks
from dicetalk.media import Kind
from dicetalk.paths import checked_path
from dicetalk.portrait.files import SEVERAL_STILLS, HeicError, open_picture
from dicetalk.portrait.read import read_picture
from dicetalk.settings import FPS

LEAST_SHOWN_SECONDS = 0.02
"""Pictures of an animation that are shown for less, or for no time at all, are shown for..."""

SHOWN_SECONDS = 0.1
"""...this long, as browsers do."""

LATE_SECONDS = 0.25
"""Streams of one file rarely end together; less is a rest of the codec's last frame."""


@dataclass(frozen=True, eq=False)
class Reference:
    """Reference that an emotion is taken from. Nothing is decoded until it is asked for.

    Args:
        name: what messages call it.
        frames: length at 12.5 fps; a still picture has one, whatever is said over it.
        pictures: begins to hand out the pictures, uint8 RGB ``(H, W, 3)``, at 12.5 fps; or none. A damaged film may
            end early.
        speech: reads the sound, mono at 16 kHz, float32 ``(n,)``, which begins with the pictures, and ends with them
            unless there is only one; or none.
        problems: what is wrong with it, in sentences.
    """

    name: str
    frames: int
    pictures: Callable[[], Iterator[np.ndarray]] | None
    speech: Callable[[], np.ndarray] | None
    problems: tuple[str, ...] = ()


def open_reference(path: Path | str, *, stream: int | None = None, hooks: Hooks = SILENT) -> Reference:
    """A file: a video, with or without sound; a sound; a picture, also an animated one.

    Pictures and sound are placed by their time stamps, so a frame rate that changes does no harm, gaps in the sound are
    silence, and sound that begins before or after the pictures keeps its place. What is there of a video that was cut
    short, or has one damaged stream, is used; the reference's `problems` tell of it.

    Args:
        path: the file.
        stream: which of its sound streams, 1 is the first; by default the one that is marked so or the first that is
            not silent.
        hooks: hears, while the reference is read, of what is damaged or missing inside it.

    Raises:
        VideoError: the file is missing, damaged, none of these, or longer than an hour.
        SpeechError: it has no such sound stream.
        PortraitError: it is a picture that cannot be used.
    """
    path = checked_path(path, VideoError)
    if not path.is_file():
        raise VideoError(f"{path}: there is no such file.")
    if stream is not None and stream < 1:
        raise SpeechError(f"The sound stream is {stream}; expected 1 for the first, or more.")
    kind = _picture_kind(path)
    if kind == "still":
        picture = read_picture(path, hooks)
        return Reference(str(path), 1, lambda: iter([picture]), None)
    if kind == "animated":
        return _animation(path, hooks)
    notes: list[str] = []
    if stream is None:
        stream, notes = choose_stream(path, hooks)
    try:
        seen, heard, problems = _spans(path, stream)
    except VideoError as error:
        return _sound_alone(path, stream, error, hooks)
    main = seen or heard
    if main is None:
        raise NoStreamError(f"{path} holds neither pictures nor sound.")
    frames = max(round((main.end - main.start) * FPS), 1)
    lasting = heard if heard is not None and frames == 1 else main
    notice = _once(hooks.notice)
    pictures = speech = None
    if seen is not None:

        def pictures() -> Iterator[np.ndarray]:
            return frames_between(path, seen.start, frames, notice)

    if heard is not None:

        def speech() -> np.ndarray:
            length = max(round((lasting.end - lasting.start) * FPS), 1)
            parts = speech_parts(path, main.start - heard.start, [length], stream=stream, notice=notice)
            return as_heard(np.concatenate(list(parts)), str(path), notice)

    return Reference(str(path), frames, pictures, speech, (*problems, *notes, *_unused(path, seen, heard, frames)))


def _sound_alone(path: Path, stream: int | None, error: VideoError, hooks: Hooks) -> Reference:
    """A sound that only soundfile reads, as a W64 whose header was never finished; `error` if it reads it neither."""
    try:
        samples = load_speech(path, stream=stream, hooks=hooks).samples
    except SpeechError:
        raise error from error.__cause__
    frames = max(len(samples) // SAMPLES_PER_FRAME, 1)
    return Reference(str(path), frames, None, lambda: samples[: frames * SAMPLES_PER_FRAME])


def _once(notice: Callable[[str], None]) -> Callable[[str], None]:
    """`notice`, which hears each sentence once, however often the reference is read."""
    given: set[str] = set()

    def tell(text: str) -> None:
        if text not in given:
            given.add(text)
            notice(text)

    return tell


def _unused(path: Path, seen: Span | None, heard: Span | None, frames: int) -> list[str]:
    """Parts of a file that the reference does not use."""
    notes = []
    if seen is not None and seen.others:
        notes.append(f"{path} has {seen.others + 1} video streams: one is used, not the others.")
    if seen is None or heard is None or frames == 1:
        return notes
    early, late = seen.start - heard.start, heard.end - seen.end
    if early > NOTED_SECONDS:
        notes.append(f"{path}: its sound begins {early:.2f} s before the pictures; that part is not used.")
    elif -early > NOTED_SECONDS:
        notes.append(f"{path}: its sound begins {-early:.2f} s after the pictures; there is silence before it.")
    if late > LATE_SECONDS:
        notes.append(f"{path}: its sound goes on for {late:.2f} s after the pictures; that part is not used.")
    elif -late > LATE_SECONDS:
        notes.append(f"{path}: its sound ends {-late:.2f} s before the pictures.")
    return notes


def reference_of(
    frames: np.ndarray | None = None, fps: float = FPS, sound: tuple[Any, float] | None = None
) -> Reference:
    """Reference from frames and sound in memory.

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
        if pictures is None or length > 1:
            samples = samples[: length * SAMPLES_PER_FRAME]

        def speech() -> np.ndarray:
            return samples

    return Reference(name, length, pictures, speech)


def _spans(path: Path, stream: int | None) -> tuple[Span | None, Span | None, tuple[str, ...]]:
    """When pictures and sound of a file start and end, and what is wrong with them."""
    spans: dict[Kind, Span] = {}
    errors: list[VideoError] = []
    kinds: tuple[Kind, ...] = ("video", "audio")
    for kind in kinds:
        try:
            spans[kind] = measure(path, kind, stream) if kind == "audio" and stream else measure(path, kind)
        except VideoError as error:
            errors.append(error)
    if not spans:
        raise errors[0]
    problems = [str(error) for error in errors if not isinstance(error, NoStreamError)]
    missing = missing_seconds(path, max(span.end for span in spans.values()))
    if missing:
        problems.append(f"{path} is cut short: its last {missing:.1f} s are missing.")
    return spans.get("video"), spans.get("audio"), tuple(problems)


def _picture_kind(path: Path) -> str | None:
    """``still``, ``animated`` for kinds of animations that FFmpeg does not read right, or `None` for what it reads."""
    try:
        with open_picture(path) as picture:
            if not getattr(picture, "is_animated", False) or picture.format in SEVERAL_STILLS:
                return "still"
            return "animated" if picture.format in ("WEBP", "AVIF") else None
    except (Image.DecompressionBombError, HeicError):
        return "still"  # reading it says what is wrong
    except Exception:  # damaged pictures make Pillow's readers stumble in many ways; others may read them
        return None


def _animation(path: Path, hooks: Hooks) -> Reference:
    """An animated WebP, which FFmpeg does not read, or AVIF, of which it knows other times."""
    end = 0.0
    for end, _ in _shown(path):
        if end > MAX_SECONDS:
            raise VideoError(f"{path} is longer than {MAX_SECONDS:g} s. Cut it into shorter videos.")
    frames = max(math.ceil(end * FPS - 1e-6), 1)

    def pictures() -> Iterator[np.ndarray]:
        done = 0
        for until, image in _shown(path):
            if done / FPS < until:
                # A note about the first picture is enough.
                picture = read_picture(image, SILENT if done else hooks)
            while done / FPS < until - 1e-6:
                yield picture
                done += 1

    return Reference(str(path), frames, pictures, None)


def _shown(path: Path) -> Iterator[tuple[float, Image.Image]]:
    """The pictures of an animation, one at a time, and until when each is shown, in seconds."""
    until = 0.0
    try:
        with open_picture(path) as animation:
            for number in range(getattr(animation, "n_frames", 1)):
                animation.seek(number)
                animation.load()  # only now it knows how long this one is shown
                seconds = animation.info.get("duration", 0) / 1000
                until += seconds if seconds >= LEAST_SHOWN_SECONDS else SHOWN_SECONDS
                yield until, animation
    except Exception as error:
        raise VideoError(f"{path} is damaged or no animation ({error}).") from error
