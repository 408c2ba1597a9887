"""Several clips in one run of ``dicetalk generate``: the jobs of a table or of a folder."""

import argparse
import contextlib
import csv
import io
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from pathlib import Path

from dicetalk.cli.checks import check_paths, refuse_inputs_as_outputs
from dicetalk.emotion.parse import FILE_SUFFIXES
from dicetalk.emotion.text.subtitles import read_text
from dicetalk.errors import Cancelled, DiceTalkError, SettingError
from dicetalk.hooks import Hooks
from dicetalk.media import listed
from dicetalk.memory import is_out_of_memory

OF_THE_RUN = ("jobs", "again", "models", "svd", "device", "dtype", "quiet")
"""Options that are the same for all jobs: the model is loaded once."""

NEEDED = ("image", "audio", "out")

KINDS = {
    "audio": {".aac", ".aif", ".aiff", ".au", ".caf", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wma"}
    | {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"},
    "image": {".avif", ".bmp", ".gif", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"},
    "emotion_track": set(FILE_SUFFIXES),
}
"""Purpose of a file in a folder of jobs, by the end of its name."""

_YES = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}


@dataclass(frozen=True)
class Job:
    """One clip.

    Args:
        place: where it stands, for messages, such as ``line 3``.
        options: of ``dicetalk generate``, for this clip alone.
    """

    place: str
    options: argparse.Namespace

    @property
    def is_done(self) -> bool:
        """Whether its output is there: no output ever is in part."""
        out = self.options.out
        return any(out.iterdir()) if out.is_dir() else out.exists()

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Let errors of the block say which job they are about."""
        try:
            yield
        except DiceTalkError as error:
            raise type(error)(f"{self.options.jobs}, {self.place}: {error}") from None


def read_jobs(options: argparse.Namespace, hooks: Hooks) -> list[Job]:
    """The jobs of ``options.jobs``, each checked as far as that needs no model.

    A table is CSV, with a line of column names: the names of options, dashes left out. What a line leaves open is what
    the command line says. Paths are seen from the table's folder. In a folder each sound file is a job; a picture of
    its name is its portrait, and a text, subtitles or a saved emotion of its name its emotion; ``--out`` is the folder
    of the videos.

    Raises:
        SettingError: the table or folder has no jobs, or a job has a column or a value that is none, or is incomplete.
        OutputError: a job would write over an input, or over what another job writes.
    """
    source: Path = options.jobs
    jobs = list(_of_folder(source, options, hooks) if source.is_dir() else _of_table(source, options, hooks))
    if not jobs:
        raise SettingError(f"{source} has no jobs.")
    outputs: dict[Path, str] = {}
    for job in jobs:
        with job.named():
            check_paths(job.options)
            missing = [f"--{name}" for name in NEEDED if getattr(job.options, name) is None]
            if missing:
                raise SettingError(f"{', '.join(missing)} is missing. Add the column, or give it for all jobs.")
            target = job.options.out.resolve()
            if target in outputs:
                raise SettingError(f"{job.options.out} is written by {outputs[target]} already. Give another name.")
            outputs[target] = job.place
    inputs = {path.resolve(): job.place for job in jobs for path in (job.options.image, job.options.audio)}
    for target, place in outputs.items():
        if target in inputs:
            raise SettingError(f"{options.jobs}, {place}: {target} is read by {inputs[target]}. Give another name.")
    for job in jobs:
        with job.named():
            refuse_inputs_as_outputs(job.options)
    return jobs


def run_jobs(jobs: list[Job], make: Callable[[argparse.Namespace], None], hooks: Hooks) -> int:
    """Make one clip after another; one that fails is reported and does not stop the others.

    Args:
        jobs: as :func:`read_jobs` gives them; those that are done are left out unless their option `again` is set.
        make: makes a clip.
        hooks: hear what failed.

    Returns:
        How many failed.

    Raises:
        Cancelled: the caller asked to stop.
    """
    failed = there = 0
    for number, job in enumerate(jobs, 1):
        if job.is_done and not job.options.again:
            there += 1
            continue
        try:
            make(job.options)
        except Cancelled:
            raise
        except (DiceTalkError, RuntimeError, MemoryError) as error:
            if not isinstance(error, DiceTalkError) and not is_out_of_memory(error):
                raise
            failed += 1
            hooks.notice(f"{job.place} failed: {error}")
        else:
            print(f"{job.options.out} ({number} of {len(jobs)})", flush=True)
    print(f"{len(jobs) - there - failed} made, {there} there already, {failed} failed.")
    return failed


def _of_table(table: Path, options: argparse.Namespace, hooks: Hooks) -> Iterator[Job]:
    parser: argparse.ArgumentParser = options.parser
    actions = {action.dest: action for action in parser._actions}
    known = {_column(flag): action for action in parser._actions for flag in action.option_strings}
    lines = io.StringIO(read_text(table, hooks), newline="")
    try:
        first = lines.readline()
        lines.seek(0)
        reader = csv.DictReader(lines, delimiter=max(",;\t", key=first.count), strict=True)
        columns = [_column(name) for name in reader.fieldnames or ()]
        for name in columns:
            if name not in known or known[name].dest in (*OF_THE_RUN, "help"):
                allowed = sorted(name for name, each in known.items() if each.dest not in (*OF_THE_RUN, "help", "h"))
                once = " It is given once, for all jobs." if name in actions else ""
                raise SettingError(f"{table} has a column {name!r}.{once} Known: {', '.join(allowed)}.")
        if len(set(columns)) < len(columns):
            raise SettingError(f"{table} has two columns of one name.")
        for row in reader:
            place = f"line {reader.line_num}"
            values = list(row.values())
            if None in row or None in values:
                raise SettingError(f"{table}, {place} has another number of values than the {len(columns)} columns.")
            given = {name: value.strip() for name, value in zip(columns, values, strict=True) if value.strip()}
            if given:
                yield Job(place, _row_options(table, place, given, known, options))
    except csv.Error as error:
        raise SettingError(f"{table}, line {reader.line_num} is no CSV: {error}.") from None


def _column(name: str | None) -> str:
    return (name or "").strip().lower().lstrip("-").replace("-", "_")


def _row_options(
    table: Path,
    place: str,
    given: dict[str, str],
    known: dict[str, argparse.Action],
    options: argparse.Namespace,
) -> argparse.Namespace:
    """The options of the command line with those of a row instead."""
    parser: argparse.ArgumentParser = options.parser
    arguments, base = [], copy(options)
    for name, value in given.items():
        action = known[name]
        flag = f"--{name.replace('_', '-')}"
        for group in parser._mutually_exclusive_groups:
            if action in group._group_actions:
                for other in group._group_actions:
                    setattr(base, other.dest, parser.get_default(other.dest))
        if action.nargs == 0:
            if value.lower() not in _YES:
                raise SettingError(f"{table}, {place}: {name} is {value!r}. Write yes or no.")
            setattr(base, action.dest, parser.get_default(action.dest))
            arguments += [flag] if _YES[value.lower()] else []
            continue
        beside = table.parent / value
        if action.type is Path or (action.dest == "emotion" and _is_file(beside)):
            value = str(beside)
        arguments.append(f"{flag}={value}")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return parser.parse_args(arguments, base)
    except SystemExit:
        reason = said.getvalue().strip().rpartition("error: ")[2]
        raise SettingError(f"{table}, {place}: {reason}.") from None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a sentence can be too long for a name
        return False


def _of_folder(folder: Path, options: argparse.Namespace, hooks: Hooks) -> Iterator[Job]:
    if options.out is None or options.out.suffix:
        raise SettingError("With a folder of jobs, --out is the folder of the videos.")
    by_name: dict[str, dict[str, Path]] = {}
    unused = []
    for path in sorted(folder.iterdir()):
        kind = next((kind for kind, suffixes in KINDS.items() if path.suffix.lower() in suffixes), None)
        if kind is None:
            unused += [path.name] if path.is_file() else []
            continue
        parts = by_name.setdefault(path.stem, {})
        if kind in parts:
            raise SettingError(f"{folder}: {parts[kind].name} and {path.name} are of one job. Leave one there.")
        parts[kind] = path
    for name, parts in by_name.items():
        if "audio" not in parts:
            unused += [path.name for path in parts.values()]
            continue
        job = copy(options)
        vars(job).update(parts, out=options.out / f"{name}.mp4")
        if "emotion_track" in parts:
            job.emotion = options.parser.get_default("emotion")
        yield Job(parts["audio"].name, job)
    if unused:
        hooks.notice(f"{folder}: {listed(unused)} not used: no speech has that name.")
