"""Networks on Whisper's states: audio tokens, and amounts of motion (Sonic, Ji et al. 2024)."""

from types import ModuleType

import torch
import torch.nn.functional as F
from torch import nn

from dicetalk.config import AudioConfig, BucketConfig, TokenMLPConfig
from dicetalk.layers import TokenMLP


class AudioProjection(TokenMLP):
    """Projects the states around one frame to that frame's audio tokens (released as ``audio_linear.pth``)."""

    def __init__(self, config: AudioConfig, operations: ModuleType = nn):
        super().__init__(
            TokenMLPConfig(
                input_dim=config.window * config.layers * config.channels,
                intermediate_dim=config.intermediate_dim,
                output_dim=config.output_dim,
                context_tokens=config.context_tokens,
            ),
            operations,
        )

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Audio tokens ``(..., context_tokens, output_dim)`` of `windows` ``(..., window, layers, channels)``.

        The unconditional tokens are the projection of a window of zeros, not zeros.
        """
        return super().forward(windows.flatten(-3))


BUCKETS = 2  # motion bucket, expression motion bucket
CENTRE = SCALE = 16.0
"""Buckets are ``SCALE * output + CENTRE``."""


class AudioToBucket(nn.Module):
    """Predicts the motion bucket and the expression bucket of each frame (released as ``audio2bucket.pth``).

    Three linear layers with SiLU between, over Whisper's last states around the frame and the portrait's CLIP image
    embedding, without normalisation. The release runs it in float32.
    """

    def __init__(self, config: BucketConfig, operations: ModuleType = nn):
        super().__init__()
        self.config = config
        self.proj1 = operations.Linear(config.window * config.channels + config.image_dim, config.intermediate_dim)
        self.proj2 = operations.Linear(config.intermediate_dim, config.intermediate_dim)
        self.proj3 = operations.Linear(config.intermediate_dim, BUCKETS)

    def forward(self, windows: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """``proj3(silu(proj2(silu(proj1([states, image])))))``.

        Args:
            windows: states of Whisper's last layer around each frame, ``(n, window, channels)``.
            image: CLIP image embedding of the portrait, ``(1 or n, image_dim)``.

        Returns:
            ``(n, 2)``, about zero; see :meth:`buckets`.
        """
        states = torch.cat([windows.flatten(1), image.expand(len(windows), -1)], dim=1)
        return self.proj3(F.silu(self.proj2(F.silu(self.proj1(states)))))

    def buckets(self, windows: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Motion bucket and expression bucket of each frame, ``(n, 2)``; arguments as of :meth:`forward`."""
        return self(windows, image) * SCALE + CENTRE
