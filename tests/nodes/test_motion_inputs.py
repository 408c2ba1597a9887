"""Motion over time at the sampler node: texts, lists of floats from wires, and the voice."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from comfyui.prompts import SAMPLER, nested, talking

from dicetalk.errors import SettingError

FRAMES = 5
KEYFRAMES = '{"keyframes": [{"time": 0, "value": 8}, {"time": 0.32, "value": 40}]}'
ONE_STEP = SAMPLER | {"preset.steps": 1, "preset.window": 1, "preset.shift": 0}


@pytest.fixture
def ids(nodes: dict[str, Any], model: Any, portrait: Any, speech: Any) -> Any:
    """Runs the sampler and returns the motion bucket and the expression bucket of each frame, from its UNet's calls."""
    happy = model.emotion(model.dice.priors["happy"])

    def run(**changes: Any) -> tuple[list[float], list[float]]:
        seen: list[torch.Tensor] = []
        hook = model.dice.unet.register_forward_pre_hook(lambda _unet, given: seen.append(given[2][-1]))
        try:
            made = nodes["DICETalk_Sampler"].execute(model, portrait, speech, happy, **nested(ONE_STEP | changes))
        finally:
            hook.remove()
        run.notices = made.ui["dicetalk_notices"]
        assert len(seen) == FRAMES, "a window for each frame"
        buckets = torch.stack(seen)
        return buckets[:, 1].tolist(), buckets[:, 2].tolist()

    return run


def test_numbers_stay_numbers(ids: Any) -> None:
    assert ids() == ([8.0] * FRAMES, [16.0] * FRAMES)
    assert ids(motion_bucket_over_time=" ", expression_bucket=20.0) == ([8.0] * FRAMES, [20.0] * FRAMES)


def test_keyframes_and_lists_reach_every_frame(ids: Any) -> None:
    motion, expression = ids(motion_bucket_over_time=KEYFRAMES, expression_bucket_over_time="[1, 2, 3]")
    assert motion == pytest.approx([8, 16, 24, 32, 40]) and expression == [1, 2, 3, 3, 3]
    assert ids.notices == []
    ids(motion_bucket_over_time="[1, 2, 3, 4, 5, 6, 7]")
    assert ids.notices == ["motion_bucket: the last 2 of 7 values lie after the end of the clip."]


@pytest.mark.parametrize(
    "wired", [[4.0, 5.0, 6.5], (4.0, 5.0, 6.5), np.array([4.0, 5.0, 6.5])], ids=lambda each: type(each).__name__
)
def test_a_list_of_floats_may_be_wired_to_the_number(ids: Any, wired: Any) -> None:
    assert ids(motion_bucket=wired)[0] == [4, 5, 6.5, 6.5, 6.5]


def test_a_constant_curve_gives_the_numbers_frames_bit_for_bit(
    nodes: dict[str, Any], model: Any, portrait: Any, speech: Any
) -> None:
    happy = model.emotion(model.dice.priors["happy"])

    def frames(**changes: Any) -> torch.Tensor:
        return nodes["DICETalk_Sampler"].execute(model, portrait, speech, happy, **nested(SAMPLER | changes)).result[0]

    number = frames(motion_bucket=20.0)
    for changes in (
        {"motion_bucket_over_time": "[20]"},
        {"motion_bucket_over_time": '{"keyframes": [{"time": 0, "value": 20}, {"time": 9, "value": 20}]}'},
        {"motion_bucket": [20.0, 20.0, 20.0]},
    ):
        assert torch.equal(frames(**changes), number), changes
    assert not torch.equal(frames(motion_bucket_over_time="[20, 90]"), number)


@pytest.mark.parametrize(
    ("values", "fps", "expected"),
    [
        ([4.0, 5.0, 6.5], 12.5, [4, 5, 6.5]),
        ([[4.0, 5.0], 6.5], 12.5, [4, 5, 6.5]),
        ([0.0, 10.0, 20.0], 25.0, [0, 20]),
        ([7], 1.0, [7]),
    ],
)
def test_motion_curve_gathers_a_list(
    nodes: dict[str, Any], ids: Any, values: list[Any], fps: float, expected: list[float]
) -> None:
    gathered = nodes["DICETalk_MotionCurve"].execute(values, [fps])
    (curve,) = gathered.result
    assert curve == pytest.approx(expected) and gathered.ui["dicetalk_notices"] == []
    held = [*expected, *[expected[-1]] * (FRAMES - len(expected))]
    assert ids(expression_bucket=curve)[1] == pytest.approx(held)


def test_motion_curve_takes_the_whole_list_and_names_what_is_no_number(nodes: dict[str, Any]) -> None:
    assert nodes["DICETalk_MotionCurve"].define_schema().is_input_list
    with pytest.raises(SettingError, match=r"values\[1\]"):
        nodes["DICETalk_MotionCurve"].execute([1.0, "loud"], [12.5])


def test_motion_curve_names_frame_rates_that_have_no_part(nodes: dict[str, Any]) -> None:
    gathered = nodes["DICETalk_MotionCurve"].execute([1.0, 2.0], [12.5, 25.0])
    assert gathered.ui["dicetalk_notices"] == ["fps holds 2 values: the first, 12.5, is used."]


def test_the_voice(ids: Any) -> None:
    """The hum is as loud throughout: the ordinary voice of its speaker, whose factor is one."""
    motion, expression = ids(motion_bucket_over_time="voice:20", expression_bucket_over_time="voice")
    assert len(set(motion)) <= FRAMES and all(10 <= value <= 40 for value in motion)
    assert [value / 20 for value in motion] == pytest.approx([value / 16 for value in expression])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[8, 300]", "from 0.0 to 255.0|from 0 to 255"),
        ("quick", "no amount of motion"),
        ('{"keyframes": []}', "keyframes"),
        ("voice:200", "400"),
        ("/etc/passwd.json", "no amount of motion"),
        ("[" * 5000, "JSON"),
    ],
)
def test_what_is_no_motion_is_refused_before_the_run_and_in_it(
    nodes: dict[str, Any], node_module: Any, model: Any, portrait: Any, speech: Any, text: str, why: str
) -> None:
    prompt = talking(motion_bucket_over_time=text)
    node_module("prompts").settle_prompt(prompt, nodes)
    refused = prompt["7"]["inputs"]["motion_bucket_over_time"]
    with pytest.raises(ValueError, match="refused"):
        str(refused)
    assert f"{refused}".endswith(")") and json.loads(json.dumps(refused)).startswith(text)
    with pytest.raises(SettingError, match=why):
        nodes["DICETalk_Sampler"].execute(
            model,
            portrait,
            speech,
            model.emotion(model.dice.priors["happy"]),
            **nested(SAMPLER | {"motion_bucket_over_time": text}),
        )


def test_a_text_makes_its_number_dead(nodes: dict[str, Any], node_module: Any) -> None:
    """Another number then changes nothing, and the node does not run again for it."""
    settled = []
    for number in (8.0, 99.0):
        prompt = talking(motion_bucket_over_time=KEYFRAMES, motion_bucket=number, expression_bucket=number)
        node_module("prompts").settle_prompt(prompt, nodes)
        settled.append(prompt["7"]["inputs"])
    assert [each["motion_bucket"] for each in settled] == [8.0, 8.0]
    assert [each["expression_bucket"] for each in settled] == [8.0, 99.0]
    plain = talking()
    node_module("prompts").settle_prompt(plain, nodes)
    assert plain["7"]["inputs"]["motion_bucket_over_time"] == ""
