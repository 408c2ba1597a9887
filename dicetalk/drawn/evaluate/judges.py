"""Two small networks that look at faces: which emotion is shown, and who it is.

They learn from drawn faces of training identities, never from generated ones. What networks generate is softer than
what is drawn, so the faces are blurred, made noisy, shifted and tinted at random while they learn: a judge must not
take blur for an expression.
"""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dicetalk.emotion.prior import PRESET_NAMES

HEAD = 0.78
"""The square in the middle of a picture that holds the head, in widths of the picture."""

SIDE = 80
"""Pixels of a head."""

FACE_SIDE = 64
"""Pixels of what a network sees: the whole head, smaller, tells who it is; what it shows is in the face alone."""

FACE_LEFT, FACE_TOP = 8, 14
"""Where the face lies in the head."""


@dataclass(frozen=True)
class JudgeConfig:
    """Sizes of both judges: channels after each halving of the picture, then of the last map, and the embedding."""

    first: int = 16
    second: int = 32
    third: int = 48
    fourth: int = 64
    last: int = 24
    embedding: int = 64


class FaceNetwork(nn.Module):
    """A picture ``(N, 3, 64, 64)`` to features ``(N, embedding)``."""

    def __init__(self, config: JudgeConfig):
        super().__init__()
        widths = (3, config.first, config.second, config.third, config.fourth)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(4, after), nn.SiLU()]
        self.maps = nn.Sequential(*layers, nn.Conv2d(config.fourth, config.last, 1), nn.SiLU())
        self.features = nn.Linear(config.last * (FACE_SIDE // 16) ** 2, config.embedding)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Features ``(n, channels)`` of pictures ``(n, 3, side, side)``."""
        return self.features(self.maps(pictures).flatten(1))


class Judges(nn.Module):
    """Both judges. Built untrained; see :func:`dicetalk.drawn.evaluate.judge_training.train_judges`.

    Args:
        config: sizes.
    """

    def __init__(self, config: JudgeConfig):
        super().__init__()
        self.config = config
        self.emotion = FaceNetwork(config)
        self.emotion_head = nn.Linear(config.embedding, 2 * len(PRESET_NAMES))
        self.identity = FaceNetwork(config)

    def emotions(self, heads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Emotions that heads ``(N, 3, 80, 80)`` show.

        Returns:
            Logarithms of the probabilities of the eight presets, and how strongly each is shown, 0 not at all to 1
            fully, each ``(N, 8)``. A neutral face shows nothing: strength 0 of all.
        """
        faces = heads[..., FACE_TOP : FACE_TOP + FACE_SIDE, FACE_LEFT : FACE_LEFT + FACE_SIDE]
        logits, strengths = self.emotion_head(F.silu(self.emotion(faces))).chunk(2, dim=1)
        return logits.log_softmax(dim=1), strengths

    def who(self, heads: torch.Tensor) -> torch.Tensor:
        """Who heads ``(N, 3, 80, 80)`` are: unit vectors ``(N, embedding)``, near each other for the same person."""
        small = F.interpolate(heads, (FACE_SIDE, FACE_SIDE), mode="bilinear", antialias=True)
        return F.normalize(self.identity(small), dim=1)


def head_crops(frames: np.ndarray) -> np.ndarray:
    """The heads in pictures, uint8 ``(N, 80, 80, 3)``.

    Args:
        frames: uint8 RGB ``(N, size, size, 3)``, with the head where a
            :class:`dicetalk.drawn.faces.render.FaceRenderer` puts it.
    """
    size = frames.shape[1]
    start, stop = round((1 - HEAD) / 2 * size), round((1 + HEAD) / 2 * size)
    part = frames[:, start:stop, start:stop]
    return np.stack([cv2.resize(head, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for head in part])


def judge_input(crops: np.ndarray) -> torch.Tensor:
    """Crops as :class:`Judges` read them, float32 ``(N, 3, 80, 80)`` in -1..1."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 127.5 - 1
