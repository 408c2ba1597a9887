"""A local server that publishes what the model's real repositories publish, under the addresses of both hosts.

Names are those of the public listings; bodies are small. The hub's addresses are those that ``huggingface_hub``
asks for (``/api/models/...``, and ``/OWNER/NAME/resolve/...`` with a redirect to where large files lie), GitHub's those
of its raw files, so that the real clients run against it.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import torch
from released_files import SMALL, SMALL_SONIC, write_networks, write_released
from torch import nn

from dicetalk.checkpoints import files, sources
from dicetalk.checkpoints.variants import SONIC
from dicetalk.config import ModelConfig
from dicetalk.emotion.prior import PRESET_NAMES

DICE_COMMIT = "d1ce" * 10
"""Newest commit of the branch of the repositories that are not pinned."""

DICE_LISTING = (
    ".gitattributes",
    "README.md",
    "DICE-Talk/audio_linear.pth",
    "DICE-Talk/emo_model.pth",
    "DICE-Talk/pose_guider.pth",
    "DICE-Talk/unet.pth",
    "RIFE/flownet.pkl",
    "yoloface_v5m.pt",
)
SONIC_LISTING = (
    ".gitattributes",
    "README.md",
    "RIFE/flownet.pkl",
    "Sonic/audio2bucket.pth",
    "Sonic/audio2token.pth",
    "Sonic/unet.pth",
    "yoloface_v5m.pt",
)
WHISPER_LISTING = (
    ".gitattributes",
    "README.md",
    "added_tokens.json",
    "config.json",
    "flax_model.msgpack",
    "generation_config.json",
    "merges.txt",
    "model.safetensors",
    "normalizer.json",
    "preprocessor_config.json",
    "pytorch_model.bin",
    "special_tokens_map.json",
    "tf_model.h5",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
)
SVD_LISTING = (
    ".gitattributes",
    "LICENSE.md",
    "README.md",
    "comparison.png",
    "feature_extractor/preprocessor_config.json",
    "image_encoder/config.json",
    "image_encoder/model.fp16.safetensors",
    "image_encoder/model.safetensors",
    "model_index.json",
    "output_tile.gif",
    "scheduler/scheduler_config.json",
    "svd_xt.safetensors",
    "svd_xt_image_decoder.safetensors",
    "unet/config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.fp16.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
)
PROGRAM_LISTING = (
    "LICENSE",
    "README.md",
    "config/inference/dice_talk.yaml",
    "requirements.txt",
    *(f"examples/emo/{emotion}.npy" for emotion in PRESET_NAMES),
)

LARGE = (".pth", ".pkl", ".pt", ".safetensors", ".bin", ".msgpack", ".h5", ".gif", ".png")
"""Kept outside git, with a SHA-256."""

Action = Callable[["Request"], None]


@dataclass
class Request:
    """One request for a part of a file.

    Args:
        repository: ``owner/name``.
        path: in it.
        start: first byte.
        size: number of bytes.
        token: that came with it.
    """

    repository: str
    path: str
    start: int
    size: int
    token: str | None = None


class Refused(Exception):
    """Answer with a status; raised by a fault of the server.

    Args:
        status: HTTP status.
        code: the hub's name of the error.
    """

    def __init__(self, status: int, code: str = ""):
        super().__init__(status)
        self.status, self.code = status, code


class CutOff(Exception):
    """Break the connection after `sent` bytes of the answer's body."""

    def __init__(self, sent: int):
        super().__init__(sent)
        self.sent = sent


@dataclass
class FakeHub:
    """What is published, what was asked, and what goes wrong.

    Args:
        content: file by repository, revision and path.
        requests: every request for a part of a file, in order.
        listings: ``repository@revision`` of every listing that was asked for.
        fault: called once for each request for a part of a file; raises :class:`Refused` or :class:`CutOff`, or waits.
        closed: repositories whose listing is refused.
    """

    content: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    listings: list[str] = field(default_factory=list)
    fault: Action = lambda request: None
    closed: dict[str, Refused] = field(default_factory=dict)
    url: str = ""

    def publish(self, repository: sources.Repository, content: dict[str, bytes]) -> None:
        """Publish `content` at the pinned commit of `repository`."""
        revision = DICE_COMMIT if repository.revision == "main" else repository.revision
        self.content[repository.name, revision] = content

    def files(self, repository: sources.Repository) -> dict[str, bytes]:
        """What `repository` publishes, to be changed."""
        return next(files for (name, _), files in self.content.items() if name == repository.name)

    def asked(self) -> set[str]:
        """Paths of all files of which something was asked."""
        return {request.path for request in self.requests}


def published(folder: Path, config: ModelConfig = SMALL, detector: nn.Module | None = None) -> FakeHub:
    """A hub with exactly the public listings; what the model reads has a small body of the right form.

    Args:
        folder: scratch folder.
        config: sizes of the networks.
        detector: what is saved by TorchScript as the detector.
    """
    write_released(folder, config)
    write_networks(folder, SMALL_SONIC, SONIC)
    torch.jit.script(detector or SmallDetector()).save(folder / "yoloface_v5m.pt")
    made = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    hub = FakeHub()
    for repository, listing, prefixes in (
        (sources.DICE, DICE_LISTING, {"DICE-Talk/": "", "": ""}),
        (sources.SONIC, SONIC_LISTING, {"": ""}),
        (sources.WHISPER, WHISPER_LISTING, {"": "whisper-tiny/"}),
        (sources.SVD, SVD_LISTING, {"": "stable-video-diffusion-img2vid-xt/"}),
        (sources.PROGRAM, PROGRAM_LISTING, {"examples/emo/": "emotion/"}),
    ):
        content = {}
        for name in listing:
            prefix = next((p for p in prefixes if name.startswith(p)), None)
            local = "" if prefix is None else prefixes[prefix] + name.removeprefix(prefix)
            content[name] = made.get(local, f"{repository.name}: {name}\n".encode())
        hub.publish(repository, content)
    return hub


class SmallDetector(nn.Module):
    """A detector of the released form: pictures to rows of 16 numbers. It sees one face in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        height, width = float(pixels.shape[2]), float(pixels.shape[3])
        seen = torch.sigmoid(self.norm(self.first(pixels))).mean() * 0.0
        row = torch.zeros([1, 1, 16], dtype=pixels.dtype) + seen
        row[:, :, 0] += width / 2
        row[:, :, 1] += height / 2
        row[:, :, 2] += width / 2
        row[:, :, 3] += height / 2
        row[:, :, 4] += 1.0
        row[:, :, 15] += 1.0
        return row


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve `hub` on a free port of this machine; its address is ``hub.url``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def point_clients_at(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the real clients of this process ask `hub`; they do not wait between repeated requests.

    The priors' checksums become those of the bodies that `hub` publishes at this moment.
    """
    import huggingface_hub
    from huggingface_hub import constants

    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)  # made of the address when it is imported
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(sources, "GITHUB_RAW", f"{hub.url}/raw")
    for prior in files.PRIORS.values():
        body = hub.files(sources.PROGRAM)[prior.remote]
        for name, value in (("bytes", len(body)), ("sha256", hashlib.sha256(body).hexdigest())):
            monkeypatch.setitem(vars(prior), name, value)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    huggingface_hub.HfFileSystem.clear_instance_cache()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        sent = parse_qs(address.query).get("sent")
        parts = unquote(address.path).lstrip("/").split("/")
        try:
            if parts[:2] == ["api", "models"] and len(parts) >= 6:
                self._list("/".join(parts[2:4]), parts[4], parts[5])
            elif parts[2:3] == ["resolve"]:
                self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
            elif parts[0] == "raw":
                self._raw("/".join(parts[1:3]), parts[3], "/".join(parts[4:]))
            elif parts[0] == "large":
                self._part(
                    self._body("/".join(parts[1:3]), parts[3], "/".join(parts[4:])), int(sent[0]) if sent else None
                )
            else:
                raise Refused(404)
        except Refused as refused:
            headers = {"X-Error-Code": refused.code} if refused.code else {}
            self._send(refused.status, b'{"error": "refused"}', headers)

    do_HEAD = do_GET

    def _list(self, repository: str, kind: str, revision: str) -> None:
        if repository in self.hub.closed:
            raise self.hub.closed[repository]
        commit = self._commit(repository, revision)
        if kind == "revision":
            self._json({"_id": "0", "id": repository, "sha": commit, "siblings": []})
        elif kind == "tree":
            self.hub.listings.append(f"{repository}@{revision}")
            self._json([_entry(name, body) for name, body in self.hub.content[repository, commit].items()])
        else:
            raise Refused(404)

    def _commit(self, repository: str, revision: str) -> str:
        if (repository, revision) in self.hub.content:
            return revision
        if revision == "main" and (repository, DICE_COMMIT) in self.hub.content:
            return DICE_COMMIT
        raise Refused(404, "RevisionNotFound")

    def _resolve(self, repository: str, revision: str, path: str) -> None:
        """The hub's own address of a file: a small one is sent, for a large one the client is sent elsewhere."""
        sent = self._asked(repository, path, len(self._body(repository, revision, path)))
        if path.endswith(LARGE):
            query = "" if sent is None else f"?sent={sent}"
            self._send(302, b"", {"Location": f"/large/{repository}/{revision}/{path}{query}"})
        else:
            self._part(self._body(repository, revision, path), sent)

    def _raw(self, repository: str, revision: str, path: str) -> None:
        sent = self._asked(repository, path, len(self._body(repository, revision, path)))
        self._part(self._body(repository, revision, path), sent)

    def _asked(self, repository: str, path: str, size: int) -> int | None:
        """Note the request, and let the fault act; returns after how many bytes the connection is to break."""
        start, stop = _range(self.headers.get("Range"), size)
        request = Request(repository, path, start, stop - start, self.headers.get("Authorization"))
        self.hub.requests.append(request)
        try:
            self.hub.fault(request)
        except CutOff as cut:
            return cut.sent
        return None

    def _body(self, repository: str, revision: str, path: str) -> bytes:
        body = self.hub.content.get((repository, self._commit(repository, revision)), {}).get(path)
        if body is None:
            raise Refused(404, "EntryNotFound")
        return body

    def _part(self, body: bytes, sent: int | None) -> None:
        start, stop = _range(self.headers.get("Range"), len(body))
        headers = {"Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"} if "Range" in self.headers else {}
        self._send(206 if headers else 200, body[start:stop], headers, sent)

    def _json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str], sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:sent])
        if sent is not None:
            self.wfile.flush()
            self.close_connection = True


def _entry(name: str, body: bytes) -> dict[str, object]:
    blob = hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()
    entry: dict[str, object] = {"type": "file", "oid": blob, "size": len(body), "path": name}
    if name.endswith(LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 130}
    return entry


def _range(header: str | None, size: int) -> tuple[int, int]:
    if header is None:
        return 0, size
    first, _, last = header.removeprefix("bytes=").partition("-")
    return int(first), min(int(last) + 1, size) if last else size
