"""What the page says where a template's model files are missing, and what only the template's note can say.

The page compares the values of lists that look like model files with the files that are there. Priors and Whisper are
no values of a list, so that the note beside the nodes has every file with its address.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from comfyui.workflows import TEMPLATES

CHOSEN = ("unet.pth", "svd_xt.safetensors")
TEMPLATE = next(path for path in TEMPLATES if path.stem == "portrait_to_talking_video")


def wanted() -> list[dict[str, str]]:
    nodes = json.loads(TEMPLATE.read_text(encoding="utf-8"))["nodes"]
    return [model for node in nodes for model in node.get("properties", {}).get("models", [])]


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "nodes2"])
def page(request: pytest.FixtureRequest, open_editor: Any, server_base: Path | None) -> Any:
    if server_base is None:
        pytest.skip("the server of COMFYUI_URL has models of its own")
    assert not [path for path in (server_base / "models").rglob("*") if path.name in CHOSEN]
    editor = open_editor(nodes2=request.param)
    editor.page.set_viewport_size({"width": 1600, "height": 1000})
    yield editor.page
    editor.page.close()


def test_the_page_names_the_files_that_are_missing(page: Any) -> None:
    page.evaluate(
        "workflow => app.loadGraphData(workflow, true, true)", json.loads(TEMPLATE.read_text(encoding="utf-8"))
    )
    page.get_by_test_id("error-overlay").or_(page.get_by_role("dialog")).first.wait_for()
    page.get_by_role("button", name="View details").first.click()
    for name in CHOSEN:
        # The note's links name the files as well.
        page.locator(f":not(a):visible:text('{name}')").first.wait_for()


def test_the_note_links_every_file(page: Any) -> None:
    note = next(
        node for node in json.loads(TEMPLATE.read_text(encoding="utf-8"))["nodes"] if node["type"] == "MarkdownNote"
    )
    models = wanted()
    assert {"neutral.npy", "model.safetensors", "flownet.pkl", *CHOSEN} <= {model["name"] for model in models}
    for model in models:
        assert f"[{model['name']}]({model['url']})" in note["widgets_values"][0]
    shown = page.evaluate("() => app.graph.nodes.find(node => node.type === 'MarkdownNote').widgets[0].value")
    assert shown == note["widgets_values"][0]
