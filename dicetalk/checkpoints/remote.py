"""Published files over the network: sizes and checksums of a repository's files, and their content by ranges.

The hub's own ``hf_hub_download`` keeps nothing of a broken download in its newer versions (2.x delete the partial
file), so its file system is read in ranges, which also allows to report progress and to cancel.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from dicetalk.checkpoints.files import ModelFile
from dicetalk.checkpoints.sources import Host, Repository

TIMEOUT_SECONDS = 60

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Args:
        path: what its host reads it by.
        bytes: exact size.
        sha256: of its content, or `None`.
        blob: git's object name of its content, for small files of which the hub keeps no SHA-256, or `None`.
    """

    path: str
    bytes: int
    sha256: str | None = None
    blob: str | None = None

    @property
    def checksum(self) -> str | None:
        """The expected result of :meth:`digest` in hexadecimal, or `None` where none is known."""
        return self.sha256 or self.blob

    def digest(self) -> Any:
        """A new hash object, to be fed the content."""
        if self.sha256 is None and self.blob is not None:
            return hashlib.sha1(b"blob %d\0" % self.bytes, usedforsecurity=False)
        return hashlib.sha256()


class Remote(Protocol):
    """Files of one repository at one revision."""

    revision: str

    def find(self, file: ModelFile) -> RemoteFile | None:
        """The published `file`, or `None` if the repository has none."""
        ...

    def read(self, remote: RemoteFile, start: int, size: int) -> bytes:
        """At most `size` bytes of `remote` from byte `start` on."""
        ...


def open_repository(repository: Repository, token: str | None = None) -> Remote:
    """Connect to `repository`.

    Whatever the HTTP library of the hub raises passes through, here and in the methods of what is returned:
    that library has changed between releases. :func:`explain` makes a message of it.
    """
    return GitHubFiles(repository) if repository.host is Host.GITHUB else HubFiles(repository, token)


class HubFiles:
    """A repository of the Hugging Face hub. Its host is the hub's own setting (``HF_ENDPOINT``).

    A branch is resolved to its newest commit once, so that all files are of one version.
    """

    def __init__(self, repository: Repository, token: str | None = None):
        from huggingface_hub import HfApi, HfFileSystem

        info = HfApi(token=token).model_info(repository.name, revision=repository.revision)
        self.revision = info.sha or repository.revision
        self.hub = HfFileSystem(token=token)
        self.root = f"{repository.name}@{self.revision}"
        self.listed = self.hub.find(self.root, detail=True, refresh=True)
        self.pinned = _COMMIT.fullmatch(repository.revision) is not None

    def find(self, file: ModelFile) -> RemoteFile | None:
        """Name, size and checksum of `file` at the pinned revision; `None` if it is not there."""
        path = f"{self.root}/{file.remote}"
        if path not in self.listed:
            # A branch may be laid out anew; its only file of that name is the same one.
            path = "" if self.pinned else _only(name for name in self.listed if _name(name) == _name(file.remote))
        if not path:
            return None
        info = self.listed[path]
        return RemoteFile(path, info["size"], (info.get("lfs") or {}).get("sha256"), info.get("blob_id"))

    def read(self, remote: RemoteFile, start: int, size: int) -> bytes:
        """Up to `size` bytes of a file from `start` on."""
        with self.hub.open(remote.path, "rb", cache_type="none") as file:
            file.seek(start)
            return file.read(min(size, remote.bytes - start))


class GitHubFiles:
    """A repository of GitHub, of which sizes and checksums are known beforehand."""

    def __init__(self, repository: Repository):
        self.revision = repository.revision

    def find(self, file: ModelFile) -> RemoteFile | None:
        """Address, size and checksum of `file` as they are known here; `None` for what has no address."""
        return None if file.url is None else RemoteFile(file.url, file.bytes, file.sha256)

    def read(self, remote: RemoteFile, start: int, size: int) -> bytes:
        """Up to `size` bytes of a file from `start` on."""
        from huggingface_hub.utils import get_session

        stop = min(start + size, remote.bytes)
        # A range of a compressed answer would be one of other bytes.
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        answer = get_session().get(remote.path, headers=headers, timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()
        return answer.content if answer.status_code == 206 else answer.content[start:stop]


def explain(repository: Repository, error: BaseException) -> str:
    """One line about a failure of the network or the host, with the way on."""
    chain: BaseException | None = error
    while chain is not None:
        if type(chain).__name__ == "GatedRepoError":
            return (
                f"{repository.name} asks to accept its licence: open {repository.page}, log in, accept, make a token "
                f"under settings/tokens and pass it with --token. ComfyUI's svd_xt.safetensors serves as well."
            )
        chain = chain.__cause__ or chain.__context__
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")
    return f"{repository.name}: {text}. Check the network and run it again; what was fetched is kept."


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _only(paths: Iterable[str]) -> str:
    found = list(paths)
    return found[0] if len(found) == 1 else ""
