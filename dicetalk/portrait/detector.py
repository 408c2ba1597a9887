"""The face detector of a model: the released one while it can be used, else the one that comes with the package."""

from pathlib import Path

import numpy as np

from dicetalk.errors import CheckpointError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.portrait.centerface import CenterFace
from dicetalk.portrait.faces import FaceBox, FaceDetector
from dicetalk.portrait.yoloface import YoloFace
from dicetalk.residency import CPU, Residency


class ReleasedOrCenterFace:
    """The released detector, opened when the first picture comes; CenterFace from when it cannot be used.

    Args:
        path: of `yoloface_v5m.pt`.
        residency: brings its network onto its device.
        hooks: one notice if CenterFace takes its place.
    """

    def __init__(self, path: Path, residency: Residency = CPU, hooks: Hooks = SILENT):
        self.path = path
        self.residency = residency
        self.hooks = hooks
        self.chosen: FaceDetector | None = None
        self.refused: str | None = None

    def report_to(self, hooks: Hooks) -> None:
        """Send notices to `hooks` from here on; if CenterFace has taken the released detector's place, so at once."""
        self.hooks = hooks
        if self.refused:
            hooks.notice(self.refused)

    def detect(self, picture: np.ndarray) -> list[FaceBox]:
        """Faces in `picture` (uint8 RGB ``(H, W, 3)``), the largest first."""
        try:
            if self.chosen is None:
                self.chosen = YoloFace(self.path, self.residency)
            return self.chosen.detect(picture)
        except CheckpointError as error:
            self.chosen = CenterFace()
            self.refused = f"{error} Faces are found by CenterFace, which comes with the package, instead."
            self.hooks.notice(self.refused)
            return self.chosen.detect(picture)


def choose_detector(path: Path | None, residency: Residency = CPU, hooks: Hooks = SILENT) -> FaceDetector:
    """The detector of a model whose released one is at `path`; `None` if it has none."""
    return CenterFace() if path is None else ReleasedOrCenterFace(path, residency, hooks)
