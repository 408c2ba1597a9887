"""What a run was begun with, to be compared when it goes on: a changed entry must not pass unnoticed."""

import os
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

TECHNICAL = frozenset(
    {
        "out",
        "latents",
        "gradient_checkpointing",
        "log_every",
        "validate_every",
        "validation_batches",
        "checkpoint_every",
        "keep_checkpoints",
        "workers",
        "device",
    }
)
"""Entries of configs that change no weight."""

STEERING = frozenset({"steps", "learning_rate", "warmup_steps", "decay", "clip_norm"})
"""Entries of a loop that whoever watches a run may have to change on its way: they act from the next step on."""

Entries = dict[str, Any]
"""Plain values by their dotted names, as ``loop.seed``; paths are told from the run's `out`, so that both may move."""


class Change(NamedTuple):
    """An entry that is not what it was."""

    name: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.name} was {self.before}, and now is {self.now}"


def entries(config: Any, out: Path, prefix: str = "") -> Entries:
    """Every entry of a config, a dataclass that may hold others, but the :data:`TECHNICAL` ones.

    Args:
        config: see above.
        out: of the run.
        prefix: of the names.
    """
    found: Entries = {}
    for name in (field.name for field in fields(config)):
        value = getattr(config, name)
        if name in TECHNICAL:
            continue
        if is_dataclass(value):
            found |= entries(value, out, f"{prefix}{name}.")
        else:
            found[prefix + name] = _told_from(value, out) if isinstance(value, Path) else value
    return found


def defaults(config: Any, prefix: str = "") -> Entries:
    """What :func:`entries` would be of a config that leaves out all that may be left out."""
    found: Entries = {}
    for field in (field for field in fields(config) if field.name not in TECHNICAL):
        value = getattr(config, field.name)
        if is_dataclass(value):
            found |= defaults(value, f"{prefix}{field.name}.")
        elif field.default is not MISSING:
            found[prefix + field.name] = field.default
        elif field.default_factory is not MISSING:
            found[prefix + field.name] = field.default_factory()
    return found


def changes(before: Mapping[str, Any], now: Mapping[str, Any], usual: Mapping[str, Any] | None = None) -> list[Change]:
    """The entries that differ.

    Args:
        before: of the run as it was begun.
        now: of the run as it goes on.
        usual: what an entry counts as that was not there before: the package may have got it since.
    """
    before = {name: (usual or {})[name] for name in now if name in (usual or {})} | dict(before)
    names = [*before, *(name for name in now if name not in before)]
    return [
        Change(name, before.get(name, "not there"), now.get(name, "not there"))
        for name in names
        if before.get(name) != now.get(name)
    ]


def _told_from(path: Path, out: Path) -> str:
    try:
        return Path(os.path.relpath(path, out)).as_posix()
    except ValueError:  # on another drive
        return path.absolute().as_posix()
