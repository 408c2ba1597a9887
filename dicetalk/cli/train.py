"""``dicetalk train``."""

import argparse
from collections.abc import Callable
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dicetalk.errors import SettingError
from dicetalk.files import check_no_input, make_folder
from dicetalk.hooks import Hooks
from dicetalk.progress import Bars
from dicetalk.train.config import DiffusionTraining, EmbedderTraining, read_config

WRITTEN = ("out", "latents")
"""Entries of configs that name what is written."""


def train(options: argparse.Namespace) -> int:
    """Train what ``options.what`` names; a run that has checkpoints in its `out` goes on from the newest."""
    config: Any = read_config(options.config, _kind(options.what))
    if find_spec("accelerate") is None:
        raise SettingError("Training needs accelerate: pip install 'dicetalk[train]'.")
    paths = {field.name: getattr(config, field.name) for field in fields(config) if field.name not in WRITTEN}
    inputs = {f"the entry {name!r}": path for name, path in paths.items() if isinstance(path, Path)}
    check_no_input(config.out, inputs)
    make_folder(config.out)
    with Bars(options.quiet) as bars:
        written = _trainer(options.what)(config, bars.hooks)
    from dicetalk.train.loop import end_processes

    end_processes()
    for path in written:
        print(path)
    return 0


def _kind(what: str) -> type:
    """The class of the config of a training."""
    if what == "tiny":
        from dicetalk.drawn.train.config import TinyTraining

        return TinyTraining
    if what == "distill":
        from dicetalk.train.distill import DistillTraining

        return DistillTraining
    return {"embedder": EmbedderTraining, "diffusion": DiffusionTraining}[what]


def _trainer(what: str) -> Callable[[Any, Hooks], list[Path]]:
    """Imported only now: a wrong config is reported at once."""
    if what == "embedder":
        from dicetalk.train.embedder import train_embedder

        return train_embedder
    if what == "diffusion":
        from dicetalk.train.diffusion import train_diffusion

        return train_diffusion
    if what == "distill":
        from dicetalk.train.distill import train_distill

        return train_distill
    from dicetalk.drawn.train.run import train_tiny

    return train_tiny
