"""Workflows as a person saves them, turned into what the server runs."""

import json
from pathlib import Path
from typing import Any

Prompt = dict[str, dict[str, Any]]

ROOT = Path(__file__).parents[2]
TEMPLATES = sorted((ROOT / "example_workflows").glob("*.json"))
SEED_MODES = {"fixed", "increment", "decrement", "randomize"}
SKIPPED = {"Note", "MarkdownNote"}
MUTED = (2, 4)


def to_prompt(workflow: Path, object_info: dict[str, Any]) -> Prompt:
    """The API form of a saved workflow, as the browser makes it.

    Args:
        workflow: JSON file in the format that ComfyUI saves.
        object_info: what the server says about its nodes.
    """
    saved = json.loads(workflow.read_text())
    links = {link[0]: (str(link[1]), link[2]) for link in saved["links"]}
    prompt: Prompt = {}
    for node in saved["nodes"]:
        if node["type"] in SKIPPED or node.get("mode", 0) in MUTED:
            continue
        known = object_info[node["type"]]["input"]
        inputs = _widget_values(node, {**known.get("required", {}), **known.get("optional", {})})
        for port in node.get("inputs", []):
            if port.get("link") is not None:
                inputs[port["name"]] = list(links[port["link"]])
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def api_path(template: Path) -> Path:
    """The file that holds a template's API form."""
    return ROOT / "workflows" / "api" / template.name


def api_text(prompt: Prompt) -> str:
    """An API form as it is stored."""
    return json.dumps(prompt, indent=2, ensure_ascii=False) + "\n"


def _widget_values(node: dict[str, Any], declared: dict[str, Any]) -> dict[str, Any]:
    return _taken(list(node.get("widgets_values", [])), declared)


def _taken(values: list[Any], declared: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Take the values of the declared widgets off `values`, in order."""
    inputs = {}
    for name, (kind, *options) in declared.items():
        options = options[0] if options else {}
        if kind == "COMFY_DYNAMICCOMBO_V3":
            chosen = inputs[prefix + name] = values.pop(0)
            option = next(each["inputs"] for each in options["options"] if each["key"] == chosen)
            inner = {**option.get("required", {}), **option.get("optional", {})}
            inputs |= _taken(values, inner, f"{prefix}{name}.")
        elif _is_widget(kind, options):
            # The browser fills in the default of a widget that is newer than the workflow.
            inputs[prefix + name] = values.pop(0) if values else options["default"]
            if options.get("control_after_generate") and values and values[0] in SEED_MODES:
                values.pop(0)
    return inputs


def _is_widget(kind: Any, options: dict[str, Any]) -> bool:
    plain = isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
    return plain and not options.get("forceInput")
