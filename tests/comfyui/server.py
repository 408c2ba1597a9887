"""A real ComfyUI in a process of its own, and what a browser says to it."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import websocket

ROOT = Path(__file__).parents[2]
PACK_FOLDER = "dice-talk.2"
"""No Python name: the pack must work under any. (With a space in it ComfyUI serves no scripts out of the folder.)"""

START_SECONDS = 180
RUN_SECONDS = 300
PREVIEW_IMAGE, PREVIEW_WITH_METADATA = 1, 4


def find_comfyui() -> Path | None:
    """``COMFYUI_PATH``, or ``comfyui`` beside the project; none if there is no such installation."""
    folder = Path(os.environ.get("COMFYUI_PATH") or ROOT.parent / "comfyui")
    return folder.resolve() if (folder / "main.py").is_file() and interpreter(folder).is_file() else None


def interpreter(comfyui: Path) -> Path:
    """The Python that ComfyUI runs on."""
    return comfyui / ".venv" / "bin" / "python"


@dataclass
class Run:
    """The server's report on one prompt.

    Args:
        prompt_id: of the prompt.
        executed: nodes that ran, in order, as class names.
        cached: nodes that did not need to.
        progress: value and maximum of each step of a bar, with the node's class name.
        previews: pictures that were shown meanwhile (JPEG or PNG).
        outputs: what nodes sent to the screen, by node id.
        error: message of what went wrong, with the type of the exception, or none.
        interrupted: whether it was cancelled.
    """

    prompt_id: str
    executed: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    progress: list[tuple[str, int, int]] = field(default_factory=list)
    previews: list[bytes] = field(default_factory=list)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    error: str | None = None
    interrupted: bool = False


class Server:
    """One ComfyUI with the pack linked into its own base directory. Use as a context manager.

    Args:
        comfyui: where ComfyUI is installed.
        base: its base directory for models, input, output and user files; made here.
        options: further options, for example ``--novram``.
    """

    def __init__(self, comfyui: Path, base: Path, *options: str):
        self.comfyui, self.base, self.options = comfyui, base, options
        self.log = base / "server.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        for name in ("custom_nodes", "models/dice_talk", "models/checkpoints", "input", "output", "user", "temp"):
            (base / name).mkdir(parents=True, exist_ok=True)
        link = base / "custom_nodes" / PACK_FOLDER
        if not link.exists():
            link.symlink_to(ROOT, target_is_directory=True)

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the process and wait until it answers."""
        self.port = _free_port()
        command = [str(interpreter(self.comfyui)), str(self.comfyui / "main.py"), "--cpu", "--listen", "127.0.0.1"]
        command += ["--port", str(self.port), "--base-directory", str(self.base), "--disable-auto-launch"]
        command += ["--disable-api-nodes", "--database-url", f"sqlite:///{self.base / 'user' / 'comfyui.db'}"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.options], stdout=log, stderr=subprocess.STDOUT, cwd=self.base, start_new_session=True
            )
        limit = time.monotonic() + START_SECONDS
        while time.monotonic() < limit:
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI stopped while starting:\n{self.log_text()[-3000:]}")
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.3)
        raise TimeoutError(f"ComfyUI did not answer:\n{self.log_text()[-3000:]}")

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def get(self, path: str) -> Any:
        """A JSON answer."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, value: Any) -> Any:
        """Send JSON; the answer as JSON, whatever its status, or none if it is empty."""
        body = json.dumps(value).encode()
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            content = error.read()
        return json.loads(content) if content else None

    def file(self, shown: dict[str, str]) -> Path:
        """The file that a node has shown or saved."""
        return self.base / shown["type"] / shown["subfolder"] / shown["filename"]

    def run(
        self,
        prompt: dict[str, dict[str, Any]],
        watch: Callable[["Server", Run, dict[str, Any]], None] | None = None,
        **extra: Any,
    ) -> Run:
        """Queue `prompt` and listen until it has ended.

        Args:
            prompt: nodes by id, in the API's form.
            watch: called with every message; may cancel.
            extra: the prompt's extra data, for example ``preview_method``.
        """
        client = uuid.uuid4().hex
        listener = websocket.create_connection(f"ws://127.0.0.1:{self.port}/ws?clientId={client}", timeout=RUN_SECONDS)
        try:
            # Without this the server sends previews in an older form, which carries no metadata.
            listener.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
            answer = self.post("/prompt", {"prompt": prompt, "client_id": client, "extra_data": extra})
            if "prompt_id" not in answer:
                return Run("", error=json.dumps(answer))
            run = Run(answer["prompt_id"])
            for message in _messages(listener, run):
                ended = _note(run, message, prompt)
                if watch is not None:
                    watch(self, run, message)
                if ended:
                    return run
            raise ConnectionError("the server closed the connection")
        finally:
            listener.close()


def _messages(listener: websocket.WebSocket, run: Run) -> Iterator[dict[str, Any]]:
    while True:
        message = listener.recv()
        if not message:
            return
        if isinstance(message, bytes):
            kind = int.from_bytes(message[:4], "big")
            if kind == PREVIEW_IMAGE:
                run.previews.append(message[8:])
            elif kind == PREVIEW_WITH_METADATA:
                run.previews.append(message[8 + int.from_bytes(message[4:8], "big") :])
            continue
        yield json.loads(message)


def _note(run: Run, message: dict[str, Any], prompt: dict[str, dict[str, Any]]) -> bool:
    """Write a message down; true for the last one of the run."""
    kind, data = message["type"], message["data"]
    if data.get("prompt_id") != run.prompt_id:
        return False

    def name(node: str) -> str:
        return prompt[node]["class_type"] if node in prompt else node

    if kind == "executing" and data["node"] is not None:
        run.executed.append(name(data["node"]))
    elif kind == "execution_cached":
        run.cached += [name(node) for node in data["nodes"]]
    elif kind == "progress":
        run.progress.append((name(data["node"]), data["value"], data["max"]))
    elif kind == "executed":
        run.outputs[data["node"]] = data["output"]
    elif kind == "execution_error":
        run.error = f"{data['exception_type']}: {data['exception_message']}"
        return True
    elif kind == "execution_interrupted":
        run.interrupted = True
        return True
    return kind == "execution_success"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
