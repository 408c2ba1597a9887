"""Finds the videos of a data set."""

import csv
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from dicetalk.emotion.prior import ALIASES
from dicetalk.errors import DiceTalkError
from dicetalk.paths import checked_path
from dicetalk.train.clip_record import ClipLabels, DatasetError
from dicetalk.train.prepare.labels import NamedVideo, parse_cremad, parse_mead, parse_ravdess, split_of

PARSERS: dict[str, Callable[[PurePath], NamedVideo | None]] = {
    "mead": parse_mead,
    "ravdess": parse_ravdess,
    "cremad": parse_cremad,
}
KINDS = ("auto", *PARSERS, "csv")
COLUMNS = ("video", "identity", "emotion")
OPTIONAL_COLUMNS = ("intensity", "split")

_WAYS_ON = (
    "known are MEAD (M003/video/front/happy/level_3/001.mp4), RAVDESS (01-01-03-02-01-01-12.mp4), CREMA-D "
    "(1001_DFA_ANG_XX.flv), and any folder with a CSV file of the columns video, identity, emotion and perhaps "
    "intensity, split"
)


@dataclass(frozen=True)
class SourceVideo:
    """One video of a data set.

    Args:
        name: made of letters, digits and ``_.+-``, once in a data set; its clips' names start with it.
        path: pictures.
        sound: speech; `path`, or a file of its own.
        labels: of its clips.
    """

    name: str
    path: Path
    sound: Path
    labels: ClipLabels


@dataclass(frozen=True)
class SkippedVideo:
    """A video, or a part of one, that did not become a clip, and why."""

    name: str
    reason: str


def find_videos(folder: Path | str, kind: str = "auto") -> tuple[list[SourceVideo], list[SkippedVideo]]:
    """The videos of a data set, and lines of its CSV file that name none.

    The order is mixed but always the same: any beginning of the list is a fair part of the whole.

    Args:
        folder: the data set.
        kind: one of :data:`KINDS`; ``auto`` takes a CSV file in the folder first if it has the columns of one, then
            file names. Data sets bring tables of their own.

    Raises:
        DatasetError: the folder is missing, or has no such videos, or its CSV file is none.
    """
    folder = checked_path(folder, DatasetError)
    if not folder.is_dir():
        raise DatasetError(f"Data set {folder} is no folder.")
    if kind not in KINDS:
        raise DatasetError(f"The kind of data set is {kind!r}: choose one of {', '.join(KINDS)}.")
    skipped: list[SkippedVideo] = []
    tables = sorted(folder.glob("*.csv")) if kind in ("auto", "csv") else []
    others = []
    if kind == "auto":
        others = [path.name for path in tables if not _has_columns(path)]
        tables = [path for path in tables if path.name not in others]
    if kind == "csv" and not tables:
        raise DatasetError(f"{folder} holds no CSV file with the columns {', '.join(COLUMNS)}.")
    if tables:
        videos = _from_tables(folder, tables, skipped)
    else:
        videos = _from_names(folder, list(PARSERS) if kind == "auto" else [kind])
    if not videos:
        passed = f" ({', '.join(others[:3])} is no such table; --kind csv says why)" if others else ""
        raise DatasetError(f"{folder} holds no videos of the kind {kind!r}: {_WAYS_ON}{passed}.")
    return sorted(videos, key=lambda video: (zlib.crc32(video.name.encode()), video.name)), skipped


def _from_names(folder: Path, kinds: list[str]) -> list[SourceVideo]:
    """The videos of the first of `kinds` that has any."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".mp4", ".flv"))
    for kind in kinds:
        videos: dict[str, SourceVideo] = {}
        for path in paths:
            named = PARSERS[kind](path)
            if named is not None:
                # Some copies of MEAD have the sound in the video alone.
                sound = Path(named.sound) if named.sound and Path(named.sound).is_file() else path
                videos.setdefault(named.labels.video, SourceVideo(named.labels.video, path, sound, named.labels))
        if videos:
            return list(videos.values())
    return []


def _from_tables(folder: Path, tables: list[Path], skipped: list[SkippedVideo]) -> list[SourceVideo]:
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise DatasetError(f"{folder} holds several CSV files ({names}). Leave one there, or give a kind of data set.")
    videos: dict[str, SourceVideo] = {}
    for line, row in _rows(tables[0]):
        try:
            video = _from_row(folder, row)
            if video.name in videos:
                raise DatasetError(f"{row['video']} stands in an earlier line as well.")
            videos[video.name] = video
        except DiceTalkError as error:
            skipped.append(SkippedVideo(row["video"][:200], f"{tables[0].name}, line {line}: {error}"))
    return list(videos.values())


def _has_columns(table: Path) -> bool:
    try:
        next(_rows(table), None)
    except DatasetError:
        return False
    return True


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Lines of a CSV file with their numbers, all columns there."""
    known = (*COLUMNS, *OPTIONAL_COLUMNS)
    try:
        # Excel starts UTF-8 files with a byte order mark.
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            missing = [name for name in COLUMNS if name not in columns]
            if missing:
                raise DatasetError(
                    f"{table} has no column {missing[0]!r}. Its first line must name the columns "
                    f"{', '.join(COLUMNS)} and may name {', '.join(OPTIONAL_COLUMNS)}, with commas between them."
                )
            for row in reader:
                yield reader.line_num, {name: (row.get(name) or "").strip() for name in known}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{table} cannot be read as a CSV file in UTF-8 ({error}).") from error


def _from_row(folder: Path, row: dict[str, str]) -> SourceVideo:
    relative = row["video"].replace("\\", "/")
    path = folder / relative
    # A table that came with a download must not reach other files.
    if not relative or "\0" in relative or not path.resolve().is_relative_to(folder.resolve()):
        raise DatasetError(f"The video is {relative!r}: give a path inside {folder}, relative to it.")
    intensity = None
    if row["intensity"]:
        try:
            intensity = float(row["intensity"])
        except ValueError:
            raise DatasetError(
                f"The intensity is {row['intensity']!r}: give a number from 0 to 1, or nothing."
            ) from None
    emotion = row["emotion"].lower()
    labels = ClipLabels(
        identity=row["identity"],
        emotion=ALIASES.get(emotion, emotion) or None,
        intensity=intensity,
        video=relative[-200:],
        split=row["split"].lower() or split_of(row["identity"]),
    )
    return SourceVideo(_name(relative), path, path, labels)


def _name(relative: str) -> str:
    """A name for clips, from a path that may hold any character."""
    plain = re.sub(r"[^A-Za-z0-9_+-]+", "-", relative.rsplit(".", 1)[0]).strip("-")
    return f"{plain[-100:]}-{zlib.crc32(relative.encode()):08x}"
