"""The shipped workflows in the browser give what the server's tests run."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from comfyui.workflows import TEMPLATES, to_prompt

LOADED = "() => window.app?.graph && window.LiteGraph?.registered_node_types?.['DICETalk_LoadModel']"
PROMPT = "async saved => { await app.loadGraphData(saved); return (await app.graphToPrompt()).output }"


@pytest.fixture(scope="module")
def page(browser: Any, server_url: str) -> Any:
    """The editor."""
    page = browser.new_page()
    page.goto(server_url, timeout=120_000)
    page.wait_for_function(LOADED, timeout=120_000)
    yield page
    page.close()


@pytest.mark.parametrize("workflow", TEMPLATES, ids=lambda path: path.stem)
def test_a_workflow_asks_for_the_same_in_the_browser(page: Any, server_url: str, workflow: Path) -> None:
    with urllib.request.urlopen(f"{server_url}/object_info") as answer:
        known = json.load(answer)
    expected = to_prompt(workflow, known)
    asked = page.evaluate(PROMPT, json.loads(workflow.read_text()))
    assert {number: node["class_type"] for number, node in asked.items()} == {
        number: node["class_type"] for number, node in expected.items()
    }
    for number, node in expected.items():
        # The page also sends its own preview of a video, which the server does not declare.
        declared = {name for part in known[node["class_type"]]["input"].values() for name in part}
        sent = {name: value for name, value in asked[number]["inputs"].items() if name.split(".")[0] in declared}
        assert sent == node["inputs"], node["class_type"]
