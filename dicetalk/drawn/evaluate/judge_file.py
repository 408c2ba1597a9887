"""Trained judges in one safetensors file, so that a second evaluation need not train them again."""

from pathlib import Path

import numpy as np
import torch

from dicetalk.checkpoints.single import SingleFile
from dicetalk.drawn.evaluate.judge_training import JudgeTraining, train_judges
from dicetalk.drawn.evaluate.judges import JudgeConfig, Judges
from dicetalk.drawn.evaluate.snapshots import draw_snapshots
from dicetalk.drawn.faces.identity import identity_seeds
from dicetalk.hooks import SILENT, Hooks

_FILE = SingleFile("dicetalk.judges", "`evaluate`", JudgeConfig, Judges, {})


def save_judges(judges: Judges, path: Path) -> None:
    """Write the judges in half precision.

    Raises:
        OutputError: the file cannot be written.
    """
    _FILE.save(judges, path, torch.float16)


def load_judges(path: Path | str) -> Judges:
    """Read what :func:`save_judges` wrote.

    Raises:
        CheckpointError: the file is missing, damaged or holds something else.
    """
    return _FILE.load(path)


def judges_of(path: Path, training: JudgeTraining, size: int, hooks: Hooks = SILENT) -> Judges:
    """The judges in the file `path`, which are trained and written first if there is no such file.

    Args:
        path: of the file.
        training: how they are trained.
        size: of the pictures that they learn from, in pixels.
        hooks: progress of `draw` and `judges`.

    Raises:
        CheckpointError: what is there is damaged.
        OutputError: the file cannot be written.
    """
    if not path.exists():
        people = np.random.default_rng(training.seed).choice(identity_seeds("train"), training.people, replace=False)
        faces = draw_snapshots(people.tolist(), training.scenes, training.per_scene, size, training.seed, hooks=hooks)
        save_judges(train_judges(faces, training, hooks=hooks), path)
    return load_judges(path)
