"""Emotion tokens: a prior attends to the emotion bank (paper 3.2)."""

from types import ModuleType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from dicetalk.config import EmotionConfig
from dicetalk.layers import Attention, TokenMLP, sdpa_attention

COMMITMENT_WEIGHT = 0.25
"""beta of eq. 17."""


class BankContext(NamedTuple):
    """Keys and values of the whole bank, each ``(1, bank_size * context_tokens, attention_dim)``."""

    keys: torch.Tensor
    values: torch.Tensor


class Nearest(NamedTuple):
    """The bank entry nearest to each prior (eq. 9).

    `quantized` ``(R, bank_dim)`` is the entry; its gradient goes straight through to the prior. `indices` ``(R,)`` are
    the entries' numbers and `vq_loss` is the scalar of eq. 17, a mean over priors and channels.
    """

    quantized: torch.Tensor
    indices: torch.Tensor
    vq_loss: torch.Tensor


class EmotionBank(nn.Module):
    """Learned prototypes of emotion (the codebook C) and the map from a prior into their space."""

    def __init__(self, prior_dim: int, bank_dim: int, bank_size: int, operations: ModuleType = nn):
        super().__init__()
        self.bank_size = bank_size
        self.fc = operations.Linear(prior_dim, bank_dim)
        self.codebook = operations.Embedding(bank_size, bank_dim)

    def entries(self, like: torch.Tensor) -> torch.Tensor:
        """All entries, ``(bank_size, bank_dim)``, on the device and in the dtype of `like`."""
        # Looked up, not read from the weight: `operations` may keep weights elsewhere and cast them on use.
        return self.codebook(torch.arange(self.bank_size, device=like.device)).to(like.dtype)

    def nearest(self, priors: torch.Tensor) -> Nearest:
        """Retrieve the nearest entry for each of `priors` ``(R, prior_dim)``."""
        projected = self.fc(priors)
        entries = self.entries(projected)
        # In half precision the squares of a thousand channels round to equal distances.
        indices = torch.cdist(projected.detach().float(), entries.detach().float()).argmin(dim=-1)
        rows = entries[indices]
        bank_loss = F.mse_loss(rows.float(), projected.detach().float())
        commitment = F.mse_loss(projected.float(), rows.detach().float())
        quantized = projected + (rows - projected).detach()
        return Nearest(quantized, indices, bank_loss + COMMITMENT_WEIGHT * commitment)


class BankAttention(nn.Module):
    """Multi-head attention of prior tokens to bank tokens; projections have biases, the output is not projected."""

    def __init__(
        self, query_dim: int, bank_dim: int, dim: int, heads: int, operations: ModuleType, attention: Attention
    ):
        super().__init__()
        self.heads = heads
        self.attention = attention
        self.fc_q = operations.Linear(query_dim, dim)
        self.fc_k = operations.Linear(bank_dim, dim)
        self.fc_v = operations.Linear(bank_dim, dim)

    def context(self, bank_tokens: torch.Tensor) -> BankContext:
        """Keys and values of `bank_tokens` ``(n, tokens, bank_dim)``."""
        return BankContext(self.fc_k(bank_tokens), self.fc_v(bank_tokens))

    def forward(self, prior_tokens: torch.Tensor, context: BankContext) -> torch.Tensor:
        """Attend from `prior_tokens` ``(R, tokens, query_dim)`` to a context of R or one."""
        keys, values = (x.expand(len(prior_tokens), -1, -1) for x in context)
        return self.attention(self.fc_q(prior_tokens), keys, values, self.heads)


class EmotionClassifier(nn.Module):
    """Classifies pooled UNet features by emotion (the MLP of eq. 16); only training calls it."""

    def __init__(self, dims: tuple[int, ...], operations: ModuleType = nn):
        super().__init__()
        features, wide, narrow, classes = dims
        self.fc1 = operations.Linear(features, wide)
        self.fc2 = operations.Linear(wide, narrow)
        self.fc3 = operations.Linear(narrow, classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits ``(..., classes)`` of pooled `features` ``(..., channels)``."""
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(features)))))


class EmotionModel(nn.Module):
    """Turns emotion priors into the tokens that the UNet attends to (released as ``emo_model.pth``)."""

    def __init__(self, config: EmotionConfig, operations: ModuleType = nn, attention: Attention = sdpa_attention):
        super().__init__()
        self.emo_linear = TokenMLP(config.query, operations)
        self.kv_tokens_linear = TokenMLP(config.bank, operations)
        self.codebook = EmotionBank(config.query.input_dim, config.bank.input_dim, config.bank_size, operations)
        self.attention = BankAttention(
            config.query.output_dim,
            config.bank.output_dim,
            config.attention_dim,
            config.num_heads,
            operations,
            attention,
        )
        self.classifier = EmotionClassifier(config.classifier_dims, operations)

    def bank_context(self, like: torch.Tensor) -> BankContext:
        """Keys and values of the whole bank (eq. 12); they depend on no prior, so one call serves a clip.

        Args:
            like: any tensor on the device and in the dtype of the priors to come.
        """
        tokens = self.kv_tokens_linear(self.codebook.entries(like))
        return self.attention.context(tokens.flatten(0, 1)[None])

    def tokens(self, priors: torch.Tensor, bank: BankContext | None = None) -> torch.Tensor:
        """Emotion tokens by attending to the whole bank, as inference does (eq. 12-13).

        Args:
            priors: ``(R, prior_dim)``; a row of zeros gives the unconditional tokens.
            bank: what :meth:`bank_context` returned; computed here if none.

        Returns:
            ``(R, context_tokens, attention_dim)``.
        """
        return self.attention(self.emo_linear(priors), bank or self.bank_context(priors))

    def retrieved_tokens(self, priors: torch.Tensor) -> tuple[torch.Tensor, Nearest]:
        """Emotion tokens by attending to each prior's nearest entry alone, as training does (eq. 9-11).

        Args:
            priors: ``(R, prior_dim)``.

        Returns:
            Tokens ``(R, context_tokens, attention_dim)``, and what was retrieved, with its loss.
        """
        nearest = self.codebook.nearest(priors)
        context = self.attention.context(self.kv_tokens_linear(nearest.quantized))
        return self.attention(self.emo_linear(priors), context), nearest


class PriorTokens(nn.Module):
    """Takes the place of an emotion model that was trained without the bank (table 4): the prior's own tokens.

    :func:`dicetalk.checkpoints.load.load_model` puts it there where the file says so.
    """

    def __init__(self, model: EmotionModel):
        super().__init__()
        self.emo_linear = model.emo_linear

    def bank_context(self, like: torch.Tensor) -> None:
        """There is none."""

    def tokens(self, priors: torch.Tensor, bank: None = None) -> torch.Tensor:
        """Emotion tokens ``(R, context_tokens, dim)`` of `priors` ``(R, prior_dim)``."""
        return self.emo_linear(priors)
