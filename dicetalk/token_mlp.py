"""One vector becomes a few context tokens: the network that audio, emotion priors and bank entries share."""

from types import ModuleType

import torch
import torch.nn.functional as F
from torch import nn

from dicetalk.config import TokenMLPConfig


class TokenMLP(nn.Module):
    """Three linear layers with ReLU between, cut into tokens, each token normalised."""

    def __init__(self, config: TokenMLPConfig, operations: ModuleType = nn):
        super().__init__()
        self.context_tokens = config.context_tokens
        self.proj1 = operations.Linear(config.input_dim, config.intermediate_dim)
        self.proj2 = operations.Linear(config.intermediate_dim, config.intermediate_dim)
        self.proj3 = operations.Linear(config.intermediate_dim, config.context_tokens * config.output_dim)
        self.norm = operations.LayerNorm(config.output_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens ``(..., context_tokens, output_dim)`` of `x` ``(..., input_dim)``."""
        hidden = F.relu(self.proj2(F.relu(self.proj1(x))))
        return self.norm(self.proj3(hidden).unflatten(-1, (self.context_tokens, -1)))
