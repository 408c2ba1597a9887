"""Fetches what a model folder lacks from the repositories that publish it.

A download goes on where it stopped, says how far it is, can be cancelled, and is compared with the published checksum
before it takes its place.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicetalk.checkpoints.doctor import FileReport, format_size, inspect_model
from dicetalk.checkpoints.find import TINY
from dicetalk.checkpoints.remote import Remote, RemoteFile, explain, open_repository
from dicetalk.checkpoints.sources import Repository
from dicetalk.checkpoints.variants import Variant
from dicetalk.config import ModelConfig
from dicetalk.errors import CheckpointError
from dicetalk.hooks import SILENT, Hooks

RANGE_BYTES = 32 << 20
MEGABYTE = 1_000_000
PARTIAL = ".part"


@dataclass(frozen=True)
class _Item:
    """A file to fetch.

    Args:
        report: of the local file that it replaces or adds.
        source: repository that publishes it.
        remote: connection to that repository.
        file: what is published.
        target: where it goes.
    """

    report: FileReport
    source: Repository
    remote: Remote
    file: RemoteFile
    target: Path

    @property
    def partial(self) -> Path:
        """Where it grows; the name tells the version, so that two versions are never joined."""
        version = (self.file.checksum or str(self.file.bytes))[:12]
        return self.target.with_name(f".{self.target.name}.{version}{PARTIAL}")

    @property
    def done(self) -> int:
        """Bytes that are there."""
        return self.partial.stat().st_size if self.partial.exists() else 0


def download_model(
    folder: Path | str,
    hooks: Hooks = SILENT,
    token: str | None = None,
    config: ModelConfig | None = None,
    variant: Variant | None = None,
) -> None:
    """Fetch every file that is missing or damaged; a damaged one is kept as ``NAME.damaged``.

    Args:
        folder: the model folder; made if it is not there.
        hooks: progress of `download` in megabytes; a notice for each repository says its licence and revision.
        token: Hugging Face token, for repositories that ask to accept a licence.
        config: sizes of the networks, to tell what is damaged; those of the variant if `None`.
        variant: what to fetch; if `None` what the folder holds a part of, DICE-Talk for an empty one.

    Raises:
        CheckpointError: `folder` is ``tiny``, something could not be fetched (all of it is named; the rest has been
            fetched), or there is no space.
        Cancelled: the caller asked to stop; the next call goes on from there.
    """
    if str(folder) == TINY:
        raise CheckpointError(f"{TINY} is the bundled model, of which nothing is fetched. Name a folder, as `models`.")
    folder = Path(folder)
    model = inspect_model(folder, config=config, variant=variant)
    wanted = [report for report in model.files if report.state != "found"]
    problems: list[str] = []
    items: list[_Item] = []
    for source in dict.fromkeys(report.file.source for report in wanted):
        reports = [report for report in wanted if report.file.source is source]
        if source is None:
            problems += [f"{report.path} is damaged; delete it, or make it again." for report in reports if report.path]
            continue
        try:
            remote = open_repository(source, token)
        except Exception as error:
            problems.append(explain(source, error))
            continue
        found = [(report, remote.find(report.file)) for report in reports]
        absent = [r.file.name for r, file in found if file is None and (r.path is not None or not r.file.optional)]
        if absent:
            problems.append(f"{', '.join(absent)}: not in {source.page} at {remote.revision}.")
        chosen = [
            _Item(r, source, remote, file, folder / model.variant.place(r.file, folder))
            for r, file in found
            if file is not None
        ]
        useless = [item for item in chosen if _is_published(item, hooks)]
        problems += [f"{i.report.path} is what {source.page} publishes, but {i.report.damage}" for i in useless]
        chosen = [item for item in chosen if item not in useless]
        if chosen:
            size = format_size(sum(item.file.bytes for item in chosen))
            hooks.notice(f"{source.name} at {remote.revision}, {size}, licence: {source.licence} ({source.page}).")
        items += chosen
    _check_space(folder, items)
    problems += _fetch_all(folder, items, hooks)
    if problems:
        raise CheckpointError("\n".join(["Not everything could be fetched:", *(f"  {line}" for line in problems)]))


def _is_published(item: _Item, hooks: Hooks) -> bool:
    """Whether the damaged local file has the published content, so that fetching it would change nothing."""
    path = item.report.path
    if path is None or item.file.checksum is None or path.stat().st_size != item.file.bytes:
        return False
    digest = item.file.digest()
    with path.open("rb") as file:
        while block := file.read(RANGE_BYTES):
            hooks.check()
            digest.update(block)
    return digest.hexdigest() == item.file.checksum


def _check_space(folder: Path, items: Sequence[_Item]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        needed = sum(max(0, item.file.bytes - item.done) for item in items)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be used ({error.strerror}).") from error
    if needed > free:
        raise CheckpointError(
            f"{folder}: {format_size(needed)} are to be fetched and {format_size(free)} are free. "
            "Make space, or take another folder."
        )


def _fetch_all(folder: Path, items: Sequence[_Item], hooks: Hooks) -> list[str]:
    """Fetch `items`; returns what went wrong, at most once for each repository."""
    problems: dict[Repository, str] = {}
    total = sum(item.file.bytes for item in items)
    before = 0
    for item in items:
        if item.source in problems:
            continue
        try:
            _fetch(item, hooks, before, total)
        except OSError as error:
            reason = error.strerror or error
            raise CheckpointError(f"{folder} cannot be written ({reason}). What was fetched is kept.") from error
        except CheckpointError as error:
            problems[item.source] = str(error)
        before += item.file.bytes
    return list(problems.values())


def _fetch(item: _Item, hooks: Hooks, before: int, total: int) -> None:
    item.target.parent.mkdir(parents=True, exist_ok=True)
    digest = item.file.digest()
    done = _read_partial(item, digest, hooks)
    while done < item.file.bytes:
        hooks.check()
        try:
            content = item.remote.read(item.file, done, RANGE_BYTES)
        except Exception as error:
            raise CheckpointError(explain(item.source, error)) from error
        if not content:
            break
        with item.partial.open("ab") as file:
            file.write(content)
        digest.update(content)
        done += len(content)
        hooks.report("download", (before + done) // MEGABYTE, total // MEGABYTE)
    if done != item.file.bytes or item.file.checksum not in (None, digest.hexdigest()):
        item.partial.unlink(missing_ok=True)
        raise CheckpointError(
            f"{item.report.file.name}: what {item.source.page} sent is not what was published there (its size or "
            "checksum differs). It was thrown away; run it again."
        )
    if item.report.path == item.target:
        os.replace(item.target, item.target.with_name(f"{item.target.name}.damaged"))
    os.replace(item.partial, item.target)
    for outdated in item.target.parent.glob(f".{item.target.name}.*{PARTIAL}"):
        outdated.unlink(missing_ok=True)


def _read_partial(item: _Item, digest: Any, hooks: Hooks) -> int:
    """Feed `digest` what is there already; returns its size in bytes."""
    there, done = item.done, 0
    if there:
        with item.partial.open("rb") as file:
            while done < there and (block := file.read(min(RANGE_BYTES, there - done))):
                hooks.check()
                digest.update(block)
                done += len(block)
    return done
