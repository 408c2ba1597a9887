"""Model files that templates name, out of the library's registry of variants."""

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from comfyui.workflows import ROOT

from dicetalk.checkpoints.files import IMAGE_ENCODER, SVD_REPO, VAE
from dicetalk.checkpoints.variants import RELEASED, Variant

SVD = {
    "name": "svd_xt.safetensors",
    "url": f"https://huggingface.co/{SVD_REPO}/resolve/main/svd_xt.safetensors",
    "directory": "checkpoints",
}
"""ComfyUI's form of what the table has as two files."""

FILES_HEADING = "\n\n**Files.** "


def model_entries(variant: Variant) -> list[dict[str, str]]:
    """Every file of a complete model, as ``properties.models`` of a node has it."""
    return [*_own_entries(variant), SVD]


def _own_entries(variant: Variant) -> Iterator[dict[str, str]]:
    for file in variant.files:
        if file not in (VAE, IMAGE_ENCODER):
            path = PurePosixPath("dice_talk", file.name)
            # The page compares a name with the value of a list, in which networks stand with their folder.
            folder = path.parents[-2] if file in variant.own_files else path.parent
            yield {"name": str(path.relative_to(folder)), "url": file.url, "directory": str(folder)}


def files_note(variant: Variant) -> str:
    """Where each file is fetched and where it goes, in Markdown."""
    folder = f"models/dice_talk{variant.option}"
    lines = [
        f"{FILES_HEADING}`python -m dicetalk download {folder}` fetches them once the licence of Stable "
        f"Video Diffusion has been accepted on its page; `python -m dicetalk doctor {folder}` lists what "
        f"is missing. The weights of {variant.what.removeprefix('released ')} are under "
        f"{variant.own_files[0].source.licence}, for non-commercial use. By hand:\n"
    ]
    by_folder: dict[str, list[str]] = {}
    for entry in model_entries(variant):
        by_folder.setdefault(entry["directory"], []).append(f"[{entry['name']}]({entry['url']})")
    lines += [f"- `models/{folder}`: {', '.join(links)}" for folder, links in by_folder.items()]
    return "\n".join(lines)


def version() -> str:
    """The pack's version."""
    return re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]


def completed(template: Path) -> str:
    """A template's text with what follows from the table and from ``pyproject.toml`` filled in."""
    saved: dict[str, Any] = json.loads(template.read_text(encoding="utf-8"))
    loader = next(node for node in saved["nodes"] if node["type"] == "DICETalk_LoadModel")
    released = next((each for each in RELEASED if loader["widgets_values"][0] == each.own_files[0].name), None)
    for node in saved["nodes"]:
        if node["type"].startswith("DICETalk_"):
            node["properties"] |= {"cnr_id": "dicetalk", "ver": version()}
        if node["type"] == "MarkdownNote" and released:
            about = node["widgets_values"][0].split(FILES_HEADING)[0]
            node["widgets_values"] = [about + files_note(released)]
    if released:
        loader["properties"]["models"] = model_entries(released)
    return json.dumps(saved, indent=1, ensure_ascii=False) + "\n"
