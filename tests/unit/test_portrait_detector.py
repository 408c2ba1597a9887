"""The released face detector, and what takes its place when it cannot be used."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_hub import SmallDetector
from torch import nn

from dicetalk.hooks import Hooks
from dicetalk.portrait.centerface import CenterFace
from dicetalk.portrait.detector import choose_detector

PICTURE = np.zeros((400, 500, 3), np.uint8)


class ReadsFiles(nn.Module):
    """Asks for an operation that no detector needs."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels + torch.from_file("x", False, 0, dtype=torch.float32).sum()


class ReturnsNoRows(nn.Module):
    """Loads, but is no detector."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels * 2


def test_a_sound_detector_is_used(tmp_path: Path) -> None:
    notices: list[str] = []
    torch.jit.script(SmallDetector()).save(tmp_path / "detector.pt")
    (face,) = choose_detector(tmp_path / "detector.pt", hooks=Hooks(notice=notices.append)).detect(PICTURE)
    assert (face.x + face.width / 2, face.y + face.height / 2) == pytest.approx((250, 200), abs=1)
    assert notices == []


@pytest.mark.parametrize(
    ("network", "reason"),
    [(ReadsFiles(), r"operation torch\.from_file"), (ReturnsNoRows(), "rows of 16"), (None, "no complete TorchScript")],
)
def test_one_that_cannot_be_used_gives_way_with_one_notice(
    tmp_path: Path, network: nn.Module | None, reason: str
) -> None:
    path = tmp_path / "detector.pt"
    path.write_bytes(b"cut off") if network is None else torch.jit.script(network).save(path)
    notices: list[str] = []
    detector = choose_detector(path, hooks=Hooks(notice=notices.append))
    assert [detector.detect(PICTURE) for _ in range(3)] == [CenterFace().detect(PICTURE)] * 3
    (notice,) = notices
    assert str(path) in notice and "CenterFace" in notice
    assert re.search(reason, notice)


def test_without_a_released_one_there_is_no_notice() -> None:
    assert isinstance(choose_detector(None), CenterFace)
