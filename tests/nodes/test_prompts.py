"""Prompts before ComfyUI checks them: old names, dead inputs, refusals at their own inputs."""

import copy
import json
import pickle
import re
from typing import Any

import pytest
from comfyui.prompts import SAMPLER, talking

OLD_SAMPLER = {name.removeprefix("preset."): value for name, value in SAMPLER.items()}
"""As prompts were sent before the preset decided which inputs there are."""


@pytest.fixture
def settled(nodes: dict[str, Any], node_module: Any) -> Any:
    """Settles the inputs of one node: ``settled("Sampler", preset="fast")``."""

    def settle(node: str, **inputs: Any) -> dict[str, Any]:
        node_module("prompts").settle_prompt({"1": {"class_type": f"DICETalk_{node}", "inputs": inputs}}, nodes)
        return inputs

    return settle


def test_what_is_settled_already_stays(nodes: dict[str, Any], node_module: Any) -> None:
    prompt, same = talking(), talking()
    node_module("prompts").settle_prompt(prompt, nodes)
    for number, each in same.items():
        assert each["inputs"].items() <= prompt[number]["inputs"].items()


def test_prompts_of_earlier_releases(settled: Any) -> None:
    assert SAMPLER.items() <= settled("Sampler", **OLD_SAMPLER).items()
    always = {name: value for name, value in SAMPLER.items() if not name.startswith("preset")}
    fast = settled("Sampler", **OLD_SAMPLER | {"preset": "fast"})
    assert (always | {"preset": "fast"}).items() <= fast.items() and not any("." in name for name in fast)
    # What a release before did not have.
    assert settled("AudioEncode", audio=["9", 0], start=1.0, duration=2.0)["pad_start"] == 0
    old = {"face_index": 2, "margin": 0.3, "short_side": 64, "mask_scale": 1.2}
    kept = {"short_side": 64, "mask_scale": 1.2, "area.face_index": 2}
    assert settled("PortraitCrop", area="face", **old) == kept | {"area": "face", "area.margin": 0.3}
    assert settled("PortraitCrop", area="whole picture", **old) == kept | {"area": "whole picture"}


def test_a_new_name_wins_over_the_old_one(settled: Any) -> None:
    assert settled("Sampler", preset="custom", steps=1, **{"preset.steps": 2})["preset.steps"] == 2


@pytest.mark.parametrize(
    ("node", "live", "dead"),
    [
        ("Sampler", {"preset": "reference"}, {"steps": 7, "preset.steps": 7, "preset.portrait_guidance": 1.0}),
        ("PortraitCrop", {"area": "whole picture"}, {"area.margin": 1.0, "margin": 1.0}),
        ("PortraitCrop", {"area": "everything moves"}, {"mask_scale": 2.0, "box": ["9", 0], "area.face_index": 3}),
        ("PortraitCrop", {"area": "face", "box": ["9", 0]}, {"area.face_index": 3}),
        ("PortraitCrop", {"area": "face", "mask": ["9", 0]}, {"area.face_index": 3}),
        ("ExtractEmotionPrior", {"result": "one emotion", "images": ["9", 0]}, {"smoothing": 1.0, "result.window": 2}),
        ("ExtractEmotionPrior", {"result": "one emotion", "video": ["9", 0]}, {"fps": 5.0}),
        ("ExtractEmotionPrior", {"result": "one emotion", "images": ["9", 0]}, {"audio_stream": 2}),
        ("EmotionBankMix", {"temperature": 0}, {"seed": 7, "weight_a": 0.5, "weight_b": 0.5, "weight_h": 0.5}),
        ("EmotionBankMix", {"temperature": 1.0, "emotion_a": ["9", 0]}, {"weight_b": 0.5, "weight_c": 0.2}),
        ("LoadModel", {"model": "tiny"}, {"svd": "svd_xt.safetensors"}),
        ("SaveEmotion", {"name": "mine"}, {"nothing of ours": 1}),
    ],
)
def test_a_dead_input_changes_nothing_of_what_comfyui_compares(
    settled: Any, node: str, live: dict[str, Any], dead: dict[str, Any]
) -> None:
    twice = {name: 2 * value if isinstance(value, (int, float)) else f"{value} again" for name, value in dead.items()}
    assert settled(node, **live, **dead) == settled(node, **live, **twice)
    assert live.items() <= settled(node, **live, **dead).items()


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        ("Sampler", {"preset": "custom", "preset.steps": 7}),
        ("PortraitCrop", {"area": "face", "area.face_index": 1, "area.margin": 1.0, "mask_scale": 2.0}),
        ("ExtractEmotionPrior", {"result": "emotion over time", "result.smoothing": 1.0, "images": ["9", 0], "fps": 9}),
        ("EmotionBankMix", {"temperature": 0.5, "seed": 7, "more.emotion_c": ["9", 0], "weight_c": 0.2}),
        ("EmotionBankMix", {"temperature": ["9", 0], "seed": 7, "emotion_a": ["9", 0], "weight_a": ["9", 0]}),
        ("LoadModel", {"model": "unet.pth", "svd": "svd_xt.safetensors"}),
    ],
)
def test_a_live_input_stays(settled: Any, node: str, inputs: dict[str, Any]) -> None:
    assert inputs.items() <= settled(node, **inputs).items()


@pytest.mark.parametrize(
    ("node", "inputs", "refused", "why"),
    [
        ("Sampler", SAMPLER | {"preset.overlap": 9}, "preset.overlap", "must be smaller than the window of 5 frames"),
        ("Sampler", SAMPLER | {"noise_strength": 0.3}, "noise_strength", "leaves no step of 3.*at least 0.334"),
        ("PortraitCrop", {"area": "face", "short_side": 100}, "short_side", "multiple of 64"),
        ("PortraitCrop", {"area": "face", "box": ["9", 0], "mask": ["9", 1]}, "area", "Disconnect one"),
        ("PortraitCrop", {"area": ["9", 0]}, "area", "cannot come over a wire"),
        ("ExtractEmotionPrior", {"result": "one emotion", "images": ["9", 0], "video": ["9", 0]}, "result", "Disconn"),
        ("ExtractEmotionPrior", {"result": "one emotion"}, "result", "connect images, a video or audio"),
    ],
)
def test_what_does_not_go_together_is_refused_at_one_input(
    settled: Any, node_module: Any, node: str, inputs: dict[str, Any], refused: str, why: str
) -> None:
    found = settled(node, **inputs)
    kind = node_module("prompts").Refused
    assert [name for name, value in found.items() if isinstance(value, kind)] == [refused]
    for convert in (int, float):
        with pytest.raises(ValueError, match="refused"):
            convert(found[refused])
    assert re.search(why, found[refused].why)


@pytest.mark.parametrize(
    "inputs",
    [
        {"preset.overlap": ["9", 0]},
        {"preset.window": 0},
        {"preset.overlap": "many"},
        {"preset.steps": 0, "noise_strength": 0.0},
        {"noise_strength": -1.0},
        {"noise_strength": 10**400},
        {"preset.window": "1e999", "preset.overlap": "nan"},
        {"preset.steps": float("inf")},
    ],
)
def test_what_is_not_known_or_out_of_its_own_range_is_left_to_comfyui(settled: Any, inputs: dict[str, Any]) -> None:
    inputs = SAMPLER | inputs
    assert inputs.items() <= settled("Sampler", **inputs).items()


def test_what_is_no_choice_is_refused_by_name(settled: Any, nodes: dict[str, Any]) -> None:
    for node, name in (("Sampler", "preset"), ("PortraitCrop", "area"), ("ExtractEmotionPrior", "result")):
        check = nodes[f"DICETalk_{node}"].validate_inputs
        assert check({name: "whatever is known"}) is True and check(None) is True
        assert f"{name} 'slow' is unknown. Choose one of: " in check("slow")
        assert f"{name} '' is unknown" in check(settled(node, video=["9", 0])[name])
        assert "over a wire" in check(settled(node, **{name: ["9", 0]}, video=["9", 0])[name])


@pytest.mark.parametrize("prompt", [None, [], {"1": None}, {"1": {}}, {"1": {"class_type": [], "inputs": []}}])
def test_what_is_no_prompt_is_left_to_comfyui(nodes: dict[str, Any], node_module: Any, prompt: Any) -> None:
    node_module("prompts").settle_prompt(prompt, nodes)


def test_a_refused_prompt_can_be_copied_for_the_history(nodes: dict[str, Any], node_module: Any) -> None:
    """ComfyUI copies what it queues, and queues a prompt of which another output can run."""
    prompt = {"1": {"class_type": "DICETalk_PortraitCrop", "inputs": {"area": "face", "short_side": 100}}}
    node_module("prompts").settle_prompt(prompt, nodes)
    refused = prompt["1"]["inputs"]["short_side"]
    assert isinstance(refused, node_module("prompts").Refused)
    for copied in (copy.deepcopy(prompt), copy.copy(prompt), pickle.loads(pickle.dumps(prompt))):
        assert copied["1"]["inputs"]["short_side"] == refused
    assert json.loads(json.dumps(prompt)) == prompt
