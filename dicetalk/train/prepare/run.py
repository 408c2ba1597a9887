"""Walks through a data set and writes what can be used."""

import csv
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from dicetalk.errors import Cancelled, DiceTalkError, SettingError
from dicetalk.files import explained, make_folder, only_writer, replacing
from dicetalk.hooks import SILENT, Hooks
from dicetalk.memory import is_out_of_memory
from dicetalk.train.prepare.clip import MadeClip
from dicetalk.train.prepare.datasets import SkippedVideo, SourceVideo
from dicetalk.train.shards import CLIPS_PER_SHARD, ShardWriter, list_prepared

SKIPPED_FILE = "skipped.csv"
MAX_WORKERS = 64
_COLUMNS = ("video", "reason", "dataset")


class ClipSource(Protocol):
    """A video of a data set, or a clip that is to be drawn."""

    @property
    def name(self) -> str:
        """Once in the data set."""
        ...


SomeSource = TypeVar("SomeSource", bound=ClipSource)
Make = Callable[[SomeSource, Collection[str], Hooks], Iterator[MadeClip | SkippedVideo]]
"""``make(source, there, hooks)`` gives the clips of a source that are not `there`. Several threads call it."""


@dataclass(frozen=True)
class Prepared:
    """Result of :func:`prepare_shards`.

    Args:
        made: clips that were written now.
        there: clips that the folder held before.
        skipped: what could not be used, as listed in ``skipped.csv``.
    """

    made: int
    there: int
    skipped: tuple[SkippedVideo, ...]


def prepare_shards(
    sources: Sequence[SomeSource],
    folder: Path | str,
    make: Make[SomeSource],
    *,
    skipped: Iterable[SkippedVideo] = (),
    dataset: str = "",
    workers: int = 1,
    clips_per_shard: int = CLIPS_PER_SHARD,
    hooks: Hooks = SILENT,
) -> Prepared:
    """Make the clips of `sources` and write them to shards.

    A source that cannot be used is listed in ``skipped.csv`` in `folder`, and the next one is taken. After a stop or a
    crash at any moment the same call goes on: finished clips are not made again, and sources that failed are tried
    again. With one worker the shards are then, byte by byte, those of a run without a stop; more workers mix the order.

    Args:
        sources: videos.
        folder: where the shards go; made if it does not exist. Several data sets may go there one after another.
        make: makes clips.
        skipped: sources that are known to be useless; they are listed first.
        dataset: what ``skipped.csv`` calls these sources; lines of other data sets stay in it.
        workers: sources that are worked on at the same time, each with one clip in memory.
        clips_per_shard: clips in a file.
        hooks: hears the stage ``prepare`` in sources.

    Raises:
        SettingError: `workers` or `clips_per_shard` is out of range.
        OutputError: the folder cannot be written, or another program is writing there.
        Cancelled: the caller asked to stop.
    """
    if not 1 <= workers <= MAX_WORKERS:
        raise SettingError(f"workers is {workers}: give 1 to {MAX_WORKERS}.")
    stop = threading.Event()
    stoppable = replace(hooks, cancelled=lambda: stop.is_set() or hooks.cancelled())
    all_skipped: list[SkippedVideo] = []
    make_folder(Path(folder))
    with (
        only_writer(Path(folder)),
        ShardWriter(folder, clips_per_shard, hooks=hooks) as writer,
        _SkippedList(writer.folder, dataset) as listed,
    ):
        before = writer.ids

        def work(source: SomeSource) -> list[SkippedVideo]:
            failed = []
            for result in _with_reason(source, make, before, stoppable):
                if isinstance(result, SkippedVideo):
                    failed.append(result)
                else:
                    writer.add(result.name, result.labels, result.tensors)
            return failed

        for video in skipped:
            listed.add(video)
            all_skipped.append(video)
        with ThreadPoolExecutor(workers, "prepare") as pool:
            try:
                for done, failed in enumerate(pool.map(work, sources), start=1):
                    hooks.check()
                    for video in failed:
                        listed.add(video)
                    all_skipped += failed
                    hooks.report("prepare", done, len(sources))
            except BaseException:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        made = len(writer.ids) - len(before)
    return Prepared(made, len(before), tuple(all_skipped))


def check_alike(folder: Path, size: int, coefficients: int | None) -> None:
    """Compare the clips that a folder holds with those that shall be added.

    Args:
        folder: of shards; it may be missing.
        size: side of the new frames in pixels.
        coefficients: expression coefficients of a new frame, if it has any.

    Raises:
        SettingError: a clip there differs.
    """
    for record in list_prepared(folder):
        found = record.shapes["frames"][1]
        if found != size:
            raise SettingError(
                f"--size {size}: {folder} holds clips of {found} pixels. Give --size {found}, or another folder."
            )
        has = record.shapes.get("coefficients", (0, None))[1]
        if has != coefficients:
            shown = [
                "no expression coefficients" if n is None else f"{n} expression coefficients"
                for n in (has, coefficients)
            ]
            raise SettingError(
                f"{folder} holds clips with {shown[0]} already, and the new ones would have {shown[1]}. Give the same "
                "--landmarker or none as before, or another folder."
            )


def without_namesakes(folder: Path, videos: Sequence[SourceVideo]) -> tuple[list[SourceVideo], list[SkippedVideo]]:
    """Leave out videos whose clips' name is taken in a folder of shards by a clip of somebody else or something else.

    They would pass for made. Names come from paths inside a data set, and two data sets may have the same.
    """
    taken = {record.id.rpartition(".")[0]: record.labels for record in list_prepared(folder)}
    kept, skipped = [], []
    for video in videos:
        there = taken.get(video.name, video.labels)
        if (there.identity, there.emotion) == (video.labels.identity, video.labels.emotion):
            kept.append(video)
        else:
            reason = f"{folder} has a clip of this name, of {there.identity}, {there.emotion}. Rename the video."
            skipped.append(SkippedVideo(video.name, reason))
    return kept, skipped


def _with_reason(
    source: SomeSource, make: Make[SomeSource], there: Collection[str], hooks: Hooks
) -> Iterator[MadeClip | SkippedVideo]:
    """The clips of a source, and at the end what stopped it. Errors of whoever takes the clips pass by."""
    hooks.check()
    try:
        yield from make(source, there, hooks)
    except DiceTalkError as error:
        yield SkippedVideo(source.name, str(error))
    except Cancelled:
        raise
    except Exception as error:  # decoders answer a strange file in ways of their own
        if is_out_of_memory(error):  # the next video would fare no better
            raise
        yield SkippedVideo(source.name, f"{type(error).__name__}: {error}")


class _SkippedList:
    """``skipped.csv``, line by line as things happen, for those who watch; other data sets' lines stay."""

    def __init__(self, folder: Path, dataset: str):
        self.path, self.dataset = folder / SKIPPED_FILE, dataset

    def __enter__(self) -> "_SkippedList":
        kept = [row for row in self._rows() if row[2] != self.dataset]
        with (
            replacing(self.path) as partial,
            explained(self.path),
            partial.open("w", encoding="utf-8", newline="") as file,
        ):
            csv.writer(file).writerows([_COLUMNS, *kept])
        with explained(self.path):
            self.file = self.path.open("a", encoding="utf-8", newline="")
        self.rows = csv.writer(self.file)
        return self

    def _rows(self) -> list[list[str]]:
        """Lines that are there; one that a kill has cut off is left out."""
        try:
            with self.path.open(encoding="utf-8", newline="") as file:
                return [row for row in csv.reader(file) if len(row) == len(_COLUMNS) and tuple(row) != _COLUMNS]
        except (OSError, UnicodeDecodeError, csv.Error):
            return []

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def add(self, video: SkippedVideo) -> None:
        with explained(self.path):
            self.rows.writerow((video.name, " ".join(video.reason.split()), self.dataset))
            self.file.flush()
