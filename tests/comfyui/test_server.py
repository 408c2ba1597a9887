"""The pack in a real ComfyUI, over its HTTP API and WebSocket."""

import time
from pathlib import Path
from typing import Any

import pytest
from comfyui.media import probe
from comfyui.prompts import SPEECH_SECONDS, node, portrait, save, talking
from comfyui.server import PACK_FOLDER, ROOT, Run, Server

DICE_NODES = 11
UNET_CALL_SECONDS = 30
"""Far more than one call of the small network takes, far less than the cancelled run."""


@pytest.fixture(scope="session")
def first_run(server: Server) -> Run:
    """A picture, speech and an emotion to a video."""
    run = server.run(talking("happy"), preview_method="latent2rgb")
    assert run.error is None, run.error
    return run


def test_the_pack_is_loaded_from_a_folder_of_any_name(server: Server, object_info: dict[str, Any]) -> None:
    assert sum(name.startswith("DICETalk_") for name in object_info) == DICE_NODES
    assert "IMPORT FAILED" not in server.log_text()
    choices = object_info["DICETalk_LoadModel"]["input"]["required"]["model"][1]["options"]
    assert choices == ["dicetalk.safetensors", "second/dicetalk.safetensors", "tiny"]
    templates = server.get("/workflow_templates")
    assert sorted(templates[PACK_FOLDER]) == sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
    for old, new in (("Loader", "LoadModel"), ("PreData", "AudioEncode"), ("Sampler", "Sampler")):
        replacements = server.get("/node_replacements")[f"Dice_Talk_{old}"]
        assert [r["new_node_id"] for r in replacements] == [f"DICETalk_{new}"]


def test_a_run_makes_a_video_as_long_as_the_speech(server: Server, first_run: Run) -> None:
    saved = first_run.outputs["8"]["images"][0]
    video = probe(server.file(saved))
    assert video.fps == 25 and video.size == (64, 64)
    assert abs(video.seconds - SPEECH_SECONDS) <= 1 / video.fps
    assert abs(video.sound_seconds - SPEECH_SECONDS) <= 0.1 and video.loudest > 0.01


def test_a_run_shows_progress_and_a_picture_at_each_step(first_run: Run) -> None:
    steps = [value for name, value, _ in first_run.progress if name == "DICETalk_Sampler"]
    assert steps == sorted(steps) and steps[-1] == 1000 and len(steps) >= 5
    assert len(first_run.previews) == 3
    assert all(b"\xff\xd8\xff" in preview[:400] for preview in first_run.previews)  # JPEG


def test_only_the_emotion_changed_leaves_speech_portrait_and_model_alone(server: Server, first_run: Run) -> None:
    run = server.run(talking("sad"))
    assert run.error is None, run.error
    assert set(run.executed) == {"DICETalk_EmotionBankMix", "DICETalk_Sampler", "SaveVideo"}
    files = [server.file(r.outputs["8"]["images"][0]) for r in (first_run, run)]
    assert files[0].read_bytes() != files[1].read_bytes()


def test_cancel_stops_within_one_call_and_the_server_goes_on(server: Server, first_run: Run) -> None:
    pressed: list[float] = []

    def press(server: Server, run: Run, message: dict[str, Any]) -> None:
        data = message["data"]
        sampling = message["type"] == "progress" and data["node"] == "7" and data["value"] > 100
        if sampling and not pressed:
            pressed.append(time.monotonic())
            server.post("/interrupt", {})

    run = server.run(talking("happy", steps=1000), watch=press)
    assert run.interrupted and pressed
    assert time.monotonic() - pressed[0] < UNET_CALL_SECONDS
    assert server.run(talking("happy")).error is None


def test_two_models_in_one_graph_and_one_loaded_twice(server: Server, first_run: Run) -> None:
    prompt = talking("fear")
    other = talking("fear", model="second/dicetalk.safetensors")
    for name, each in other.items():
        if name not in ("2", "3"):
            inputs = {k: [f"b{v[0]}", v[1]] if isinstance(v, list) and v[0] not in "23" else v
                      for k, v in each["inputs"].items()}  # fmt: skip
            prompt[f"b{name}"] = {**each, "inputs": inputs}
    prompt["1again"] = prompt["1"]
    prompt["5"] = portrait(["1again", 0], ["2", 0], margin=0.4)
    run = server.run(prompt)
    assert run.error is None, run.error
    assert run.executed.count("DICETalk_Sampler") == 2
    assert run.executed.count("DICETalk_LoadModel") == 1  # the first is known, and so is its twin
    saved = [server.file(run.outputs[name]["images"][0]).read_bytes() for name in ("8", "b8")]
    assert saved[0] != saved[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"6": {"emotions": '{"weights": {"joyful": 1}}'}}, "EmotionError: .*joyful.*Known"),
        ({"6": {"emotions": "happy"}}, "EmotionError: .*not JSON"),
        ({"5": {"face_index": 7}}, "PortraitError: .*Face 7 does not exist"),
        ({"4": {"start": 1000.0}}, "SpeechError: .*behind its end"),
        ({"7": {"overlap": 9}}, "SettingError: .*smaller than the window"),
    ],
)
def test_mistakes_are_explained_and_the_server_stays_up(
    server: Server, first_run: Run, change: dict[str, dict[str, Any]], message: str
) -> None:
    prompt = talking("happy")
    for name, inputs in change.items():
        prompt[name]["inputs"] |= inputs
    run = server.run(prompt)
    assert run.error is not None
    import re

    assert re.search(message, run.error, re.DOTALL), run.error
    assert server.get("/system_stats")


def test_wires_that_do_not_belong_together_are_refused(server: Server, first_run: Run) -> None:
    prompt = talking("happy")
    prompt["7"]["inputs"]["portrait"] = ["2", 0]
    refused = server.run(prompt)
    assert "return_type_mismatch" in refused.error and "DICE_PORTRAIT" in refused.error


def test_an_emotion_is_saved_loaded_and_cut_back_into_the_picture(server: Server, first_run: Run) -> None:
    prompt = talking("happy")
    prompt["9"] = node("DICETalk_SaveEmotion", model=["1", 0], emotion=["6", 0], name="from a test")
    assert server.run(prompt).error is None
    assert (server.base / "user" / "dice_talk_emotions" / "from a test.safetensors").is_file()
    prompt["6"] = node("DICETalk_LoadEmotion", model=["1", 0], name="from a test")
    prompt["10"] = node("DICETalk_PasteBack", images=["7", 0], portrait=["5", 0], feather=0.06, colour_match=True)
    prompt["11"] = node("CreateVideo", images=["10", 0], fps=["7", 2], audio=["7", 1])
    prompt["8"] = save(["11", 0])
    del prompt["9"]
    run = server.run(prompt)
    assert run.error is None, run.error
    assert probe(server.file(run.outputs["8"]["images"][0])).size == (512, 512)


def test_the_latents_are_what_the_core_decoder_reads(server: Server, first_run: Run) -> None:
    prompt = talking("happy")
    prompt["9"] = node("SaveLatent", samples=["7", 4], filename_prefix="clip")
    run = server.run(prompt)
    assert run.error is None, run.error
    assert server.file(run.outputs["9"]["latents"][0]).stat().st_size > 6 * 4 * 8 * 8 * 2


def test_killed_in_mid_run_and_started_again(comfyui: Path, base: Path) -> None:
    with Server(comfyui, base) as second:

        def pull_the_plug(server: Server, run: Run, message: dict[str, Any]) -> None:
            if message["type"] == "progress" and message["data"]["node"] == "7":
                server.kill()

        with pytest.raises(Exception, match=r"clos|reset|lost|Broken"):
            second.run(talking("angry", steps=1000), watch=pull_the_plug)
        assert not list((base / "output").glob("*.part"))
        second.start()
        assert second.run(talking("angry")).error is None
