"""Decodes one sound stream of a container, packet by packet, and knows what of it is missing."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer

from dicetalk.audio.ending import is_torn, lacks_ogg_end
from dicetalk.audio.header import Promise
from dicetalk.audio.samples import FrameSamples
from dicetalk.audio.timeline import NOTED_SECONDS, Timeline
from dicetalk.errors import SpeechError
from dicetalk.media import in_seconds, listed, promised_end, translated, usable

TRUE_LENGTHS = ("matroska", "mp4", "avi", "flac", "aiff", "au", "w64", "flv", "tta", "wv")
"""Formats whose header tells their length; that of others is a guess from their size."""

EXACT_LENGTHS = ("ogg", "mp4")
"""Formats that tell, by an edit list or the last page, where in the last frame the sound ends."""

FILL_SECONDS = 0.15
"""The longest frame of a codec, rounded up."""

CUT_SECONDS = 0.25
"""Lengths in headers are rounded to a block of the codec, some times twice."""

CUT_FILM_SECONDS = 1.0
"""A film's length is that of its longest stream, and streams of one file differ a little: for files with streams that
are not read here."""


class StreamReader:
    """Decodes one stream of a container into its timeline.

    Args:
        path: for messages.
        container: opened.
        stream: of `container`.
        promise: what the header of an uncompressed sound says.

    Attributes:
        rate: samples a second, known after :meth:`begin`.
        layout: names of the channels, likewise.
    """

    def __init__(self, path: Path, container: InputContainer, stream: AudioStream, promise: Promise | None):
        self.path, self.container, self.stream, self.promise = path, container, stream, promise
        video = usable(container, "video")
        self.video = video[0] if video else None
        self.video_end: float | None = None
        self.bad: list[float] = []
        self.packets = container.demux([stream, self.video] if self.video else [stream])
        self.ended = self.torn = self.odd_end = False
        self.samples_of = FrameSamples()
        self.first: list[av.AudioFrame] = []
        self.rate = 0
        self.layout: tuple[str, ...] = ()
        self.limit: int | None = None
        self.handed = 0

    def begin(self, lead_in: bool) -> bool:
        """Decode up to the first sound; false if there is none."""
        self.first = next(self._decoded(), [])
        if not self.first:
            return False
        frame = self.first[0]
        # The frame knows better than the header, which may give half the rate (HE-AAC).
        self.rate, names = frame.sample_rate, tuple(channel.name for channel in frame.layout.channels)
        self.layout = names
        origin = max(_time(frame) or 0.0, 0.0)
        if lead_in and self.video is not None and self.video.start_time is not None:
            origin = max(min(origin, in_seconds(self.video.start_time, self.video.time_base)), 0.0)
        self.timeline = Timeline(str(self.path), self.rate, len(names), origin)
        length = self.stream.duration or 0
        if any(known in self.container.format.name for known in EXACT_LENGTHS) and length > 0:
            # Counted from the first sample, not from time 0: Vorbis's time stamps begin half a frame late.
            lead = max((_time(frame) or 0.0) - origin, 0.0)
            self.limit = round((lead + in_seconds(length, self.stream.time_base)) * self.rate)
        return True

    def blocks(self) -> Iterator[np.ndarray]:
        """Samples in order, silence among them."""
        for block in self._untrimmed() if self.limit is None else self._trimmed(self.limit):
            self.handed += len(block)
            yield block

    def _untrimmed(self) -> Iterator[np.ndarray]:
        yield from self._placed(self.first)
        self.first = []
        for frames in self._decoded():
            yield from self._placed(frames)

    def _trimmed(self, limit: int) -> Iterator[np.ndarray]:
        """Without what fills up the codec's last frame behind `limit`; a header that is off by more is not believed."""
        done, behind, kept = 0, 0, []
        for block in self._untrimmed():
            inside = block[: max(limit - done, 0)]
            done += len(inside)
            if len(inside):
                yield inside
            if len(inside) == len(block):
                continue
            kept.append(block[len(inside) :])
            behind += len(kept[-1])
            if behind > FILL_SECONDS * self.rate:
                yield from kept
                kept, limit = [], 1 << 62

    def notes(self) -> list[str]:
        """What to tell the user about what has been read by now."""
        notes = self.timeline.notes()
        if self.bad:
            moments = listed([f"{moment:.2f} s" for moment in self.bad])
            notes.append(f"{self.path} is damaged at {moments}: what cannot be decoded is left out.")
        if self.ended:
            notes += self._missing()
        return notes

    def _placed(self, frames: list[av.AudioFrame]) -> Iterator[np.ndarray]:
        for frame in frames:
            if (frame.sample_rate, len(frame.layout.channels)) != (self.rate, len(self.layout)):
                raise self._damaged("the sample rate or the channels change there")
            with translated(lambda error: self._damaged(str(error))):
                block = self.samples_of(frame)
            yield from self.timeline.place(block, _time(frame))

    def _decoded(self) -> Iterator[list[av.AudioFrame]]:
        """Frames, packet by packet; packets that cannot be decoded are remembered."""
        bad_since: float | None = None
        while True:
            try:
                with translated(plain_error):
                    packet = next(self.packets, None)
            except SpeechError:
                self.torn, packet = True, None
            if packet is None:
                self.ended = True
                self.odd_end = self.odd_end or bad_since is not None
                return
            if packet.stream is self.video:
                if packet.pts is not None:
                    end = in_seconds(packet.pts + (packet.duration or 0), packet.time_base)
                    self.video_end = max(end, self.video_end if self.video_end is not None else end)
                continue
            if packet.size:  # the last one is the empty one that ends the decoder
                # Of a CAF that reaches to its file's end FFmpeg marks the last packet of every whole one.
                by_name = self.container.format.name != "caf"
                self.odd_end = by_name and is_torn(packet, self.stream.codec_context.name)
            try:
                with translated(plain_error):
                    frames = [f for f in packet.decode() if isinstance(f, av.AudioFrame) and f.samples]
            except SpeechError:
                if bad_since is None:
                    bad_since = self.timeline.seconds if self.rate else 0.0
                continue
            if frames:
                if bad_since is not None:
                    self.bad.append(bad_since)
                    bad_since = None
                yield frames

    def _missing(self) -> list[str]:
        """What a header promises and is not there, or the other way round."""
        read, slack = self.handed / self.rate, CUT_SECONDS
        promised = self._promised()
        if self.promise is not None:
            if notes := promise_notes(self.path, self.promise, read):
                return notes
            promised = None
        elif self.video is not None and self.stream.duration is None:
            slack = self._film_slack()
        if promised is not None and promised <= 0 < read:
            promised = None
        if promised is not None and abs(promised - read) > slack:
            return [_length_note(self.path, promised, read)]
        if self.torn or self.odd_end or lacks_ogg_end(self.path):
            return [f"{self.path} ends in the middle, after {read:.2f} s: it may have been cut short."]
        return []

    def _promised(self) -> float | None:
        """Length of the stream by the header, in seconds from the timeline's origin; `None` if that does not tell."""
        name = self.container.format.name
        stream, origin = self.stream, self.timeline.origin
        by_index = name == "mp3" and stream.start_time  # the mark of a header that counts its frames
        if not by_index and not any(known in name for known in TRUE_LENGTHS):
            return None
        if "avi" in name and stream.frames > 0:  # FFmpeg takes the duration from the size of what is there
            return stream.frames * float(stream.time_base or 0) - origin
        if stream.duration is not None and stream.duration > 0:
            return in_seconds((stream.start_time or 0) + stream.duration, stream.time_base) - origin
        if not self.container.duration or self.container.duration < 0:
            return None
        end = promised_end(self.container)
        if self.video is not None and self.video_end is not None and self.video_end > end - self._film_slack():
            return None  # the pictures last as long as the file: nothing was cut, the sound just ends earlier
        return end - origin

    def _film_slack(self) -> float:
        """Seconds by which streams may end before the film does."""
        return CUT_SECONDS if len(self.container.streams) == (1 if self.video is None else 2) else CUT_FILM_SECONDS

    def _damaged(self, reason: str) -> SpeechError:
        return SpeechError(
            f"{self.path} is damaged after {self.timeline.seconds:.2f} s ({reason}). Repair it, or use the part before "
            "it."
        )


def promise_notes(path: Path, promise: Promise, read: float) -> list[str]:
    """What to tell of a header beside which `read` seconds were found."""
    promised = promise.seconds if promise.share is None else promise.share * read
    if promised is None:
        return [f"{path}: its header does not say how long it is; all that follows, {read:.2f} s, is read."]
    return [_length_note(path, promised, read)] if abs(promised - read) > NOTED_SECONDS else []


def _length_note(path: Path, promised: float, read: float) -> str:
    if read > promised:
        return f"{path}: its header says {promised:.2f} s; all that is there, {read:.2f} s, is read."
    return (
        f"{path} is cut short: its header promises {promised:.2f} s, and {read:.2f} s are there; "
        f"{promised - read:.2f} s are missing."
    )


def _time(frame: av.AudioFrame) -> float | None:
    return None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)


def plain_error(error: Exception) -> SpeechError:
    """What to raise where the caller goes on without what could not be read."""
    return SpeechError(str(error))
