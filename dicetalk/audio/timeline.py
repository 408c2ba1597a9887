"""Sound laid out by its time stamps: what is missing becomes silence, what comes twice is left out."""

from collections.abc import Iterator

import numpy as np

from dicetalk.media import Unwrapped, listed

TOLERANCE_SECONDS = 0.04
"""Containers round times, and live recordings tremble; half a frame of video is not seen."""

NOTED_SECONDS = 0.1
"""Shorter gaps are filled without a word."""

MAX_GAP_SECONDS = 3600.0
"""A jump further than any sound may last is a damaged time stamp: the sound goes on without it."""

OVERLAP_SECONDS = 0.25
"""Overlaps nearer than this are one."""

SILENCE_BLOCK = 1 << 16


class Timeline:
    """Puts decoded blocks in their places.

    Args:
        name: what messages call the sound.
        rate: samples a second.
        channels: of every block.
        origin: the time, in seconds of the file's clock, of the first sample that is handed out.
    """

    def __init__(self, name: str, rate: int, channels: int, origin: float):
        self.name, self.rate, self.channels, self.origin = name, rate, channels, origin
        self.position = 0
        self.times = Unwrapped()
        self.gaps: list[tuple[float, float]] = []
        self.overlaps: list[tuple[float, float]] = []

    def place(self, block: np.ndarray, time: float | None) -> Iterator[np.ndarray]:
        """Hand out `block` ``(n, channels)``, which is due at `time` if that is known, after the silence before it."""
        if time is not None:
            due = round((self.times(time, len(block) / self.rate) - self.origin) * self.rate)
            late = due - self.position
            tolerance = TOLERANCE_SECONDS * self.rate
            if late > MAX_GAP_SECONDS * self.rate:
                self.times.shift -= late / self.rate
                self.times.end = None
                self.times.restarts.append(self.seconds)
            elif late > tolerance:
                self._note(self.gaps, late)
                yield from self._silence(late)
            elif late < -tolerance or due < 0:
                skipped = min(max(-late, 0), len(block))
                if self.position:
                    self._note(self.overlaps, skipped)
                block = block[skipped:]
        if len(block):
            self.position += len(block)
            yield block

    @property
    def seconds(self) -> float:
        """Length of what was handed out."""
        return self.position / self.rate

    def notes(self) -> list[str]:
        """What to tell the user."""
        notes = []
        gaps, overlaps = (
            [f"{at:.2f} to {at + length:.2f} s" for at, length in spans if length > NOTED_SECONDS]
            for spans in (self.gaps, self.overlaps)
        )
        if gaps:
            notes.append(f"{self.name} has no sound at {listed(gaps)}: there is silence instead.")
        if overlaps:
            notes.append(f"{self.name}: sound that comes twice, at {listed(overlaps)}, is used once.")
        if self.times.restarts:
            moments = listed([f"{moment:.2f} s" for moment in self.times.restarts])
            notes.append(f"{self.name}: its time stamps jump at {moments}; the sound goes on there without a gap.")
        return notes

    def _silence(self, samples: int) -> Iterator[np.ndarray]:
        for start in range(0, samples, SILENCE_BLOCK):
            length = min(SILENCE_BLOCK, samples - start)
            self.position += length
            yield np.zeros((length, self.channels), np.float32)

    def _note(self, spans: list[tuple[float, float]], samples: int) -> None:
        """Add a span that begins at the current position, or make the last one longer."""
        length = samples / self.rate
        if spans:
            begin, before = spans[-1]
            # Overlapping recordings take turns, so that their overlap comes in pieces.
            near = TOLERANCE_SECONDS if spans is self.gaps else OVERLAP_SECONDS
            if self.seconds - begin - before < near:
                spans[-1] = begin, before + length
                return
        spans.append((self.seconds, length))
