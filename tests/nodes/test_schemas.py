"""Ids, names, types and defaults stay what saved workflows hold."""

import json
from pathlib import Path
from typing import Any

import pytest

SNAPSHOT = Path(__file__).parent / "schemas.json"
FIXED_NAMES = {
    "DICETalk_LoadModel": "Load DICE Model",
    "DICETalk_AudioEncode": "Audio Encode (Whisper)",
    "DICETalk_ExtractEmotionPrior": "Extract Emotion Prior",
    "DICETalk_EmotionBankMix": "Emotion Bank Mix",
    "DICETalk_Sampler": "DICE Sampler",
}


FILE_CHOICES = {("DICETalk_LoadModel", "model"), ("DICETalk_LoadModel", "svd"), ("DICETalk_LoadEmotion", "name")}
"""Whose options are files; all others are part of what workflows hold."""

FIRST_REQUIRED = {
    "DICETalk_LoadModel": "model svd dtype",
    "DICETalk_AudioEncode": "model audio start duration",
    "DICETalk_ExtractEmotionPrior": "model result strength smoothing window fps",
    "DICETalk_EmotionBankMix": "model emotions weight_a weight_b temperature seed",
    "DICETalk_Sampler": "model portrait speech emotion seed preset steps portrait_guidance expression_guidance "
    "portrait_guidance_change expression_guidance_change schedule window overlap shift interpolate "
    "audio_scale emotion_scale motion_bucket expression_bucket noise_strength portrait_noise "
    "batched_guidance key_value_budget decode_chunk",
    "DICETalk_EmotionTimeline": "model speech keyframes",
    "DICETalk_PortraitCrop": "model image area face_index margin short_side mask_scale",
    "DICETalk_PasteBack": "images portrait feather colour_match",
    "DICETalk_FrameInterpolate": "model images fps multiplier",
    "DICETalk_SaveEmotion": "model emotion name",
    "DICETalk_LoadEmotion": "model name",
    "DICETalk_MotionCurve": "values fps",
}
"""Inputs that prompts of the first version have; a server refuses a prompt that lacks a required one."""


def described(node: Any) -> dict[str, Any]:
    """Lists where the order counts: the values of a node are saved by their place, and links by the output's."""
    schema = node.define_schema()
    return {
        "display_name": schema.display_name,
        "inputs": [described_input(schema.node_id, port) for port in schema.inputs],
        "outputs": [{"id": port.id, "type": port.get_io_type()} for port in schema.outputs],
    }


def described_input(node_id: str, port: Any) -> dict[str, Any]:
    from comfy_api.latest import io

    found = {"id": port.id, "type": port.get_io_type()}
    found |= {
        name: getattr(port, name, None) for name in ("default", "options", "min", "max", "control_after_generate")
    }
    found |= {name: getattr(port, name, None) or None for name in ("optional", "advanced")}
    if (node_id, port.id) in FILE_CHOICES:
        found["options"] = "files"
    elif isinstance(port, io.DynamicCombo.Input):
        found["options"] = {
            option.key: [described_input(node_id, each) for each in option.inputs] for option in port.options
        }
    elif isinstance(port, io.Autogrow.Input):
        found["grows"] = {"min": port.template.min, "names": port.template.names}
    return {name: value for name, value in found.items() if value is not None}


def test_schemas_are_those_that_workflows_were_saved_with(
    nodes: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    """After a wanted change: ``python -m pytest tests/nodes --update-schemas``."""
    found = {node_id: described(node) for node_id, node in nodes.items()}
    saved = json.loads(SNAPSHOT.read_text())
    for node_id, node in saved.items():
        places = [port["id"] for port in node["inputs"]]
        now = [port["id"] for port in found[node_id]["inputs"]]
        assert now[: len(places)] == places, f"{node_id}: workflows hold values by their place; a new input comes last"
    if request.config.getoption("--update-schemas"):
        SNAPSHOT.write_text(json.dumps(found, indent=1) + "\n")
    else:
        assert found == saved
    assert {node_id: found[node_id]["display_name"] for node_id in FIXED_NAMES} == FIXED_NAMES


def test_everything_has_a_tooltip_and_ids_are_unique_within_a_node(nodes: dict[str, Any]) -> None:
    for node_id, node in nodes.items():
        schema = node.define_schema()
        schema.validate()
        assert node_id.startswith("DICETalk_") and schema.description
        for port in [*(each for whole in schema.inputs for each in whole.get_all()), *schema.outputs]:
            assert port.tooltip and port.tooltip[-1] in ".}", (node_id, port.id)
        names = [port.id for port in [*schema.inputs, *schema.outputs]]
        assert len(set(names)) == len(names), node_id


def test_what_execute_takes_is_what_the_schema_declares(nodes: dict[str, Any]) -> None:
    import inspect

    for node_id, node in nodes.items():
        declared = {i.id: i for i in node.define_schema().inputs}
        taken = inspect.signature(node.execute).parameters
        open_ended = any(p.kind is p.VAR_KEYWORD for p in taken.values())
        named = {name for name, p in taken.items() if p.kind is not p.VAR_KEYWORD}
        assert named <= set(declared), node_id
        assert open_ended or named == set(declared), node_id
        for name in named:
            expected = getattr(declared[name], "default", None) if declared[name].optional else inspect.Parameter.empty
            assert taken[name].default == expected, (node_id, name)


def test_the_widgets_are_plain_strings_where_the_extension_is_missing(nodes: dict[str, Any]) -> None:
    for node_id, name, widget in (
        ("DICETalk_EmotionBankMix", "emotions", "DICETALK_EMOTION_PAD"),
        ("DICETalk_EmotionTimeline", "keyframes", "DICETALK_EMOTION_TIMELINE"),
    ):
        port = next(i for i in nodes[node_id].define_schema().inputs if i.id == name)
        assert port.get_io_type() == "STRING"
        assert port.as_dict()["widgetType"] == widget
        assert json.loads(port.default)


def test_the_box_is_a_socket_and_not_four_number_fields(nodes: dict[str, Any]) -> None:
    port = next(i for i in nodes["DICETalk_PortraitCrop"].define_schema().inputs if i.id == "box")
    assert port.get_io_type() == "BOUNDING_BOX" and port.as_dict()["forceInput"] is True


def test_prompts_of_the_first_version_lack_nothing(nodes: dict[str, Any]) -> None:
    for node_id, known in FIRST_REQUIRED.items():
        required = {port.id for port in nodes[node_id].define_schema().inputs if not getattr(port, "optional", False)}
        assert required <= set(known.split()), node_id
