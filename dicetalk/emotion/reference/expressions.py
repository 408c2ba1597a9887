"""Reads the expression coefficients of a face off its pixels.

The embedder's visual input is a sequence of expression coefficients (paper 3.1: those of StyleTalk's face model). For a
model whose embedder was trained on coefficients that no public face tracker gives, this small network stands in for the
tracker.
"""

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dicetalk.emotion.reference.face_track import FaceCrop
from dicetalk.errors import SettingError
from dicetalk.residency import CPU, Residency

EXPAND = 0.15
"""Part of the face box that is seen beyond each of its sides: brows and chin move over its edge."""

GRID = 4
"""Side of the last feature map."""

BATCH = 64


@dataclass(frozen=True)
class ExpressionReaderConfig:
    """Sizes of the reader.

    Args:
        coefficients: that it reads.
        size: side of the face crop in pixels, 16 or more times a power of two.
        channels: of the first layer; each layer has twice as many, up to `max_channels`.
        max_channels: of a layer.
        hidden_dim: of the layer before the coefficients.

    Raises:
        SettingError: the size is none of these, or the channels are no multiples of 8.
    """

    coefficients: int = 17
    size: int = 64
    channels: int = 16
    max_channels: int = 128
    hidden_dim: int = 128

    def __post_init__(self) -> None:
        halvings = self.size.bit_length() - GRID.bit_length()
        if halvings < 2 or self.size != GRID << halvings:
            raise SettingError(f"The expression reader's size is {self.size}; expected 16, 32, 64, 128, ...")
        if self.channels % GROUP or self.max_channels % GROUP:
            raise SettingError(
                f"The expression reader has {self.channels} to {self.max_channels} channels; "
                f"expected multiples of {GROUP}."
            )

    @property
    def widths(self) -> list[int]:
        """Channels of each layer; each halves the sides of the picture."""
        layers = (self.size // GRID).bit_length() - 1
        return [min(self.channels << layer, self.max_channels) for layer in range(layers)]


GROUP = 8
"""Channels that are normalised together."""


class ExpressionReader(nn.Module):
    """Strided convolutions down to 4 x 4 cells, whose place matters: an eye is no mouth.

    Args:
        config: sizes.
        operations: namespace of the layers (``Conv2d``, ``GroupNorm``, ``Linear``).
    """

    def __init__(self, config: ExpressionReaderConfig, operations: ModuleType = nn):
        super().__init__()
        self.config = config
        widths = config.widths
        pairs = zip([3, *widths[:-1]], widths, strict=True)
        self.convolutions = nn.ModuleList([operations.Conv2d(i, o, 3, stride=2, padding=1) for i, o in pairs])
        self.norms = nn.ModuleList([operations.GroupNorm(width // GROUP, width) for width in widths])
        self.hidden = operations.Linear(widths[-1] * GRID * GRID, config.hidden_dim)
        self.out = operations.Linear(config.hidden_dim, config.coefficients)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Coefficients ``(N, coefficients)`` of `faces` ``(N, 3, size, size)`` in -1..1."""
        x = faces
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.silu(norm(convolution(x)))
        return self.out(F.silu(self.hidden(x.flatten(1))))


@dataclass(frozen=True)
class ReadExpressions:
    """Reads faces with an :class:`ExpressionReader`; see :class:`dicetalk.emotion.reference.face_track.FaceReader`.

    Args:
        reader: the network.
        residency: brings it onto a device.
    """

    reader: ExpressionReader
    residency: Residency = CPU

    @property
    def crop(self) -> FaceCrop:
        """How faces are cut out."""
        return crop_of(self.reader.config)

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """Coefficients ``(N, coefficients)``, float32, of crops, uint8 RGB ``(N, size, size, 3)``."""
        with self.residency(self.reader) as device, torch.no_grad():
            parts = torch.from_numpy(crops).split(BATCH)
            return torch.cat([self.reader(reader_input(part).to(device)).float().cpu() for part in parts]).numpy()


def crop_of(config: ExpressionReaderConfig) -> FaceCrop:
    """How a reader of these sizes wants faces cut out."""
    return FaceCrop(config.size, EXPAND)


def reader_input(crops: torch.Tensor) -> torch.Tensor:
    """uint8 ``(N, H, W, 3)`` to float32 ``(N, 3, H, W)`` in -1..1."""
    return crops.permute(0, 3, 1, 2).float() / 127.5 - 1
