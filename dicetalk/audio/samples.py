"""Samples of decoded frames and of arrays, of any usual type, as float32."""

import av
import numpy as np

from dicetalk.errors import SpeechError

POINTERS = 8
"""Channels of which FFmpeg's frame itself points to the samples."""


class FrameSamples:
    """Reads decoded frames that follow one another: ``(n, channels)``, full scale at 1.

    PyAV finds the end of the list of a frame's planes by a zero behind it. Where each channel is a plane and there are
    eight of them or more, as in AAC and Vorbis with 7.1, other values follow: it reads on and ends the process. Such
    frames are interleaved by FFmpeg first.
    """

    def __init__(self) -> None:
        self._kind: tuple[str, str, int] | None = None
        self._interleaved: av.AudioResampler | None = None

    def __call__(self, frame: av.AudioFrame) -> np.ndarray:
        """Samples of a decoded frame, float32 ``(n, channels)``, full scale at 1."""
        channels = len(frame.layout.channels)
        if not frame.format.is_planar:
            return as_float(frame.to_ndarray().reshape(-1, channels))
        if channels < POINTERS:
            return as_float(frame.to_ndarray().T)
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._interleaved is None or kind != self._kind:
            self._kind = kind
            self._interleaved = av.AudioResampler(frame.format.packed.name, frame.layout, frame.sample_rate)
        parts = [as_float(part.to_ndarray().reshape(-1, channels)) for part in self._interleaved.resample(frame)]
        return np.concatenate(parts or [np.zeros((0, channels), np.float32)])


def as_float(samples: np.ndarray) -> np.ndarray:
    """Samples of any usual type as float32, full scale at 1."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype in (np.int16, np.int32):
        return (samples / (1 << (8 * samples.dtype.itemsize - 1))).astype(np.float32)
    raise SpeechError(f"Sound of type {samples.dtype} is not supported; give floats in -1..1, int16, int32 or uint8.")
