"""Sonic on a real server: no emotion is wanted, one that is wired is not made, and DICE-Talk still wants one."""

import json
from typing import Any

import pytest
from comfyui.media import probe
from comfyui.prompts import SMALL_MODELS, SPEECH_SECONDS, node, portrait, save, talking
from comfyui.server import Run, Server

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


def test_crop_previews_a_long_clip_and_paste_back(server: Server) -> None:
    """Two windows, of which the second goes on with the clip's beginning; the face is put back into the picture."""
    prompt = talking(model=SONIC, seed=5, schedule="ring", window=25, shift=7, decode_chunk=0)
    prompt["4"]["inputs"]["duration"] = 3.0
    prompt["9"] = node("DICETalk_PasteBack", images=["7", 0], portrait=["5", 0], feather=0.1, colour_match=False)
    prompt["10"] = node("CreateVideo", images=["9", 0], audio=["7", 1], fps=["7", 2])
    prompt["8"] = save(["10", 0])
    run = server.run(prompt, preview_method="auto")
    assert run.error is None, run.error
    assert len(run.previews) == 3 and BANK_MIX not in run.executed
    (saved,) = run.outputs["8"]["images"]
    video = probe(server.file(saved))
    assert video.fps == 25 and abs(video.seconds - 3) <= 1 / video.fps


def test_cancel_and_speech_that_is_too_short(server: Server) -> None:
    def press(server: Server, run: Run, message: dict[str, Any]) -> None:
        if message["type"] == "progress" and message["data"]["node"] == "7" and message["data"]["value"] > 50:
            server.post("/interrupt", {})

    prompt = talking(model=SONIC, seed=6, steps=1000)
    prompt["5"] = portrait(["1", 0], ["2", 0], short_side=256)
    assert server.run(prompt, watch=press).interrupted
    short = talking(model=SONIC, seed=7)
    short["4"]["inputs"]["duration"] = 0.4
    error = server.run(short).error
    assert "SpeechError" in error and "0.40 s long" in error and "0.44 s or more" in error and "pad_end" in error


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
