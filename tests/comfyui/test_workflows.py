"""Every shipped workflow runs."""

import json
from pathlib import Path
from typing import Any

import pytest
from comfyui.media import probe
from comfyui.prompts import SPEECH_SECONDS, reduced
from comfyui.server import Server
from comfyui.workflows import TEMPLATES, api_path, api_text, to_prompt


@pytest.mark.parametrize("workflow", TEMPLATES, ids=lambda path: path.stem)
def test_a_workflow_makes_its_video(server: Server, object_info: dict[str, Any], workflow: Path) -> None:
    prompt = to_prompt(workflow, object_info)
    assert api_text(prompt) == api_path(workflow).read_text(encoding="utf-8"), "run tests/comfyui/refresh_templates.py"
    prompt = reduced(prompt)
    run = server.run(prompt)
    assert run.error is None, run.error
    (saved,) = [output["images"][0] for output in run.outputs.values() if output.get("animated") == [True]]
    video = probe(server.file(saved))
    assert abs(video.seconds - SPEECH_SECONDS) <= 1 / video.fps
    assert video.loudest > 0.01


def test_links_and_models_of_workflows_are_whole() -> None:
    for workflow in TEMPLATES:
        saved = json.loads(workflow.read_text())
        nodes = {each["id"]: each for each in saved["nodes"]}
        for number, source, slot, target, port, kind in saved["links"]:
            assert number in nodes[source]["outputs"][slot]["links"], workflow
            assert nodes[target]["inputs"][port]["link"] == number, workflow
            assert kind == nodes[source]["outputs"][slot]["type"], workflow
        loader = next(each for each in nodes.values() if each["type"] == "DICETalk_LoadModel")
        if loader["widgets_values"][0] != "tiny":
            named = {model["name"] for model in loader["properties"]["models"]}
            assert {loader["widgets_values"][0], "svd_xt.safetensors"} <= named


def test_the_quickstart_has_no_notice_of_what_its_model_lacks(server: Server, object_info: dict[str, Any]) -> None:
    quickstart = next(template for template in TEMPLATES if template.stem == "quickstart")
    prompt = reduced(to_prompt(quickstart, object_info))
    notice = "no frame interpolation"
    before = server.log_text().count(notice)
    sampler = next(each for each in prompt.values() if each["class_type"] == "DICETalk_Sampler")
    for asked in (False, True):
        sampler["inputs"]["seed"] = 10 + asked
        assert asked or sampler["inputs"]["interpolate"] is False
        sampler["inputs"]["interpolate"] = asked
        assert server.run(prompt).error is None
        assert server.log_text().count(notice) == before + asked
