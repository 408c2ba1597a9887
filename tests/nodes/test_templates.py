"""Templates agree with the table of model files, and what they hold is whole."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from comfyui.template_files import completed, model_entries
from comfyui.workflows import TEMPLATES

from dicetalk.checkpoints.files import WHISPER, WHISPER_CONFIG
from dicetalk.checkpoints.variants import RELEASED, Variant


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_names_the_files_of_the_table(template: Path) -> None:
    assert template.read_text(encoding="utf-8") == completed(template), "run tests/comfyui/refresh_templates.py"


@pytest.mark.parametrize("variant", RELEASED, ids=lambda variant: variant.name)
def test_every_needed_file_is_named_with_its_place(variant: Variant) -> None:
    entries = {f"{entry['directory']}/{entry['name']}": entry["url"] for entry in model_entries(variant)}
    for file in (*variant.own_files, *variant.priors.values(), WHISPER, WHISPER_CONFIG):
        assert entries[f"dice_talk/{file.name}"] == file.url
    # The VAE and the image encoder come in one file for ComfyUI.
    assert len(entries) == len(variant.files) - 1
    assert all(urlsplit(url).scheme == "https" and Path(urlsplit(url).path).name for url in entries.values())


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_every_node_lies_in_one_group_and_none_on_another(template: Path) -> None:
    saved = json.loads(template.read_text(encoding="utf-8"))
    boxes = {node["id"]: (*node["pos"], *node["size"]) for node in saved["nodes"]}
    title = 30
    for one, (x, y, width, height) in boxes.items():
        for other, (left, top, wide, high) in boxes.items():
            apart = x + width <= left or left + wide <= x or y + height <= top - title or top + high <= y - title
            assert one == other or apart, (one, other)
    for node in saved["nodes"]:
        x, y, width, height = boxes[node["id"]]
        around = [
            group["title"]
            for group in saved["groups"]
            if group["bounding"][0] <= x
            and x + width <= group["bounding"][0] + group["bounding"][2]
            and group["bounding"][1] + 2 * title <= y
            and y + height <= group["bounding"][1] + group["bounding"][3]
        ]
        assert len(around) == (node["type"] != "MarkdownNote"), node["type"]
