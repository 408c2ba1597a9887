"""Templates as a person opens them: in the template browser of the real page, one after another."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfyui.workflows import TEMPLATES

PACK = "talking-faces"
"""The pack's folder on the server of these tests, which the page shows as the category."""

CHOSEN = (
    "dice_talk/unet.pth",
    "dice_talk/Sonic/unet.pth",
    "checkpoints/svd_xt.safetensors",
    "upscale_models/RealESRGAN_x4plus.safetensors",
    "upscale_models/GFPGANv1.4.pth",
)
REPORTED = '() => document.querySelectorAll(\'[data-testid="error-overlay"], [role="dialog"]\').length'
SHOWN = """() => ({
    name: app.extensionManager.workflow.activeWorkflow?.filename,
    types: app.graph.nodes.map(node => [String(node.id), node.type, node.has_errors === true]),
    unknown: app.graph.nodes.filter(node => !(node.type in LiteGraph.registered_node_types)).map(node => node.type),
})"""


@pytest.fixture(scope="module")
def model_files(server_url: str, server_base: Path | None) -> Iterator[None]:
    """Files of the names that templates choose: the page looks at names alone."""
    if server_base is None:
        pytest.skip("the server of COMFYUI_URL has models of its own")
    files = [server_base / "models" / name for name in CHOSEN]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    yield
    for file in files:
        file.unlink()


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "nodes2"])
def page(request: pytest.FixtureRequest, open_editor: Any, model_files: None) -> Any:
    """A page of its own, in either way of drawing nodes, where every file that the templates choose is there."""
    editor = open_editor(nodes2=request.param)
    editor.page.set_viewport_size({"width": 1600, "height": 1000})
    yield editor.page
    editor.page.close()


def open_browser(page: Any) -> None:
    """Show the pack's templates."""
    page.get_by_role("button", name="Templates").first.click()
    page.get_by_test_id("template-workflows-content").wait_for()
    page.get_by_text(PACK, exact=True).first.click()
    page.get_by_test_id(f"template-workflow-{TEMPLATES[0].stem}").wait_for()


def test_the_browser_shows_every_template_with_its_picture(page: Any) -> None:
    open_browser(page)
    for template in TEMPLATES:
        picture = page.get_by_test_id(f"template-workflow-{template.stem}").locator("img").first
        picture.scroll_into_view_if_needed()
        picture.wait_for()
        page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=picture.element_handle())
        assert picture.evaluate("image => image.naturalWidth") == 512, template.stem
    page.keyboard.press("Escape")


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_a_click_opens_the_template(page: Any, template: Path) -> None:
    open_browser(page)
    page.get_by_test_id(f"template-workflow-{template.stem}").click()
    page.get_by_test_id("template-workflows-content").wait_for(state="detached")
    saved = {str(node["id"]): node["type"] for node in json.loads(template.read_text(encoding="utf-8"))["nodes"]}
    page.wait_for_function("ids => ids.every(id => app.graph.getNodeById(Number(id)))", arg=list(saved))
    shown = page.evaluate(SHOWN)
    assert {number: kind for number, kind, _ in shown["types"]} == saved
    assert shown["unknown"] == []
    assert page.evaluate(REPORTED) == 0, page.inner_text("body")[-2000:]
