"""ComfyUI's types to the library's and back, with messages for what does not fit."""

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import av
import comfy.model_management
import numpy as np
import torch
from comfy_api.latest import InputImpl, Types

from dicetalk.audio.speech import MAX_SECONDS, MIN_SECONDS, Speech, load_speech
from dicetalk.errors import NotEnoughMemoryError, PortraitError, SpeechError, VideoError
from dicetalk.hooks import Hooks
from dicetalk.portrait.prepare import Box
from dicetalk.video.clip import collect

BYTES_PER_PIXEL = 3 * 4
MASKED = 0.5


def to_speech(audio: Mapping[str, Any] | None, start: float, duration: float, hooks: Hooks) -> Speech:
    """A part of an AUDIO; a `duration` of 0 takes all that follows.

    Raises:
        SpeechError: there is no sound, or more than one, or too little of it.
    """
    if not isinstance(audio, Mapping) or "waveform" not in audio or "sample_rate" not in audio:
        raise SpeechError("There is no sound: the audio input is empty. A video without a sound track gives no audio.")
    waveform = audio["waveform"]
    if waveform.ndim != 3:
        raise SpeechError(
            f"The audio input has the shape {tuple(waveform.shape)}; expected (1, channels, samples), as Load Audio "
            "gives it."
        )
    if len(waveform) != 1:
        raise SpeechError(f"The audio input holds {len(waveform)} sounds; give one, for example with a batch of 1.")
    if not waveform.shape[-1]:
        raise SpeechError("The audio input is empty: it has no samples. Give at least 0.1 s of speech.")
    return load_speech((waveform, audio["sample_rate"]), start=start, duration=duration or None, hooks=hooks)


def check_duration(duration: float) -> None:
    """Refuse what no recording could be cut to; 0 stands for all that follows.

    Raises:
        SpeechError: it is too short or too long.
    """
    if duration and not MIN_SECONDS <= duration <= MAX_SECONDS:
        raise SpeechError(
            f"The duration is {duration:g} s: give {MIN_SECONDS:g} to {MAX_SECONDS:g}, or 0 for all that follows."
        )


def to_audio(speech: Speech) -> dict[str, Any]:
    """The sound of `speech` as AUDIO."""
    return {"waveform": torch.from_numpy(speech.sound.copy())[None], "sample_rate": speech.sound_sample_rate}


def to_image(picture: np.ndarray) -> torch.Tensor:
    """uint8 ``(H, W, 3)`` as an IMAGE of one."""
    return torch.from_numpy(picture)[None].float() / 255


def to_frames(images: torch.Tensor, hooks: Hooks) -> torch.Tensor:
    """An IMAGE batch ``(n, H, W, 3 or 4)`` as frames ``(n, 3, H, W)`` on the CPU, without copying.

    Args:
        images: the batch.
        hooks: hears of an alpha channel that is dropped, unless it is opaque.

    Raises:
        VideoError: there are no frames.
    """
    if images.ndim != 4 or not len(images) or images.shape[-1] not in (3, 4):
        raise VideoError(f"Images of shape {tuple(images.shape)} are no clip: expected (frames, height, width, 3).")
    if images.shape[-1] == 4 and (images[..., 3] < 1).any():
        hooks.notice("images have an alpha channel, which is not used.")
    return images[..., :3].float().cpu().movedim(-1, 1)


def to_images(chunks: Iterable[torch.Tensor], frames: int) -> torch.Tensor:
    """Chunks ``(n, 3, H, W)`` of a clip of `frames` frames as one IMAGE batch ``(frames, H, W, 3)``."""
    return collect(_channels_last(chunks), frames)


def _channels_last(chunks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    for chunk in chunks:
        yield chunk.movedim(1, -1)


RENDER_LESS = "Render in parts with start and duration of Audio Encode, or turn interpolation off."
SHOW_LESS = "Connect a shorter or smaller video, or Load Video's own, untrimmed, which is read bit by bit."


def check_memory(frames: int, height: int, width: int, *, copies: int = 1, way_on: str = RENDER_LESS) -> None:
    """Refuse a clip that main memory cannot hold, before hours are spent on it.

    Args:
        frames: number of pictures.
        height: of each, in pixels.
        width: of each; the values are float32.
        copies: how often all of them are in memory at once.
        way_on: what the user can do.

    Raises:
        NotEnoughMemoryError: memory does not suffice for it.
    """
    needed = copies * frames * height * width * BYTES_PER_PIXEL
    free = comfy.model_management.get_free_memory(torch.device("cpu"))
    if needed > free:
        raise NotEnoughMemoryError(
            f"{frames} frames of {width} x {height} pixels need {needed / 2**30:.1f} GB of main memory, and "
            f"{free / 2**30:.1f} GB are free. {way_on}"
        )


def to_video(images: torch.Tensor, audio: dict[str, Any], fps: float) -> Any:
    """An IMAGE batch and its AUDIO as VIDEO."""
    return InputImpl.VideoFromComponents(
        Types.VideoComponents(images=images, audio=audio, frame_rate=Fraction(fps).limit_denominator(1001))
    )


def whole_file(video: Any) -> Path | None:
    """The file that a VIDEO is the whole of, to be read bit by bit; none for what is trimmed or lies in memory.

    Raises:
        VideoError: the file is damaged.
    """
    if not isinstance(video, InputImpl.VideoFromFile):
        return None
    source = video.get_stream_source()
    if not isinstance(source, (str, Path)):
        return None
    try:
        # ComfyUI 0.15 does not tell from when to when a video is trimmed, but how long it is then.
        return Path(source) if video.get_duration() == InputImpl.VideoFromFile(source).get_duration() else None
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise VideoError(f"{source} is damaged or no video ({error}).") from error


def decoded(video: Any) -> Any:
    """Frames, sound and frame rate of a VIDEO, all in memory.

    Raises:
        NotEnoughMemoryError: it is still to be decoded, and memory does not suffice for its frames.
    """
    if isinstance(video, InputImpl.VideoFromFile):
        width, height = video.get_dimensions()
        frames = ceil(video.get_duration() * float(video.get_frame_rate()))
        # ComfyUI decodes frame by frame and then joins them.
        check_memory(frames, height, width, copies=2, way_on=SHOW_LESS)
    return video.get_components()


CHOOSE = "Give one for all or one for each; Get Image from Batch takes pictures out of a batch."


def boxes_of(box: Any, pictures: int, hooks: Hooks) -> list[Box]:
    """The face of each of `pictures` out of what a BOUNDING_BOX wire carries.

    One box is of all pictures. Of a list there is an entry for each picture, and of an entry that is a list itself the
    first box counts; for a single picture the first of all.

    Args:
        box: a table, or tables in lists of any depth.
        pictures: number of pictures in the batch.
        hooks: hears of boxes that are not used.

    Raises:
        PortraitError: there are not as many entries as pictures, one is empty, or what it holds is no box.
    """
    while isinstance(box, (list, tuple)) and len(box) == 1:
        box = box[0]
    if pictures == 1 or not isinstance(box, (list, tuple)) or not box:
        entries, used = [box], pictures
    elif len(box) == pictures:
        entries, used = list(box), 1
    else:
        raise PortraitError(f"The box input holds {len(box)} boxes for {pictures} pictures. {CHOOSE}")
    for number, entry in enumerate(entries, start=1):
        left = _boxes_in(entry) - 1
        if left > 0:
            of = f" of picture {number}" if len(entries) > 1 else ""
            hooks.notice(f"box holds {left + 1} boxes{of}: the first is used, and {left} not.")
    return [first_box(entry) for entry in entries] * used


def _boxes_in(box: Any) -> int:
    return sum(map(_boxes_in, box)) if isinstance(box, (list, tuple)) else 1


def mask_boxes(mask: torch.Tensor, pictures: int, height: int, width: int) -> list[Box]:
    """The face of each of `pictures` of `height` x `width` out of a MASK, which is one for all or one for each.

    Raises:
        PortraitError: there are not as many masks as pictures, or nothing is painted on one.
    """
    masks = mask.reshape(-1, *mask.shape[-2:])
    if len(masks) not in (1, pictures):
        raise PortraitError(
            f"The mask input holds {len(masks)} masks for {'one picture' if pictures == 1 else f'{pictures} pictures'}."
            f" {CHOOSE}"
        )
    boxes = []
    for number, each in enumerate(masks, start=1):
        try:
            boxes.append(mask_box(each, height, width))
        except PortraitError as error:
            raise PortraitError(f"Mask {number} of {len(masks)}: {error}" if len(masks) > 1 else str(error)) from error
    return boxes * (pictures // len(masks))


def first_box(box: Any) -> Box:
    """The first of what a BOUNDING_BOX wire carries: a table, or tables in lists of any depth.

    Raises:
        PortraitError: it is empty, or no box.
    """
    while isinstance(box, (list, tuple)):
        if not box:
            raise PortraitError("The box input holds no box: nothing was found in the picture before it.")
        box = box[0]
    sides = ("x", "y", "width", "height")
    if not isinstance(box, Mapping) or not all(isinstance(box.get(side), (int, float)) for side in sides):
        raise PortraitError(f"The box input is {box!r:.80}; expected x, y, width and height in pixels.")
    try:
        return tuple(float(box[side]) for side in sides)
    except OverflowError:
        raise PortraitError(f"The box input is {box!r:.80}: a number in it is too large.") from None


def mask_box(mask: torch.Tensor, height: int, width: int) -> Box:
    """The bounds of a painted mask ``(h, w)`` in pixels of the picture of `height` x `width`.

    Raises:
        PortraitError: nothing is painted.
    """
    painted = mask > MASKED
    rows, columns = painted.any(dim=1).nonzero(), painted.any(dim=0).nonzero()
    if not len(rows):
        raise PortraitError("The mask is empty. Paint over the face, or disconnect the mask so that it is looked for.")
    scale_y, scale_x = height / painted.shape[0], width / painted.shape[1]
    x, y = columns.min().item() * scale_x, rows.min().item() * scale_y
    return x, y, (columns.max().item() + 1) * scale_x - x, (rows.max().item() + 1) * scale_y - y
