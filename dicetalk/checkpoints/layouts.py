"""Where other programs keep the same files: folders beside the model folder, as their installations lay them out.

ComfyUI has one folder for each kind of model below ``models``; there the Sonic pack keeps the detector, Whisper and
RIFE in ``sonic``, and SVD-XT is one of the ``checkpoints``. The released program keeps its weights in its own folder
``checkpoints`` and the priors in ``examples/emo`` beside that; the community pack carries the same ``examples/emo``.
"""

from collections.abc import Iterator
from pathlib import Path

PRIOR_FOLDER = "examples/emo"

_SHARING = ("sonic", "diffusers")
_CHECKPOINTS = "checkpoints"
_PACKS = "custom_nodes"
_PROGRAM = "dicetalk"


def neighbours(folder: Path) -> list[Path]:
    """Folders beside `folder` that may hold what several programs use: Whisper, RIFE, the detector, SVD-XT."""
    return [folder.absolute().parent / name for name in _SHARING]


def checkpoint_folders(folder: Path) -> Iterator[Path]:
    """ComfyUI's checkpoints beside `folder`, and the folders in them."""
    checkpoints = folder.absolute().parent / _CHECKPOINTS
    yield checkpoints
    yield from _folders(checkpoints)


def clones(folder: Path) -> Iterator[Path]:
    """Copies of the program or of a pack with its examples: around, in or beside `folder`, or a custom node."""
    parent = folder.absolute().parent
    yield parent
    for place in (folder, parent, parent.parent / _PACKS):
        yield from clones_in(place)


def clones_in(place: Path) -> Iterator[Path]:
    """Folders in `place` named after the program: ``DICE-Talk``, ``DICE-Talk-main``, ``ComfyUI_DICE_Talk``."""
    for path in _folders(place):
        if _PROGRAM in path.name.lower().replace("-", "").replace("_", "").replace(" ", ""):
            yield path


def _folders(place: Path) -> list[Path]:
    try:
        return sorted(path for path in place.iterdir() if path.is_dir())
    except OSError:  # not there, or not ours to read
        return []
