"""Sonic on a real server: no emotion is wanted, one that is wired is not made, and DICE-Talk still wants one."""

import json

import pytest
from comfyui.media import probe
from comfyui.prompts import SMALL_MODELS, SPEECH_SECONDS, talking
from comfyui.server import Server

SONIC = SMALL_MODELS["Sonic/unet.pth"]
BANK_MIX = "DICETalk_EmotionBankMix"


@pytest.mark.parametrize("wired", [False, True])
def test_a_video_without_an_emotion(server: Server, wired: bool) -> None:
    prompt = talking(model=SONIC, seed=3 + wired)
    if not wired:
        del prompt["7"]["inputs"]["emotion"]
        del prompt["6"]
    run = server.run(prompt)
    assert run.error is None, run.error
    assert BANK_MIX not in run.executed and "DICETalk_Sampler" in run.executed
    notices = run.outputs["7"]["dicetalk_notices"]
    assert [("no emotions" in each, "load DICE-Talk" in each) for each in notices] == [(True, True)] * wired
    (saved,) = run.outputs["8"]["images"]
    video = probe(server.file(saved))
    assert abs(video.seconds - SPEECH_SECONDS) <= 1 / video.fps


def test_a_model_with_emotions_still_wants_one_before_anything_runs(server: Server) -> None:
    prompt = talking()
    del prompt["7"]["inputs"]["emotion"]
    run = server.run(prompt)
    (refused,) = json.loads(run.error)["node_errors"]["7"]["errors"]
    assert refused["message"] == "Required input is missing" and refused["details"] == "emotion"
    assert run.executed == []


def test_a_node_that_makes_emotions_names_the_model_to_load(server: Server) -> None:
    prompt = talking(model=SONIC)
    # A preview of the mix asks for it although the sampler does not.
    prompt["9"] = {"class_type": "PreviewImage", "inputs": {"images": ["6", 1]}}
    error = server.run(prompt).error
    assert "EmotionError" in error and "model: This model has no emotions" in error and "load DICE-Talk" in error
