"""What the network computed of each frame, kept for later steps.

Windows move from step to step, so what is kept belongs to a frame and not to a window: it serves whichever window the
frame stands in next.
"""

from collections.abc import Sequence

import torch


class FrameMemory:
    """One entry for each frame of a clip: the mean of what the windows of the latest step gave it.

    Args:
        frames: of the clip, padding included.
        budget: bytes that the entries may occupy; nothing is kept where they do not fit.
    """

    def __init__(self, frames: int, budget: float = float("inf")):
        self.frames, self.budget = frames, budget
        self.step = -1
        self.sums: torch.Tensor | None = None
        self.counts = torch.zeros(frames)

    @property
    def nbytes(self) -> int:
        """Bytes of the entries."""
        return 0 if self.sums is None else self.sums.nbytes

    def put(self, step: int, frames: Sequence[int], values: torch.Tensor) -> bool:
        """Keep what a window gave; the first window of a step replaces the entries of all frames.

        Args:
            step: number of the step.
            frames: indices of the frames, in which a frame may stand several times.
            values: of each of `frames`, ``(len(frames), ...)``, on any device.

        Returns:
            Whether the entries of a clip fit the budget.
        """
        if self.sums is None:
            if self.frames * values[0].nbytes > self.budget:
                return False
            self.sums = torch.zeros(self.frames, *values.shape[1:], dtype=values.dtype)
        if step != self.step:
            self.step = step
            self.sums.zero_()
            self.counts.zero_()
        places = torch.tensor(frames)
        self.sums.index_add_(0, places, values.cpu())
        self.counts.index_add_(0, places, torch.ones(len(frames)))
        return True

    def get(self, frames: Sequence[int]) -> torch.Tensor | None:
        """Entries ``(len(frames), ...)`` on the CPU; `None` if one of `frames` has none."""
        counts = self.counts[list(frames)]
        if self.sums is None or not counts.all():
            return None
        return self.sums[list(frames)] / counts.to(self.sums).reshape(-1, *[1] * (self.sums.dim() - 1))
