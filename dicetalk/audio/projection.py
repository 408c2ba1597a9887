"""Whisper states become audio tokens."""

from types import ModuleType

import torch
from torch import nn

from dicetalk.config import AudioConfig, TokenMLPConfig
from dicetalk.token_mlp import TokenMLP


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
