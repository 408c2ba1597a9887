"""The emotion bank in training: how many of its entries are in use, and the revival of those that are not."""

from typing import Any

import torch

from dicetalk.emotion.bank import EmotionBank
from dicetalk.train.initial import seed_for
from dicetalk.train.loop import Run

_REVIVE = 16
"""Stream of random numbers; the loop's own are small."""


def bank_usage(indices: torch.Tensor, bank_size: int) -> torch.Tensor:
    """How often each entry was the nearest (eq. 9), float32 ``(bank_size,)``."""
    return torch.bincount(indices.flatten(), minlength=bank_size).float()


def perplexity(usage: torch.Tensor) -> torch.Tensor:
    """How many entries are in use, as the exponential of the entropy of `usage`: 1 for one, ``bank_size`` for all."""
    return torch.special.entr(usage / usage.sum()).sum().exp()


def revive(
    entries: torch.Tensor, usage: torch.Tensor, projected: torch.Tensor, generator: torch.Generator, least: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Put entries that hardly any prior is nearest to where there are priors.

    Args:
        entries: the codebook's weight, ``(bank_size, bank_dim)``.
        usage: how often each was used of late, ``(bank_size,)``.
        projected: recent priors in the bank's space, ``(R, bank_dim)``.
        generator: chooses among `projected`; each at most once while there are enough.
        least: an entry with less `usage` is dead.

    Returns:
        New entries, and booleans ``(bank_size,)``, true for the revived: their optimizer state is void.
    """
    dead = usage < least
    order = torch.randperm(len(projected), generator=generator, device=generator.device).to(projected.device)
    rank = dead.cumsum(0) - 1
    chosen = projected[order[rank % len(projected)]].detach().to(entries)
    return torch.where(dead[:, None], chosen, entries.detach()), dead


class BankCare:
    """Counts which entries priors retrieve, and moves dead ones to where priors are.

    Args:
        bank: the emotion bank.
        every: steps between revivals; 0 never revives.
        steps: of the run. An entry that is moved so near to their end that none would follow is left alone: it would be
            exported before it has learned anything.
    """

    def __init__(self, bank: EmotionBank, every: int, steps: int):
        self.bank, self.every, self.steps = bank, every, steps
        self.usage = torch.zeros(bank.bank_size)
        self.logged = torch.zeros(bank.bank_size)
        self.recent = torch.zeros(0, bank.fc.in_features)

    @torch.no_grad()
    def after_step(self, run: Run, outputs: list[dict[str, torch.Tensor]]) -> None:
        """Take the ``bank_indices`` and ``priors`` of a step, of all processes alike."""
        indices = run.accelerator.gather(torch.cat([output["bank_indices"] for output in outputs]))
        priors = run.accelerator.gather(torch.cat([output["priors"] for output in outputs]))
        used = bank_usage(indices.cpu(), self.bank.bank_size)
        self.usage += used
        self.logged += used
        # Twice as many as there are entries, so that revived ones spread.
        self.recent = torch.cat([self.recent, priors.float().cpu()])[-2 * self.bank.bank_size :]
        if self.every and run.step % self.every == 0:
            if run.step + self.every <= self.steps:
                self._revive(run)
            self.usage.zero_()

    def _revive(self, run: Run) -> None:
        codebook = self.bank.codebook.weight
        projected = self.bank.fc(self.recent.to(codebook))
        generator = torch.Generator().manual_seed(seed_for(run.seed, _REVIVE, run.step))
        entries, dead = revive(codebook, self.usage.to(codebook.device), projected, generator)
        if dead.any():
            run.replace_rows(codebook, entries, dead)

    def measures(self) -> dict[str, float]:
        """``bank_perplexity`` since the last call: how many entries are in use."""
        value = perplexity(self.logged).item()
        self.logged.zero_()
        return {"bank_perplexity": value}

    def state_dict(self) -> dict[str, Any]:
        """Use of the entries, as counted so far."""
        return {"usage": self.usage.clone(), "logged": self.logged.clone(), "recent": self.recent.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.usage, self.logged, self.recent = (state[name].clone() for name in ("usage", "logged", "recent"))
