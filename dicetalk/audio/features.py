"""Whisper states of a whole clip, and the few of them around each frame that its audio tokens are made of."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

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

    def unconditional_window(self) -> torch.Tensor:
        """The window that stands for no speech: zeros, ``(10, layers, channels)``."""
        return self.states.new_zeros(WINDOW, *self.states.shape[1:])


def frame_windows(states: torch.Tensor, stride: int = STEPS_PER_FRAME) -> torch.Tensor:
    """All windows of 10 steps that fit into `states` ``(steps, layers, channels)``, one every `stride` steps.

    Returns:
        A view, ``(windows, 10, layers, channels)``.
    """
    return states.unfold(0, WINDOW, stride).movedim(-1, 1)


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
