"""Whisper states of a whole clip, and the few of them around each frame that its audio tokens are made of."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from dicetalk.errors import SpeechError
from dicetalk.settings import FPS

STEPS_PER_FRAME = 4
"""Whisper's states come at 50 Hz, the model's frames at 12.5 Hz."""

WINDOW = 10
STEPS_BEFORE, STEPS_AFTER = 4, 6
"""Steps of zeros around the clip, so that its first and last frame have a whole window."""


@dataclass(frozen=True, eq=False)
class SpeechFeatures:
    """What the network hears of one clip.

    Args:
        states: every hidden state of Whisper's encoder, at 50 Hz, with the zeros around them, on the CPU:
            ``(4 + steps + 6, layers, channels)``.
        frames: video frames, at 12.5 fps.
        seconds: length of the speech.
    """

    states: torch.Tensor
    frames: int
    seconds: float

    def windows(self, index: torch.Tensor | slice) -> torch.Tensor:
        """States around the frames `index` (int64 ``(n,)``, or a slice, which copies nothing).

        Returns:
            ``(n, 10, layers, channels)``; frame i has the steps from 4i.
        """
        return frame_windows(self.states)[: self.frames][index]

    def last_windows(self, window: int) -> torch.Tensor:
        """States of Whisper's last layer around every frame, for the network of the motion buckets.

        Frame i has `window` steps from ``4 i - (window // 2 - 1)``. As released, there are zeros before and after the
        speech, but no more of them than the speech has steps, which moves the windows of very short speech.

        Returns:
            A view, ``(frames, window, channels)``.

        Raises:
            SpeechError: the speech is too short for such windows.
        """
        windows = last_windows(self.states[STEPS_BEFORE:-STEPS_AFTER, -1], window)
        if len(windows) < self.frames:
            raise SpeechError(
                f"The speech is {self.seconds:.2f} s long; this motion is predicted from {_shortest(window):.2f} s or "
                "more. Let silence follow it (pad_end)."
            )
        return windows[: self.frames]

    def unconditional_window(self) -> torch.Tensor:
        """The window that stands for no speech: zeros, ``(10, layers, channels)``."""
        return self.states.new_zeros(WINDOW, *self.states.shape[1:])


def frame_windows(states: torch.Tensor, stride: int = STEPS_PER_FRAME, window: int = WINDOW) -> torch.Tensor:
    """All windows of `window` steps that fit into `states` ``(steps, ...)``, one every `stride` steps.

    Returns:
        A view, ``(windows, window, ...)``.
    """
    if len(states) < window:
        return states.new_zeros(0, window, *states.shape[1:])
    return states.unfold(0, window, stride).movedim(-1, 1)


def last_windows(states: torch.Tensor, window: int, stride: int = STEPS_PER_FRAME) -> torch.Tensor:
    """Windows of `window` steps around every `stride`-th of the states ``(steps, channels)`` of one layer.

    See :meth:`SpeechFeatures.last_windows`, which knows how many of them are frames.
    """
    before, after = states[: window // 2 - 1], states[: window // 2 + 1]
    padded = torch.cat([torch.zeros_like(before), states, torch.zeros_like(after)])
    return frame_windows(padded, stride, window)


def _shortest(window: int) -> float:
    """Seconds of the shortest speech with a window of `window` steps for every frame."""
    pairs = 1
    while len(last_windows(torch.zeros(2 * pairs, 0), window)) < pairs // 2 or pairs < 2:
        pairs += 1
    return pairs / (STEPS_PER_FRAME * FPS / 2)


def join_states(chunks: Iterable[torch.Tensor], steps: int) -> torch.Tensor:
    """Lay `chunks` ``(n, layers, channels)`` end to end, cut to `steps`, between the zeros before and after.

    Chunks behind the cut are not asked for.

    Returns:
        ``(4 + steps + 6, layers, channels)`` on the CPU, in the chunks' dtype.

    Raises:
        ValueError: there is no chunk.
    """
    states: torch.Tensor | None = None
    filled = 0
    for chunk in chunks:
        if states is None:
            states = torch.zeros(STEPS_BEFORE + steps + STEPS_AFTER, *chunk.shape[1:], dtype=chunk.dtype)
        chunk = chunk[: steps - filled]
        states[STEPS_BEFORE + filled :][: len(chunk)] = chunk
        filled += len(chunk)
        if filled == steps:
            break
    if states is None:
        raise ValueError("There are no states to join.")
    return states
