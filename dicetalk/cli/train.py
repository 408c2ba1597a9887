"""``dicetalk train``."""

import argparse

from dicetalk.cli.progress import Bars
from dicetalk.errors import SettingError
from dicetalk.train.config import DiffusionTraining, EmbedderTraining, read_config


def train(options: argparse.Namespace) -> int:
    """Train what ``options.what`` names; a run that has checkpoints in its `out` goes on from the newest."""
    if options.what == "embedder":
        config = read_config(options.config, EmbedderTraining)
    else:
        config = read_config(options.config, DiffusionTraining)
    # Imported only now: a wrong config should be told at once.
    from dicetalk.train.diffusion import train_diffusion
    from dicetalk.train.embedder import train_embedder

    try:
        config.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"out: {config.out} cannot be made ({error.strerror}).") from error
    with Bars(options.quiet) as bars:
        run = train_embedder if options.what == "embedder" else train_diffusion
        written = run(config, bars.hooks)
    for path in written:
        print(path)
    return 0
