"""Checks every file of a model by its names and shapes, without reading the weights themselves.

Values are not looked at here (seconds instead of minutes on a slow disk); loading and converting refuse NaN. The face
detector is the exception: whether a TorchScript program can be used shows only when it is loaded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dicetalk.checkpoints import files
from dicetalk.checkpoints.files import ModelFile
from dicetalk.checkpoints.find import FoundFiles, find_files, variants_in
from dicetalk.checkpoints.parts import Part, dice_parts, other_parts, read_whisper_sizes
from dicetalk.checkpoints.read import DamagedFileError, check_start
from dicetalk.checkpoints.single import load_embedder, load_expression_reader
from dicetalk.checkpoints.strict import check_names_and_shapes
from dicetalk.checkpoints.variants import Variant
from dicetalk.config import ModelConfig
from dicetalk.emotion.prior import load_prior
from dicetalk.errors import CheckpointError, EmotionError
from dicetalk.portrait.torchscript import RefusedProgramError, load_torchscript


@dataclass(frozen=True)
class FileReport:
    """Report on one file.

    Args:
        file: what it should be.
        path: where it was found, or none.
        damage: what is wrong with it, or none.
        bytes: its size.
        unused: why it is not used although it is whole, or none.
    """

    file: ModelFile
    path: Path | None = None
    damage: str | None = None
    bytes: int = 0
    unused: str | None = None

    @property
    def state(self) -> str:
        """``found``, ``missing`` or ``damaged``."""
        if self.path is None:
            return "missing"
        return "damaged" if self.damage else "found"


@dataclass(frozen=True)
class ModelReport:
    """Report on a model.

    Args:
        folder: of the model.
        variant: whose files were looked for.
        files: one report for every file.
        others: further variants of which the folder holds networks.
    """

    folder: Path
    variant: Variant
    files: tuple[FileReport, ...]
    others: tuple[Variant, ...] = ()

    @property
    def complete(self) -> bool:
        """Everything that is needed is there, and nothing that is there is damaged."""
        return all(_fine(report) for report in self.files)


def inspect_model(
    folder: Path | str,
    svd: Path | str | None = None,
    config: ModelConfig | None = None,
    variant: Variant | None = None,
) -> ModelReport:
    """Look for every file and compare names and shapes with the networks.

    Args:
        folder: the model folder.
        svd: SVD-XT elsewhere.
        config: sizes of the networks, those of the variant if `None`; a converted file brings its own.
        variant: whose files are wanted; what the folder holds if `None`.
    """
    found = find_files(folder, svd, variant=variant)
    damage, unused = _judge(found, config or found.variant.config)
    reports = []
    for file in found.wanted:
        path = found.paths.get(file)
        size = path.stat().st_size if path else 0
        reports.append(FileReport(file, path, damage.get(file), size, unused.get(file)))
    others = tuple(each for each in variants_in(folder) if each is not found.variant)
    return ModelReport(found.folder, found.variant, tuple(reports), others)


def format_report(report: ModelReport) -> str:
    """A table for people, grouped by where files come from: state, size, path, and what is wrong."""
    lines = [f"{report.folder}: {report.variant.what}"]
    for origin in dict.fromkeys(r.file.origin for r in report.files):
        lines += ["", f"from {origin}"]
        for r in report.files:
            if r.file.origin == origin:
                lines += _rows(r, report.folder)
    wrong = [r for r in report.files if not _fine(r)]
    if wrong:
        to_fetch = sum(r.file.bytes for r in report.files if r.state != "found")  # the optional ones too
        size = f" ({format_size(to_fetch)})" if to_fetch else ""
        verdict = f"{len(wrong)} of {len(report.files)} files are missing or damaged."
        lines += ["", f"{verdict} `dicetalk download {report.folder}{report.variant.option}` fetches them{size}."]
    else:
        lines += ["", "The model is complete."]
    for other in report.others:
        lines.append(f"The folder also holds {other.what}: `dicetalk doctor {report.folder} --variant {other.name}`.")
    return "\n".join(lines)


def _rows(report: FileReport, folder: Path) -> list[str]:
    state = "optional" if report.path is None and report.file.optional else report.state
    size = "-" if report.path is None else format_size(report.bytes)
    path = report.path or Path(report.file.name)
    if path.is_relative_to(folder):
        path = path.relative_to(folder)
    row = f"  {state:<8} {size:>9}  {path}"
    remark = report.damage or report.unused
    return [row, f"  {'':<8} {'':>9}  {remark}"] if remark else [row]


def _fine(report: FileReport) -> bool:
    return report.state == "found" or (report.file.optional and report.path is None)


def format_size(size: float) -> str:
    """`size` in bytes, for people."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def _judge(found: FoundFiles, config: ModelConfig) -> tuple[dict[ModelFile, str], dict[ModelFile, str]]:
    """Reasons by file: of the damaged ones, and of those that are whole but not used."""
    damage: dict[ModelFile, str] = {}
    unused: dict[ModelFile, str] = {}
    paths = found.paths

    def note(file: ModelFile, check: Callable[[], object]) -> None:
        try:
            check()
        except DamagedFileError as error:
            damage.setdefault(file, error.reason)
        except EmotionError as error:
            damage.setdefault(file, str(error).removeprefix(f"{paths[file]} "))

    parts: list[Part] = []
    try:
        parts, config, _ = dice_parts(found, config)
    except DamagedFileError as error:
        damage[found.variant.packed] = error.reason
    if path := paths.get(files.WHISPER_CONFIG):
        note(files.WHISPER_CONFIG, partial(read_whisper_sizes, path, config.audio))
    for part in (*parts, *other_parts(found, config)):
        if not (part.file is files.WHISPER and files.WHISPER_CONFIG in damage):
            note(part.file, partial(_check_part, part))
    for prior in found.variant.priors.values():
        if prior_path := paths.get(prior):
            note(prior, partial(load_prior, prior_path))
    for own, load in ((files.EMBEDDER, load_embedder), (files.READER, load_expression_reader)):
        if own_path := paths.get(own):
            note(own, partial(load, own_path))
    if detector := paths.get(files.DETECTOR):
        try:
            check_start(detector)
            load_torchscript(detector)
        except RefusedProgramError as error:
            reason = str(error).removeprefix(str(detector)).lstrip(": ")
            unused[files.DETECTOR] = f"is not used, CenterFace finds faces instead: {reason}"
        except CheckpointError as error:
            damage[files.DETECTOR] = str(error).removeprefix(f"{detector} ")
    return damage, unused


def _check_part(part: Part) -> None:
    network = part.build()
    tensors = part.read(list(network.state_dict()))
    check_names_and_shapes(part.path, network, tensors, part.may_lack)
