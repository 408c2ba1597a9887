"""Frames and sound to files, as a stream: the clip is never held. MP4, WebM with alpha, PNG."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from io import FileIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream
from PIL import Image
from torch import Tensor

from dicetalk.errors import VideoError
from dicetalk.files import check_file_target, check_folder_target, explained, replacing
from dicetalk.hooks import SILENT, Hooks
from dicetalk.settings import VideoSettings
from dicetalk.video.clip import NO_FRAMES, exact_fps
from dicetalk.video.colour import rgb_to_bytes, rgba_to_yuva420, yuv420_planes

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


AAC_SAMPLE_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
"""Sample rates that AAC holds and every player plays; sound of another rate is resampled to the next higher one."""

SOUND_BLOCK = 4096
"""Samples that go to the encoder at a time."""

RGB_CHANNELS = 3

BT709, LIMITED = 1, 1
"""ITU-T H.273 code of the colour primaries, transfer and matrix, and ffmpeg's code of the range 16-235."""


@dataclass(frozen=True)
class Form:
    """How a file holds pictures and sound.

    Args:
        container: ffmpeg's name of it.
        picture_codec: encoder of the pictures.
        sound_codec: encoder of the sound.
        sample_rates: that the sound may have, rising; other sound is resampled to the next higher one.
        alpha: pictures may have a fourth channel.
        container_options: of the muxer.
        picture_options: of the pictures' encoder, beside its quality.
    """

    container: str
    picture_codec: str
    sound_codec: str
    sample_rates: tuple[int, ...]
    alpha: bool = False
    container_options: dict[str, str] = field(default_factory=dict)
    picture_options: dict[str, str] = field(default_factory=dict)


MP4 = Form("mp4", "libx264", "aac", AAC_SAMPLE_RATES, container_options={"movflags": "+faststart"})


def write_mp4(
    path: str | PathLike[str],
    chunks: Iterable[Tensor],
    *,
    fps: Fraction | float,
    sound: tuple[np.ndarray, int] | None = None,
    crf: int = 18,
    hooks: Hooks = SILENT,
    total: int,
) -> None:
    """Write H.264 (4:2:0, BT.709) with AAC sound.

    The file takes its place when it is complete; whatever ends the work early leaves an existing file as it was.

    Args:
        path: an existing file is replaced.
        chunks: pieces of one clip, (n, 3, H, W) in 0..1; an odd height or width is made even by one more row or column.
        fps: frames per second.
        sound: float (channels, samples) in -1..1 with one or two channels, and its samples per second. It is written
            whole, however long the clip is (:func:`dicetalk.video.clip.hold_last_frame` makes the clip as long).
        crf: quality, 0 (lossless) to 51.
        hooks: reports the stage "write" in frames.
        total: frames in all `chunks`, for the progress.

    Raises:
        SettingError: `fps` or `crf` is out of range.
        VideoError: there are no frames; the sound is empty, not finite or has other channels.
        OutputError: the file cannot be written (folder missing, no permission, disk full).
    """
    write_film(MP4, path, chunks, fps=fps, sound=sound, crf=crf, hooks=hooks, total=total)


def write_film(
    form: Form,
    path: str | PathLike[str],
    chunks: Iterable[Tensor],
    *,
    fps: Fraction | float,
    sound: tuple[np.ndarray, int] | None,
    crf: int,
    hooks: Hooks,
    total: int,
) -> None:
    """Write pictures and sound as `form` says.

    The other arguments and the errors are those of :func:`write_mp4`; but `chunks` may also be (n, 4, H, W) where
    `form` has alpha. All pieces have as many channels as the first.
    """
    path = Path(path)
    fps = exact_fps(fps)
    VideoSettings(crf=crf)
    if sound is not None:
        _check_sound(*sound)
    check_file_target(path)
    pictures, track, done = None, None, 0
    with replacing(path) as partial, _opened(partial, path, form) as container:
        for chunk in chunks:
            hooks.check()
            for picture in chunk:
                frame = _frame(picture, form)
                with explained(path):
                    if pictures is None:
                        pictures = _picture_stream(container, frame, fps, crf, form)
                        track = _SoundTrack.add(container, form, *sound) if sound else None
                    frame.pts, frame.time_base = done, 1 / fps
                    container.mux(pictures.encode(frame))
                    done += 1
                    if track:
                        # In step with the pictures: the muxer keeps one kind waiting for the other in memory.
                        track.encode_until(done / fps)
            hooks.report("write", done, total)
        if pictures is None:
            raise VideoError(NO_FRAMES)
        with explained(path):
            container.mux(pictures.encode(None))
            if track:
                track.finish()


@contextmanager
def _opened(partial: Path, path: Path, form: Form) -> Iterator[OutputContainer]:
    # ffmpeg leaves a file that it has opened itself open when the disk is full, and Windows removes no open file. The
    # name is absolute, because ffmpeg, which reads the file again, takes what stands before a colon in a relative one
    # for a protocol.
    with explained(path):
        file = _UnbufferedFile(partial.absolute(), "w+")
    with closing(file):
        container = av.open(file, "w", format=form.container, options=form.container_options)
        try:
            yield container
            with explained(path):
                container.close()
                file.close()
        except BaseException:
            with suppress(Exception):  # what came first is what the caller must hear
                container.close()
            raise


class _UnbufferedFile(FileIO):
    """A file that writes everything at once; a plain one writes less than it is given where a disk becomes full."""

    def write(self, data: "ReadableBuffer", /) -> int:
        left = whole = memoryview(data).cast("B")
        while left:
            left = left[super().write(left) :]
        return len(whole)


def _frame(picture: Tensor, form: Form) -> av.VideoFrame:
    planes: tuple[np.ndarray, ...]
    if len(picture) == RGB_CHANNELS:
        name, planes = "yuv420p", yuv420_planes(picture)
    elif form.alpha:
        name, planes = "yuva420p", rgba_to_yuva420(picture)
    else:
        raise VideoError(f"{form.container} holds no alpha: the frames must be (n, 3, H, W).")
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, name)
    # Encoders look at what lies behind the rows, too: left as it was, equal frames gave different files.
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        rows[:, : plane.width] = values
        plane.update(rows.tobytes())
    return frame


def _picture_stream(
    container: OutputContainer, frame: av.VideoFrame, fps: Fraction, crf: int, form: Form
) -> VideoStream:
    stream = container.add_stream(form.picture_codec, rate=fps, options={"crf": str(crf)} | form.picture_options)
    assert isinstance(stream, VideoStream)
    stream.height, stream.width = frame.height, frame.width
    stream.pix_fmt = frame.format.name
    stream.codec_context.time_base = 1 / fps
    for tag in ("color_primaries", "color_trc", "colorspace"):
        setattr(stream.codec_context, tag, BT709)
    stream.codec_context.color_range = LIMITED
    return stream


@dataclass
class _SoundTrack:
    """Sound that is encoded bit by bit."""

    container: OutputContainer
    stream: AudioStream
    samples: np.ndarray
    sample_rate: int
    done: int = 0

    @classmethod
    def add(cls, container: OutputContainer, form: Form, samples: np.ndarray, sample_rate: int) -> "_SoundTrack":
        rate = next((rate for rate in form.sample_rates if rate >= sample_rate), form.sample_rates[-1])
        stream = container.add_stream(form.sound_codec, rate=rate)
        assert isinstance(stream, AudioStream)
        stream.layout = _layout(samples)
        # AAC takes at most 6 bits a sample and channel; 96 kbit/s a channel is transparent for speech.
        stream.bit_rate = len(samples) * min(96_000, 4 * rate)
        return cls(container, stream, samples, sample_rate)

    def encode_until(self, seconds: Fraction) -> None:
        while self.done < min(seconds * self.sample_rate, self.samples.shape[1]):
            block = self.samples[:, self.done : self.done + SOUND_BLOCK]
            block = np.ascontiguousarray(block.clip(-1, 1), dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=_layout(block))
            frame.sample_rate = self.sample_rate
            frame.pts, frame.time_base = self.done, Fraction(1, self.sample_rate)
            self.container.mux(self.stream.encode(frame))
            self.done += block.shape[1]

    def finish(self) -> None:
        self.encode_until(Fraction(self.samples.shape[1], self.sample_rate))
        self.container.mux(self.stream.encode(None))


def _layout(samples: np.ndarray) -> str:
    return "mono" if len(samples) == 1 else "stereo"


def _check_sound(samples: np.ndarray, sample_rate: int) -> None:
    if samples.ndim != 2 or len(samples) not in (1, 2) or not samples.size:
        raise VideoError(f"The sound must be (1 or 2 channels, samples), got an array of shape {samples.shape}.")
    if not 1000 <= sample_rate <= 768_000:
        raise VideoError(f"The sound's sample rate must be between 1000 and 768000, got {sample_rate}.")
    if not np.isfinite([samples.min(), samples.max()]).all():
        raise VideoError("The sound holds values that are not finite (NaN or infinity). Repair it, or leave it out.")


WEBM = Form(
    "webm",
    "libvpx-vp9",
    "libopus",
    sample_rates=(8000, 12000, 16000, 24000, 48000),
    alpha=True,
    # No random numbers in the header: the same frames make the same file, as in MP4.
    container_options={"fflags": "+bitexact"},
    # b=0: quality alone decides. The encoder's own speed 1 takes ten times as long as 5, and saves a tenth of the size.
    picture_options={"b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1", "auto-alt-ref": "0"},
)
"""VP9 with alpha must not use hidden reference frames (``auto-alt-ref``): players lose the alpha of what follows."""


def write_webm(
    path: str | PathLike[str],
    chunks: Iterable[Tensor],
    *,
    fps: Fraction | float,
    sound: tuple[np.ndarray, int] | None = None,
    crf: int = 18,
    hooks: Hooks = SILENT,
    total: int,
) -> None:
    """Write VP9 (4:2:0, BT.709) with Opus sound.

    Args:
        path: an existing file is replaced.
        chunks: pieces of one clip, (n, 3, H, W) in 0..1, or (n, 4, H, W) with alpha that is not premultiplied.
        fps: frames per second.
        sound: as for :func:`dicetalk.video.write.write_mp4`, whose errors are raised here, too.
        crf: quality, 0 (best) to 51.
        hooks: reports the stage "write" in frames.
        total: frames in all `chunks`, for the progress.
    """
    write_film(WEBM, path, chunks, fps=fps, sound=sound, crf=crf, hooks=hooks, total=total)


def write_png_folder(
    folder: str | PathLike[str], chunks: Iterable[Tensor], *, hooks: Hooks = SILENT, total: int
) -> None:
    """Write ``frame_00001.png``, ``frame_00002.png``, ...

    The folder takes its place when it is complete; whatever ends the work early leaves nothing.

    Args:
        folder: new, or existing and empty.
        chunks: pieces of one clip, (n, 3, H, W) in 0..1, or (n, 4, H, W) with alpha, not premultiplied.
        hooks: reports the stage "write" in frames.
        total: frames in all `chunks`, for the progress.

    Raises:
        VideoError: there are no frames.
        OutputError: `folder` holds something already, or it cannot be written.
    """
    folder = Path(folder)
    check_folder_target(folder)
    done = 0
    with replacing(folder) as partial:
        with explained(folder):
            partial.mkdir()
        for chunk in chunks:
            hooks.check()
            for picture in chunk:
                done += 1
                image = Image.fromarray(rgb_to_bytes(picture))
                with explained(folder):
                    image.save(partial / f"frame_{done:05}.png")
            hooks.report("write", done, total)
        if not done:
            raise VideoError(NO_FRAMES)
