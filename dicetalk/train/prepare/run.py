"""Walks through a data set and writes what can be used."""

import csv
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from dicetalk.errors import DiceTalkError, SettingError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.train.prepare.clip import MadeClip
from dicetalk.train.prepare.datasets import SkippedVideo
from dicetalk.train.shards import CLIPS_PER_SHARD, ShardWriter
from dicetalk.video.atomic import explained

SKIPPED_FILE = "skipped.csv"
MAX_WORKERS = 64


class Source(Protocol):
    """A video of a data set, or a clip that is to be drawn."""

    @property
    def name(self) -> str:
        """Once in the data set."""
        ...


SomeSource = TypeVar("SomeSource", bound=Source)
Make = Callable[[SomeSource, Collection[str], Hooks], Iterator[MadeClip | SkippedVideo]]
"""``make(source, there, hooks)`` gives the clips of a source that are not `there`. Several threads call it."""


@dataclass(frozen=True)
class Prepared:
    """What :func:`prepare_shards` did.

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
        folder: where the shards go, one data set in each folder; made if it does not exist.
        make: makes clips.
        skipped: sources that are known to be useless; they are listed first.
        workers: sources that are worked on at the same time, each with one clip in memory.
        clips_per_shard: clips in a file.
        hooks: hears the stage ``prepare`` in sources.

    Raises:
        SettingError: `workers` or `clips_per_shard` is out of range.
        VideoError: the folder cannot be written.
        Cancelled: the caller asked to stop.
    """
    if not 1 <= workers <= MAX_WORKERS:
        raise SettingError(f"workers is {workers}: give 1 to {MAX_WORKERS}.")
    stop = threading.Event()
    stoppable = replace(hooks, cancelled=lambda: stop.is_set() or hooks.cancelled())
    all_skipped: list[SkippedVideo] = []
    with ShardWriter(folder, clips_per_shard, hooks=hooks) as writer, _SkippedList(writer.folder) as listed:
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


def _with_reason(
    source: SomeSource, make: Make[SomeSource], there: Collection[str], hooks: Hooks
) -> Iterator[MadeClip | SkippedVideo]:
    """The clips of a source, and at the end what stopped it. Errors of whoever takes the clips pass by."""
    hooks.check()
    try:
        yield from make(source, there, hooks)
    except DiceTalkError as error:
        yield SkippedVideo(source.name, str(error))


class _SkippedList:
    """``skipped.csv``, line by line as things happen, for those who watch."""

    def __init__(self, folder: Path):
        self.path = folder / SKIPPED_FILE

    def __enter__(self) -> "_SkippedList":
        with explained(self.path):
            self.file = self.path.open("w", encoding="utf-8", newline="")
        self.rows = csv.writer(self.file)
        self._write("video", "reason")
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def add(self, video: SkippedVideo) -> None:
        self._write(video.name, " ".join(video.reason.split()))

    def _write(self, *cells: str) -> None:
        with explained(self.path):
            self.rows.writerow(cells)
            self.file.flush()
