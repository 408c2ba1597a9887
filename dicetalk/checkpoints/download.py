"""Fetches what a model folder lacks from the Hugging Face hub.

The hub's own ``hf_hub_download`` keeps nothing of a broken download in its newer versions (2.x delete the partial
file), and 3 GB are a lot to begin again. So the hub's file system is read in ranges: a download goes on where it
stopped, says how far it is, and can be cancelled.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicetalk.checkpoints.doctor import FileReport, inspect_model
from dicetalk.checkpoints.tiny import TINY
from dicetalk.config import FULL, ModelConfig
from dicetalk.errors import CheckpointError
from dicetalk.hooks import SILENT, Hooks

RANGE_BYTES = 32 << 20
MEGABYTE = 1_000_000
PARTIAL = ".part"


@dataclass(frozen=True)
class _Remote:
    """A file on the hub.

    Args:
        report: of the local file that it replaces or adds.
        path: on the hub's file system.
        bytes: its size.
        sha256: of its content, where the hub knows it.
    """

    report: FileReport
    path: str
    bytes: int
    sha256: str | None

    @property
    def version(self) -> str:
        """Goes into the partial file's name, so that two versions are never joined."""
        return (self.sha256 or str(self.bytes))[:12]


def download_model(
    folder: Path | str, hooks: Hooks = SILENT, token: str | None = None, config: ModelConfig = FULL
) -> None:
    """Fetch every file that is missing or damaged; a damaged one is kept as ``NAME.damaged``.

    Args:
        folder: the model folder; made if it is not there.
        hooks: progress of `download` in megabytes.
        token: Hugging Face token, for repositories that ask to accept a licence.
        config: sizes of the networks, to tell what is damaged.

    Raises:
        CheckpointError: `folder` is ``tiny``, something could not be fetched (all of it is named; the rest has been
            fetched), or there is no space.
        Cancelled: the caller asked to stop; the next call goes on from there.
    """
    from huggingface_hub import HfFileSystem

    if str(folder) == TINY:
        raise CheckpointError(f"{TINY} is the bundled model, of which nothing is fetched. Name a folder, as `models`.")
    folder = Path(folder)
    hub = HfFileSystem(token=token)
    wanted = [report for report in inspect_model(folder, config=config).files if report.state != "found"]
    problems, remotes = [], []
    for repo in dict.fromkeys(report.file.repo for report in wanted):
        reports = [report for report in wanted if report.file.repo == repo]
        if repo is None:
            problems += [f"{report.path} is damaged; delete it, or make it again." for report in reports if report.path]
            continue
        try:
            listed = hub.find(repo, detail=True, refresh=True)
        except Exception as error:  # the hub lets its HTTP library's errors through, and that library has changed
            problems.append(_explain(repo, error))
            continue
        absent: dict[str, list[str]] = {}
        for report in reports:
            remote = _find_remote(report, listed)
            if remote is not None:
                remotes.append(remote)
            elif report.path is not None or not report.file.optional:
                absent.setdefault(report.file.origin, []).append(report.file.name)
        problems += [f"{', '.join(names)}: not in {repo}; get it from {origin}." for origin, names in absent.items()]
    _check_space(folder, remotes)
    problems += _fetch_all(hub, folder, remotes, hooks)
    if problems:
        raise CheckpointError("\n".join(["Not everything could be fetched:", *(f"  {line}" for line in problems)]))


def _find_remote(report: FileReport, listed: dict[str, dict[str, Any]]) -> _Remote | None:
    """The listed file of the same name, in the folder that the release has it in if there are several."""
    name = Path(report.file.name).name
    hits = [path for path in listed if path.rpartition("/")[2] == name]
    tails = [f"/{place}" for place in (report.file.name, *report.file.places) if Path(place).name == name]
    hits.sort(key=lambda path: (not path.endswith(tuple(tails)), path.count("/"), path))
    if not hits:
        return None
    info = listed[hits[0]]
    return _Remote(report, hits[0], info["size"], (info.get("lfs") or {}).get("sha256"))


def _check_space(folder: Path, remotes: list[_Remote]) -> None:
    needed = sum(remote.bytes for remote in remotes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be used ({error.strerror}).") from error
    started = sum(path.stat().st_size for path in folder.rglob(f".*{PARTIAL}"))
    if needed > free + started:
        raise CheckpointError(
            f"{folder}: {needed / 1e9:.1f} GB are to be fetched and {free / 1e9:.1f} GB are free. "
            "Make space, or take another folder."
        )


def _fetch_all(hub: Any, folder: Path, remotes: list[_Remote], hooks: Hooks) -> list[str]:
    """Fetch `remotes`; returns what went wrong, at most once for each repository."""
    problems: dict[str | None, str] = {}
    total = sum(remote.bytes for remote in remotes)
    before = 0
    for remote in remotes:
        repo = remote.report.file.repo
        if repo in problems:
            continue
        try:
            _fetch(hub, remote, folder / remote.report.file.name, hooks, before, total)
        except OSError as error:
            reason = error.strerror or error
            raise CheckpointError(f"{folder} cannot be written ({reason}). What was fetched is kept.") from error
        except CheckpointError as error:
            problems[repo] = str(error)
        before += remote.bytes
    return list(problems.values())


def _fetch(hub: Any, remote: _Remote, target: Path, hooks: Hooks, before: int, total: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{remote.version}{PARTIAL}")
    done = partial.stat().st_size if partial.exists() else 0
    for content in _ranges(hub, remote, done, hooks):
        with partial.open("ab") as file:
            file.write(content)
        done += len(content)
        hooks.report("download", (before + done) // MEGABYTE, total // MEGABYTE)
    if done != remote.bytes or (remote.sha256 and _sha256(partial) != remote.sha256):
        partial.unlink(missing_ok=True)
        raise CheckpointError(f"{remote.path}: the download is not what the hub announced. Run it again.")
    damaged = remote.report.path
    if damaged is not None and damaged.name == target.name:
        os.replace(damaged, damaged.with_name(f"{damaged.name}.damaged"))
    os.replace(partial, target)


def _ranges(hub: Any, remote: _Remote, start: int, hooks: Hooks) -> Iterator[bytes]:
    """The content of `remote` from byte `start` on."""
    while start < remote.bytes:
        hooks.check()
        try:
            with hub.open(remote.path, "rb", cache_type="none") as file:
                file.seek(start)
                content = file.read(min(RANGE_BYTES, remote.bytes - start))
        except Exception as error:
            raise CheckpointError(_explain(remote.report.file.repo, error)) from error
        if not content:
            return
        start += len(content)
        yield content


def _explain(repo: str | None, error: BaseException) -> str:
    """One line about a failure of the hub, with the way on."""
    chain: BaseException | None = error
    while chain is not None:
        if type(chain).__name__ == "GatedRepoError":
            return (
                f"{repo} asks to accept its licence: open https://huggingface.co/{repo}, log in, accept, make a token "
                f"under settings/tokens and pass it with --token. ComfyUI's svd_xt.safetensors serves as well."
            )
        chain = chain.__cause__ or chain.__context__
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")
    return f"{repo}: {text}. Check the network and run it again; what was fetched is kept."


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
