"""Looks for every file of a model in the usual layouts, and recognises the variant that a folder holds.

The bundled model is found by its name, ``tiny``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from os import PathLike
from pathlib import Path

from dicetalk.checkpoints import layouts, sources
from dicetalk.checkpoints.files import SVD_SINGLE_FILE, ModelFile
from dicetalk.checkpoints.packed import packed_variant
from dicetalk.checkpoints.variants import FULL, RELEASED, Variant
from dicetalk.errors import CheckpointError
from dicetalk.paths import checked_path, is_file

TINY = "tiny"
"""The name of the bundled model wherever a model folder is asked for; a folder of that name needs its full path."""

PACKED_NAME = "dicetalk.safetensors"
"""The four DICE-Talk networks of a small model."""


def tiny_folder() -> Path:
    """The model folder of the bundled model, for :func:`dicetalk.checkpoints.load.load_model`.

    Raises:
        CheckpointError: this copy of the package came without it.
    """
    folder = Path(__file__).parents[1] / "assets" / "tiny"
    if not (folder / PACKED_NAME).is_file():
        raise CheckpointError(
            "This version of the package comes without its small model. Fetch the released weights with `dicetalk "
            "download models`, or train the small one, `dicetalk train tiny --config examples/train-tiny.yaml`, and "
            "choose its folder as the model."
        )
    return folder


def model_folder(model: str | PathLike[str]) -> Path:
    """Path of a model that is named by its folder or file, or as :data:`TINY`.

    Raises:
        CheckpointError: it is :data:`TINY`, and this copy of the package came without the bundled model.
    """
    return tiny_folder() if str(model) == TINY else Path(model)


_LONGEST_NAME = 128
"""Characters, at most, of any path that is looked for in a folder."""

_BASES = ("", "DICE-Talk", "checkpoints", "checkpoints/DICE-Talk")
_SVD_WITHOUT_TEMPORAL_DECODER = "image_decoder"


@dataclass(frozen=True)
class FoundFiles:
    """Result of :func:`find_files`.

    Args:
        folder: where it looked.
        variant: whose files it looked for.
        paths: path of every file that exists. With a converted file (`variant.packed`) that one stands for the
            variant's own files.
        svd: where it looked for SVD-XT, if that is elsewhere.
    """

    folder: Path
    variant: Variant
    paths: dict[ModelFile, Path]
    svd: Path | None = None

    @property
    def wanted(self) -> tuple[ModelFile, ...]:
        """Every file of this model, found or not; of those that only a training makes, the found ones."""
        variant = self.variant
        trained = tuple(file for file in variant.trained if file in self.paths)
        if variant.packed in self.paths:
            return (variant.packed, *(file for file in variant.files if file not in variant.own_files), *trained)
        return (*variant.files, *trained)

    @property
    def missing(self) -> tuple[ModelFile, ...]:
        """Files that are needed and not there."""
        return tuple(file for file in self.wanted if file not in self.paths and not file.optional)


def find_files(
    folder: str | PathLike[str],
    svd: str | PathLike[str] | None = None,
    shared: Sequence[str | PathLike[str]] = (),
    variant: Variant | None = None,
) -> FoundFiles:
    """Look for every file of the model, here and in the usual layouts.

    Each file is looked for in `folder`, in its `DICE-Talk` and its `checkpoints`; the first hit counts. SVD-XT is found
    as a diffusers folder, and else as ``svd_xt*.safetensors``. What is not there is looked for in `shared`, and then
    where other programs keep it beside `folder`, see :mod:`dicetalk.checkpoints.layouts`; the variant's own networks
    are not, since those of other variants have the same names.

    Args:
        folder: the model folder, or one file in it that says which networks are meant: a converted file, or the
            released ``unet.pth``; ``tiny`` is the bundled model.
        svd: SVD-XT elsewhere: a diffusers folder, a single-file checkpoint, or a folder that holds one of these.
            `folder` is then not searched for it.
        shared: folders that are searched after `folder` for what several models use: all but the variant's own
            networks and what was trained beside them.
        variant: whose files are wanted; :func:`variant_in` the folder if `None`.

    Raises:
        CheckpointError: `svd` is given and does not exist, or this copy of the package has no bundled model.
    """
    for place in (svd, model_folder(folder)):
        if place is not None:
            checked_path(Path(place, "x" * _LONGEST_NAME), CheckpointError)
    if svd is not None and not checked_path(svd, CheckpointError).exists():
        raise CheckpointError(
            f"{svd}: there is no such file or folder to take SVD-XT from. Give a diffusers folder or a single-file "
            "checkpoint, or leave it out, to look for it in the model folder."
        )
    variant = variant_in(folder) if variant is None else variant
    chosen = checked_path(model_folder(folder), CheckpointError)
    folder = chosen.parent if chosen.is_file() else chosen
    # Networks in a folder of their own have what other models use too around it.
    around = [folder.absolute().parent] if variant.is_home(folder) else []
    folders = [folder, *around, *map(model_folder, shared)]
    paths = {}
    for file in (variant.packed, *variant.files, *variant.trained):
        path = next(_candidates(file, variant, folders, None if svd is None else Path(svd)), None)
        if path is not None:
            paths[file] = path
    if chosen.is_file():
        paths.pop(variant.packed, None)
        paths[next((file for file in variant.own_files if file.base == chosen.name), variant.packed)] = chosen
    return FoundFiles(folder, variant, paths, None if svd is None else Path(svd))


def variant_in(folder: str | PathLike[str]) -> Variant:
    """The first of :func:`variants_in`, DICE-Talk if there is none."""
    return next(iter(variants_in(folder)), FULL)


def variants_in(folder: str | PathLike[str]) -> list[Variant]:
    """Variants of which a folder holds networks, in the registry's order.

    Args:
        folder: as for :func:`find_files`. A converted file says which variant it is; for another file the names of
            those beside it decide.

    Raises:
        CheckpointError: the path cannot be used, or this copy of the package has no bundled model.
    """
    chosen = checked_path(model_folder(folder), CheckpointError)
    if not chosen.is_file():
        return [variant for variant in RELEASED if _has_networks(chosen, variant)]
    if chosen.suffix == ".safetensors" and (packed := packed_variant(chosen)):
        return [packed]
    return [variant for variant in RELEASED if _holds(chosen.parent, variant.marks)]


def _has_networks(folder: Path, variant: Variant) -> bool:
    found = (next(_candidates(file, variant, [folder], None), None) for file in (variant.packed, *variant.own_files))
    return any(found)


def _candidates(file: ModelFile, variant: Variant, folders: Sequence[Path], svd: Path | None) -> Iterator[Path]:
    """Paths at which `file` is there, in the order of :func:`find_files`; the first of `folders` is the model's."""
    if file is variant.packed:
        yield from _packed_hits(variant, folders[0])
    elif file in (*variant.own_files, *variant.trained):
        yield from (path for path in _hits(file, folders[0]) if not _is_of_another(path, variant))
    elif file.source is sources.SVD:
        for place in [svd] if svd else [*folders, *layouts.neighbours(folders[0])]:
            yield from _svd_hits(file, place)
        for place in () if svd else layouts.checkpoint_folders(folders[0]):
            yield from _svd_single_files(place)
    else:
        for place in (*folders, *layouts.neighbours(folders[0])):
            yield from _hits(file, place)
        if file.source is sources.PROGRAM:
            paths = (clone / file.remote for place in folders for clone in layouts.clones(place))
            yield from (path for path in paths if is_file(path))


def _hits(file: ModelFile, folder: Path) -> Iterator[Path]:
    for base in _BASES:
        for place in (file.name, *file.places):
            if is_file(folder / base / place):
                yield folder / base / place


def _packed_hits(variant: Variant, folder: Path) -> Iterator[Path]:
    """Converted files of `variant`, and those that are too damaged to say of which they are."""
    for base in _BASES:
        found = sorted(path for path in (folder / base).glob(variant.packed.name) if path.is_file())
        yield from (path for path in found if packed_variant(path) in (variant, None))


def _is_of_another(path: Path, variant: Variant) -> bool:
    """Whether the files beside a network show that it is another variant's, whose networks have the same names."""
    others = (each for each in RELEASED if each is not variant)
    return not _holds(path.parent, variant.marks) and any(_holds(path.parent, each.marks) for each in others)


def _holds(folder: Path, names: frozenset[str]) -> bool:
    return any(is_file(folder / name) for name in names)


def is_svd_checkpoint(name: str) -> bool:
    """Whether a single file called `name` is SVD-XT, with the decoder that the model wants."""
    return fnmatch(name, SVD_SINGLE_FILE) and _SVD_WITHOUT_TEMPORAL_DECODER not in name


def _svd_hits(file: ModelFile, root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    yield from _hits(file, root)
    for base in _BASES:
        yield from _svd_single_files(root / base)


def _svd_single_files(folder: Path) -> Iterator[Path]:
    yield from sorted(p for p in folder.glob(SVD_SINGLE_FILE) if p.is_file() and is_svd_checkpoint(p.name))
