"""A real ComfyUI with the pack, seen through Debian's Chromium.

Needed: what tests/comfyui needs, ``chromium`` on the path and Playwright for Python; the tests are skipped where one is
not there.
``COMFYUI_URL`` names a server that already runs with the pack and the example files, instead of starting one.
"""

import json
import os
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_models import write_small_model

ROOT = Path(__file__).parents[2]
PAD, TIMELINE = "DICETalk_EmotionBankMix", "DICETalk_EmotionTimeline"


@pytest.fixture(scope="session")
def server_base(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Base directory of the server that is started here, or `None` if another is used."""
    return None if os.environ.get("COMFYUI_URL") else tmp_path_factory.mktemp("comfyui")


@pytest.fixture(scope="session")
def server_url(server_base: Path | None) -> Iterator[str]:
    """Address of a ComfyUI with the pack, small random models, the example picture and the example speech."""
    if url := os.environ.get("COMFYUI_URL"):
        yield url.rstrip("/")
        return
    pytest.importorskip("websocket", reason="No websocket-client, which the server's tests need.")
    from comfyui.server import Server, find_comfyui

    comfyui = find_comfyui()
    if comfyui is None:
        pytest.skip("No ComfyUI: set COMFYUI_PATH, or put one with its own .venv beside the project as comfyui.")
    base = server_base
    write_small_model(base / "models" / "dice_talk")
    (base / "input").mkdir()
    for name in ("portrait.jpg", "speech.wav"):
        shutil.copy(ROOT / "examples" / name, base / "input" / name)
    with pytest.MonkeyPatch.context() as patch:
        # ComfyUI's own server finds no files for the browser under a name with a space in it.
        patch.setattr("comfyui.server.PACK_FOLDER", "talking-faces")
        server = Server(comfyui, base)
    with server:
        yield server.url


@pytest.fixture(scope="session")
def node_definitions(server_url: str) -> dict[str, Any]:
    """What the server says of the pack's nodes, by id."""
    with urllib.request.urlopen(f"{server_url}/object_info") as answer:
        return {name: node for name, node in json.load(answer).items() if name.startswith("DICETalk_")}


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="No Playwright: pip install playwright.")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("No chromium on the path: apt-get install chromium.")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


class Editor:
    """ComfyUI's editor in a page, driven as a person would where that is what is tested."""

    def __init__(self, browser: Any, url: str, *, nodes2: bool = False, theme: str = "dark", locale: str = "en"):
        settings = {
            "Comfy.VueNodes.Enabled": nodes2,
            "Comfy.ColorPalette": theme,
            "Comfy.Locale": locale,
            "Comfy.TutorialCompleted": True,
            "Comfy.Minimap.Visible": False,
            "Comfy.Graph.CanvasInfo": False,
            "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
            "Comfy.InstalledVersion": "1.49.6",
        }
        for name, value in settings.items():
            request = urllib.request.Request(
                f"{url}/api/settings/{name}", json.dumps(value).encode(), {"Content-Type": "application/json"}
            )
            urllib.request.urlopen(request).close()
        self.page = browser.new_page(viewport={"width": 1200, "height": 1000})
        self.page.set_default_timeout(60_000)
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(url)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Until nodes can be made."""
        self.page.wait_for_function(
            "() => window.app?.graph && window.LiteGraph?.registered_node_types?.['DICETalk_EmotionTimeline']"
        )

    def load(self, *nodes: dict[str, Any], scale: float = 1.0) -> None:
        """Show a workflow of these nodes alone."""
        self.page.mouse.move(1190, 990)
        self.page.evaluate("graph => app.loadGraphData(graph)", {"nodes": list(nodes), "links": [], "version": 0.4})
        self.view(scale)
        self.page.wait_for_function("n => document.querySelectorAll('.dicetalk').length >= n", arg=len(nodes))
        self.settle()

    def view(self, scale: float) -> None:
        """Zoom, with the graph's origin a little inside the window."""
        self.page.evaluate(
            """scale => {
                Object.assign(app.canvas.ds, { scale, offset: [70 / scale, 110 / scale] });
                app.canvas.setDirty(true, true);
            }""",
            scale,
        )
        self.settle()

    def settle(self) -> None:
        """Until what was asked for is drawn."""
        self.page.evaluate(
            "() => new Promise(done => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done)), 80))"
        )

    def value(self, node_id: int = 1) -> Any:
        """The custom widget's value, parsed."""
        return json.loads(self.text(node_id))

    def text(self, node_id: int = 1) -> str:
        """The custom widget's value as the graph keeps it."""
        return self.page.evaluate(
            "id => app.graph.getNodeById(id).widgets.find(w => w.type.startsWith('DICETALK_')).value", node_id
        )

    def run_reported(self, output: dict[str, Any], node_id: int = 1) -> None:
        """As if the server had said that a run of the node gave this."""
        self.page.evaluate(
            """([id, output]) => app.api.dispatchCustomEvent(
                "executed", { node: id, display_node: id, output, prompt_id: "" })""",
            [str(node_id), output],
        )
        self.settle()


@pytest.fixture(scope="session")
def node() -> Any:
    """Makes a node of a workflow file: ``node(kind, text)`` with the custom widget's text."""

    def make(
        kind: str, text: Any, node_id: int = 1, pos: tuple[int, int] = (0, 0), values: Any = None
    ) -> dict[str, Any]:
        defaults = [text, 1.0, 1.0, 0.0, 0, "fixed"] if kind == PAD else [text]
        return {
            "id": node_id,
            "type": kind,
            "pos": list(pos),
            "size": [400, 560] if kind == PAD else [560, 480],
            "flags": {},
            "order": node_id,
            "mode": 0,
            "properties": {},
            "widgets_values": defaults if values is None else values,
        }

    return make


@pytest.fixture(scope="session", params=[False, True], ids=["classic", "nodes2"])
def editor(request: pytest.FixtureRequest, browser: Any, server_url: str) -> Iterator[Editor]:
    """One page for all tests of a mode; a test begins with ``load``."""
    editor = Editor(browser, server_url, nodes2=request.param)
    yield editor
    editor.page.close()


@pytest.fixture(scope="session")
def open_editor(browser: Any, server_url: str) -> Any:
    """Opens a page of its own: ``open_editor(nodes2=, theme=, locale=)``."""
    return lambda **options: Editor(browser, server_url, **options)
