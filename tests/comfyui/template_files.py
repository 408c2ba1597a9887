"""Model files that templates name, out of the library's one table of files."""

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from comfyui.workflows import ROOT

from dicetalk.checkpoints.files import IMAGE_ENCODER, MODEL_FILES, SVD_REPO, VAE

SVD = {
    "name": "svd_xt.safetensors",
    "url": f"https://huggingface.co/{SVD_REPO}/resolve/main/svd_xt.safetensors",
    "directory": "checkpoints",
}
"""ComfyUI's form of what the table has as two files."""

FILES_HEADING = "\n\n**Files.** "


def model_entries() -> list[dict[str, str]]:
    """Every file of a complete model, as ``properties.models`` of a node has it."""
    return [*_own_entries(), SVD]


def _own_entries() -> Iterator[dict[str, str]]:
    for file in MODEL_FILES:
        if file not in (VAE, IMAGE_ENCODER):
            path = PurePosixPath("dice_talk", file.name)
            yield {"name": path.name, "url": file.url, "directory": str(path.parent)}


def files_note() -> str:
    """Where each file is fetched and where it goes, in Markdown."""
    lines = [
        f"{FILES_HEADING}`python -m dicetalk download models/dice_talk` fetches them once the licence of Stable "
        "Video Diffusion has been accepted on its page; `python -m dicetalk doctor models/dice_talk` lists what "
        "is missing. By hand:\n"
    ]
    by_folder: dict[str, list[str]] = {}
    for entry in model_entries():
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
    released = loader["widgets_values"][0] != "tiny"
    for node in saved["nodes"]:
        if node["type"].startswith("DICETalk_"):
            node["properties"] |= {"cnr_id": "dicetalk", "ver": version()}
        if node["type"] == "MarkdownNote" and released:
            about = node["widgets_values"][0].split(FILES_HEADING)[0]
            node["widgets_values"] = [about + files_note()]
    if released:
        loader["properties"]["models"] = model_entries()
    return json.dumps(saved, indent=1, ensure_ascii=False) + "\n"
