"""Speech as the rest of the library wants it: mono at 16 kHz for the network, and the sound for the video."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from dicetalk.audio.decode import Source, array_source, file_source
from dicetalk.audio.downmix import Downmix
from dicetalk.audio.level import as_heard
from dicetalk.errors import SpeechError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.paths import checked_path

SAMPLE_RATE = 16_000
SAMPLES_PER_FRAME = 1280
"""12.5 frames a second."""

SOUND_SAMPLE_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Rates that AAC has, up to the highest that helps a video."""

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 8_000, 192_000
MIN_SECONDS, MAX_SECONDS = 0.1, 3600.0
MAX_CHANNELS = 32
MAX_LEVEL = 1000.0
BYTES_PER_SAMPLE = 4
SILENCE_LEVEL = 1 / 32768
"""Below one step of 16 bits."""


@dataclass(frozen=True, eq=False)
class Speech:
    """One clip's speech.

    Args:
        samples: what the network hears: float32 ``(n,)``, mono at 16 kHz, full scale at 1 (louder is kept).
        sound: what the viewer hears: float32 ``(channels, m)``, one or two channels, the same start and length.
        sound_sample_rate: samples a second of `sound`, one of :data:`SOUND_SAMPLE_RATES`.
        silence_below: level of `samples`, in dB of full scale, under which the network hears digital silence
            in a frame; `None` lets it hear everything. See :func:`dicetalk.audio.silence.quiet_frames`.
    """

    samples: np.ndarray
    sound: np.ndarray
    sound_sample_rate: int
    silence_below: float | None = None

    @property
    def seconds(self) -> float:
        """Length of the speech."""
        return len(self.samples) / SAMPLE_RATE

    @property
    def frames(self) -> int:
        """Video frames at 12.5 fps; a rest shorter than a frame is dropped, as released."""
        return len(self.samples) // SAMPLES_PER_FRAME


def load_speech(
    source: str | Path | tuple[Any, float],
    *,
    start: float = 0.0,
    duration: float | None = None,
    stream: int | None = None,
    hooks: Hooks = SILENT,
) -> Speech:
    """Read speech from a file or an array.

    The sound is read in blocks: beside the result, memory holds a second or so, however long or finely sampled it is.
    It lies where its time stamps say: gaps are silence, and sound that begins after the video has silence before it.
    Channels are mixed as :class:`dicetalk.audio.downmix.Downmix` does. For the network, a constant offset is removed
    and very quiet speech made louder, see :mod:`dicetalk.audio.level`; ordinary recordings keep their volume, as does
    the sound for the video.

    Args:
        source: a file that soundfile or PyAV opens, or ``(array, sample_rate)``. An array or CPU tensor is ``(n,)``,
            ``(n, channels)``, ``(channels, n)`` (of two axes the shorter is the channels) or ``(1, channels, n)``;
            floats in -1..1, int16, int32 or uint8; 8 to 192 kHz.
        start: seconds to skip.
        duration: seconds to take at most; all that follows if `None`.
        stream: which sound stream of a file, 1 is the first; by default the one that is marked so or the first that is
            not silent.
        hooks: asked to stop between blocks; receives a notice of everything that is missing, damaged or not used, and
            if there is only silence.

    Raises:
        SpeechError: the source is missing, unreadable or holds no such sound; the part is shorter than 0.1 s
            or longer than an hour; the rate is out of range; a sample is NaN or far out of range.
        Cancelled: the caller asked to stop.
    """
    if not (math.isfinite(start) and start >= 0):
        raise SpeechError(f"The start is {start:g} s; expected 0 or more.")
    if duration is not None and not MIN_SECONDS <= duration <= MAX_SECONDS:
        raise SpeechError(f"The duration is {duration:g} s; expected {MIN_SECONDS:g} to {MAX_SECONDS:g}.")
    with _opened(source, stream, hooks) as opened:
        _check(opened)
        speech = _convert(opened, start, duration, hooks)
        for note in opened.notes():
            hooks.notice(note)
    if max(speech.samples.max(), -speech.samples.min()) < SILENCE_LEVEL:
        hooks.notice(f"{opened.name} holds only silence: the mouth will stay closed.")
    return speech


def _opened(source: str | Path | tuple[Any, float], stream: int | None, hooks: Hooks) -> AbstractContextManager[Source]:
    if isinstance(source, (str, Path)):
        return file_source(checked_path(source, SpeechError), stream=stream, hooks=hooks)
    if stream not in (None, 1):
        raise SpeechError(f"There is no sound stream {stream}: an array holds one sound. Leave the stream out.")
    if not (isinstance(source, tuple) and len(source) == 2):
        raise SpeechError(f"Speech is a file or (array, sample_rate), not {type(source).__name__}.")
    return nullcontext(array_source(*source))


def _check(source: Source) -> None:
    if not (MIN_SAMPLE_RATE <= source.sample_rate <= MAX_SAMPLE_RATE and source.sample_rate == int(source.sample_rate)):
        raise SpeechError(
            f"{source.name} has {source.sample_rate:g} samples a second; "
            f"expected a whole number from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}."
        )
    if source.channels > MAX_CHANNELS:
        raise SpeechError(f"{source.name} has {source.channels} channels; expected at most {MAX_CHANNELS}.")


def _convert(source: Source, start: float, duration: float | None, hooks: Hooks) -> Speech:
    rate = int(source.sample_rate)
    sound_rate = next((r for r in SOUND_SAMPLE_RATES if r >= rate), SOUND_SAMPLE_RATES[-1])
    downmix = Downmix(source.channels, rate, source.layout)
    mono = _Track(1, rate, SAMPLE_RATE)
    stereo = _Track(min(source.channels, 2), rate, sound_rate)
    for block in _part(source, rate, start, duration, hooks):
        mono.append(downmix.mono(block))
        stereo.append(downmix.sound(block))
    mono.append(downmix.mono(np.zeros((0, source.channels), np.float32), last=True))
    if mono.taken < math.floor(MIN_SECONDS * rate):
        raise SpeechError(
            f"{source.name} has {mono.taken / rate:.3g} s of sound from {start:g} s on; "
            f"at least {MIN_SECONDS:g} s are needed."
        )
    samples, sound = mono.finish()[:, 0], stereo.finish().T
    if downmix.mono_gain != 1:
        samples = samples * np.float32(downmix.mono_gain)
    if source.channels > 2:
        sound = _within_full_scale(sound * np.float32(downmix.sound_gain), source.name, hooks)
    return Speech(as_heard(samples, source.name, hooks.notice), sound, sound_rate)


def _within_full_scale(sound: np.ndarray, name: str, hooks: Hooks) -> np.ndarray:
    """A sum of channels, quieter if it would be clipped in the video."""
    peak = float(np.abs(sound).max(initial=0.0))
    if peak <= 1:
        return sound
    hooks.notice(
        f"{name}: its channels together exceed full scale; the video's sound is {20 * math.log10(peak):.1f} dB quieter."
    )
    return sound / np.float32(peak)


def _part(source: Source, rate: int, start: float, duration: float | None, hooks: Hooks) -> Iterator[np.ndarray]:
    """The blocks of `source` between start and end, each checked."""
    first = round(start * rate)
    last = first + round((MAX_SECONDS if duration is None else duration) * rate)
    position = 0
    for whole in source.blocks:
        hooks.check()  # also while all that lies before the start is read
        block = whole[max(first - position, 0) : max(last - position, 0)]
        end = position + len(whole)
        if duration is None and end > last:
            raise SpeechError(
                f"{source.name} has more than an hour of sound from {start:g} s on. "
                f"Give a duration, and render in parts."
            )
        if len(block):
            _check_level(block, source.name, max(first, position), rate)
            yield block
        position = end
        if duration is not None and position >= last:
            return
    if position <= first and start > 0:
        raise SpeechError(
            f"{source.name} ends at {position / rate:.3g} s; the start, {start:g} s, lies behind its end."
        )


def _check_level(block: np.ndarray, name: str, position: int, rate: int) -> None:
    bad = ~(np.abs(block) <= MAX_LEVEL).all(axis=1)
    if bad.any():
        at = int(bad.argmax())
        value = block[at][~(np.abs(block[at]) <= MAX_LEVEL)][0]
        raise SpeechError(
            f"{name} holds the value {value:g} at {(position + at) / rate:.3f} s. Sound lies in -1..1; "
            f"scale other floats to that, and mend NaN and infinite values."
        )


class _Track:
    """Collects blocks at one rate and turns them into another, in memory of little more than the result."""

    def __init__(self, channels: int, rate: int, new_rate: int):
        self.rate, self.new_rate = rate, new_rate
        self.channels = channels
        self.taken = 0
        self.data = bytearray()  # grows in place, where an array would be copied
        # HQ is librosa's default and thereby the release's. Equal rates would pass through a filter for nothing.
        self.resampler = (
            None if rate == new_rate else soxr.ResampleStream(rate, new_rate, channels, dtype="float32", quality="HQ")
        )

    def append(self, block: np.ndarray) -> None:
        self.taken += len(block)
        self._store(block if self.resampler is None else self.resampler.resample_chunk(np.ascontiguousarray(block)))

    def finish(self) -> np.ndarray:
        """All samples ``(n, channels)``; n is the length at the new rate, rounded up as librosa does."""
        if self.resampler is not None:
            self._store(self.resampler.resample_chunk(np.empty((0, self.channels), np.float32), last=True))
        # The resampler's own count may differ by one: cut, or fill with zeros.
        wanted = -(-self.taken * self.new_rate // self.rate) * self.channels * BYTES_PER_SAMPLE
        del self.data[wanted:]
        self.data.extend(bytes(wanted - len(self.data)))
        return np.frombuffer(self.data, np.float32).reshape(-1, self.channels)

    def _store(self, block: np.ndarray) -> None:
        self.data += block.astype(np.float32, copy=False).tobytes()
