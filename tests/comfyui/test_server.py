"""The pack in a real ComfyUI, over its HTTP API and WebSocket."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from comfyui.media import probe
from comfyui.prompts import SPEECH_SECONDS, Prompt, mixed, node, portrait, save, talking
from comfyui.server import Run, Server
from safetensors.torch import load_file

DICE_NODES = 12
MESSAGES_AFTER_CANCEL = 2
"""One that is under way to the browser while it says so, and one of a step whose last call was being made."""


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
    assert choices == [
        "Sonic/dicetalk-sonic.safetensors",
        "dicetalk.safetensors",
        "second/dicetalk.safetensors",
        "tiny",
    ]
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
    # The last ones follow so quickly, once everything is loaded, that the server may send one of them alone.
    assert steps == sorted(steps) and steps[-1] >= 950 and len(steps) >= 4
    assert len(first_run.previews) == 3
    assert all(b"\xff\xd8\xff" in preview[:400] for preview in first_run.previews)  # JPEG


@pytest.mark.parametrize(("setting", "pictures"), [(None, 0), ("default", 0), ("none", 0), ("auto", 3)])
def test_previews_come_only_if_comfyui_is_asked_for_them(server: Server, setting: str | None, pictures: int) -> None:
    """As the help pages say: the page sends its setting along, and the server's own is none."""
    asked = {} if setting is None else {"preview_method": setting}
    run = server.run(talking("happy", seed=["", None, "default", "none", "auto"].index(setting)), **asked)
    assert run.error is None and len(run.previews) == pictures


def test_the_log_names_the_networks_that_are_loaded(server: Server, first_run: Run) -> None:
    loaded = set(re.findall(r"Requested to load (\S+)", server.log_text()))
    assert {"UNet", "AutoencoderKLTemporalDecoder", "WhisperEncoder", "FlowNet"} <= loaded, loaded
    assert not re.search(r"\bHosted\b", server.log_text())


def test_only_the_emotion_changed_leaves_speech_portrait_and_model_alone(server: Server, first_run: Run) -> None:
    run = server.run(talking("sad"))
    assert run.error is None, run.error
    assert set(run.executed) == {"DICETalk_EmotionBankMix", "DICETalk_Sampler", "SaveVideo"}
    files = [server.file(r.outputs["8"]["images"][0]) for r in (first_run, run)]
    assert files[0].read_bytes() != files[1].read_bytes()


def test_cancel_stops_within_one_call_and_the_server_goes_on(server: Server, first_run: Run) -> None:
    seen_before: list[int] = []

    def press(server: Server, run: Run, message: dict[str, Any]) -> None:
        data = message["data"]
        sampling = message["type"] == "progress" and data["node"] == "7" and data["value"] > 50
        if sampling and not seen_before:
            seen_before.append(len(run.progress))
            server.post("/interrupt", {})

    prompt = talking("happy", steps=1000)
    # A picture so large that a call takes longer than a message to the server and back; 50 is the portrait's share.
    prompt["5"] = portrait(["1", 0], ["2", 0], short_side=256)
    run = server.run(prompt, watch=press)
    assert run.interrupted and seen_before
    assert len(run.progress) - seen_before[0] <= MESSAGES_AFTER_CANCEL
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
        ({"5": {"area.face_index": 7}}, "PortraitError: .*Face 7 does not exist"),
        ({"4": {"start": 1000.0}}, "SpeechError: .*behind its end"),
    ],
)
def test_mistakes_are_explained_and_the_server_stays_up(
    server: Server, first_run: Run, change: dict[str, dict[str, Any]], message: str
) -> None:
    run = server.run(changed(talking("happy"), change))
    assert run.error is not None and re.search(message, run.error, re.DOTALL), run.error
    assert server.get("/system_stats")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"6": {"emotions": '{"weights": {"joyful": 1}}'}}, "joyful.*Known"),
        ({"6": {"emotions": "happy"}}, "not JSON"),
        ({"7": {"preset": "slow"}}, "preset 'slow' is unknown"),
        ({"7": {"noise_strength": 0.1}}, "noise_strength 0.1 leaves no step of 3"),
        ({"5": {"short_side": 100}}, "multiple of 64"),
        ({"5": {"area.face_index": 101}}, "Value 101 bigger than max of 100"),
        ({"5": {"box": ["2", 1]}}, "box, .*MASK.*; connect the box of a face detector"),
        ({"4": {"duration": 0.05}}, "duration is 0.05 s"),
        ({"6": {"emotion_a": ["4", 0]}}, r"emotion_a, .*DICE_SPEECH.* mismatch .*DICE_EMOTION; connect an emotion of"),
        ({"7": {"preset.overlap": 9}}, "overlap 9 must be smaller than the window of 5 frames"),
        ({"7": {"preset.window": 0}}, "Value 0 smaller than min of 1"),
        ({"7": {"portrait": ["2", 0]}}, "portrait, .*IMAGE.*; connect Portrait Crop's portrait"),
        ({"4": {"audio": ["2", 0]}}, "audio, .*IMAGE.*; connect sound, for example of Load Audio"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(
    server: Server, first_run: Run, change: dict[str, dict[str, Any]], message: str
) -> None:
    run = server.run(changed(talking("fear"), change))
    assert run.prompt_id == "" and not run.executed
    assert re.search(message, run.error), run.error
    ((number, refused),) = json.loads(run.error)["node_errors"].items()
    (error,) = refused["errors"]
    if len(change[number]) == 1:
        assert [error["extra_info"]["input_name"]] == list(change[number])


def test_a_box_beside_a_mask_is_refused_with_one_message(server: Server, first_run: Run) -> None:
    boxes = node("CreateBoundingBoxes", width=64, height=64, editor_state={"__value__": []})
    prompt = talking("fear") | {"30": boxes}
    prompt = changed(prompt, {"5": {"box": ["30", 1], "mask": ["2", 1]}})
    # The boxes are an output of their own: the server runs them, and nothing that needs the portrait.
    answer = server.post("/prompt", {"prompt": prompt})
    ((number, about),) = answer["node_errors"].items()
    (error,) = about["errors"]
    assert number == "5" and re.search("Both a box and a mask.*Disconnect one", json.dumps(error))
    assert server.run(talking("fear")).error is None  # the server took the refused prompt into its history


def test_values_that_come_over_wires_are_let_through(server: Server, first_run: Run) -> None:
    prompt = talking("happy")
    text = prompt["6"]["inputs"]["emotions"]
    prompt |= {
        "20": node("PrimitiveString", value=text),
        "21": node("PrimitiveInt", value=0),
    }
    prompt["6"]["inputs"]["emotions"] = ["20", 0]
    prompt["7"]["inputs"]["preset.overlap"] = ["21", 0]
    assert server.run(prompt).error is None


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("SaveEmotion", "../out", "An emotion cannot be called '../out'"),
        ("LoadEmotion", "never saved", "There is no saved emotion 'never saved'|No emotion has been saved yet"),
    ],
)
def test_a_name_that_leaves_the_folder_or_is_not_there_is_refused(
    server: Server, first_run: Run, kind: str, name: str, message: str
) -> None:
    prompt = talking("happy")
    del prompt["8"]
    prompt["9"] = node(f"DICETalk_{kind}", model=["1", 0], emotion=["6", 0], name=name)
    if kind == "LoadEmotion":
        prompt["10"] = node("DICETalk_SaveEmotion", model=["1", 0], emotion=["9", 0], name="a copy")
    run = server.run(prompt)
    assert run.prompt_id == "" and re.search(message, run.error), run.error


@pytest.mark.parametrize(
    ("preset", "dead"),
    [("reference", {"steps": 9, "preset.steps": 9, "expression_guidance": 1.0}), ("fast", {"schedule": "reference"})],
)
def test_a_change_of_a_dead_input_runs_nothing_again(
    server: Server, first_run: Run, preset: str, dead: dict[str, Any]
) -> None:
    prompt = talking("happy", preset=preset)
    assert server.run(prompt).error is None
    run = server.run(changed(talking("happy", preset=preset), {"7": dead, "6": {"seed": 7, "weight_a": 0.3}}))
    assert run.error is None and not run.executed, run.error


def test_prompts_of_earlier_releases_run_and_are_the_same(server: Server, first_run: Run) -> None:
    prompt = talking("happy")
    for number in ("5", "7"):
        inputs = prompt[number]["inputs"]
        prompt[number]["inputs"] = {name.rpartition(".")[2]: value for name, value in inputs.items()}
    assert server.run(talking("happy")).error is None
    run = server.run(prompt)
    assert run.error is None and not run.executed, run.error


def test_more_than_two_emotions_are_mixed(server: Server, first_run: Run) -> None:
    prompt = talking("happy")
    for letter, emotion in zip("abcd", ("sad", "fear", "angry", "contempt"), strict=True):
        prompt[f"6{letter}"] = mixed(["1", 0], emotion)
        name = f"emotion_{letter}" if letter in "ab" else f"more.emotion_{letter}"
        prompt["6"]["inputs"] |= {name: [f"6{letter}", 0], f"weight_{letter}": 0.5}
    run = server.run(prompt)
    assert run.error is None, run.error
    prompt["6"]["inputs"]["weight_d"] = 0.0
    again = server.run(prompt)
    assert again.executed == ["DICETalk_EmotionBankMix", "DICETalk_Sampler", "SaveVideo"]
    files = [server.file(r.outputs["8"]["images"][0]).read_bytes() for r in (run, again)]
    assert files[0] != files[1]


def changed(prompt: Prompt, change: dict[str, dict[str, Any]]) -> Prompt:
    """`prompt` with some inputs of some nodes replaced."""
    for name, inputs in change.items():
        prompt[name]["inputs"] |= inputs
    return prompt


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


def test_a_batch_of_pictures_becomes_a_clip_of_each(server: Server, first_run: Run) -> None:
    prompt = talking("happy")
    prompt["20"] = node("ImageInvert", image=["2", 0])
    prompt["21"] = node("ImageBatch", image1=["2", 0], image2=["20", 0])
    prompt["5"]["inputs"] |= {"image": ["21", 0], "box": ["22", 0]}
    prompt["22"] = node("PrimitiveBoundingBox", x=140, y=90, width=230, height=290)
    run = server.run(prompt)
    assert run.error is None, run.error
    saved = run.outputs["8"]["images"]
    assert len(saved) == 2 and len(run.outputs["5"]["images"]) == 2
    first, second = (server.file(each) for each in saved)
    assert first.read_bytes() != second.read_bytes()
    assert [probe(each).size for each in (first, second)] == [(64, 64)] * 2
    assert abs(probe(second).seconds - SPEECH_SECONDS) <= 1 / 25


def test_what_is_not_used_is_reported_with_the_run(server: Server, first_run: Run) -> None:
    prompt = talking("happy")
    prompt["6"]["inputs"] |= {"emotion_a": ["23", 0], "weight_a": 0.0}
    prompt["23"] = dict(talking("sad")["6"])
    run = server.run(prompt)
    assert run.error is None, run.error
    reported = run.outputs["6"]["dicetalk_notices"]
    assert reported == ["emotion_a is connected, but has no part: its weight is 0."]
    history = server.get(f"/history/{run.prompt_id}")[run.prompt_id]["outputs"]
    assert history["6"]["dicetalk_notices"] == reported
    assert re.search("emotion_a is connected, but has no part", server.log_text())


def test_notices_of_a_node_come_from_the_cache_and_with_its_error(server: Server, first_run: Run) -> None:
    prompt = talking("happy")
    prompt["6"]["inputs"] |= {"emotion_a": ["23", 0], "weight_a": 0.0}
    prompt["23"] = dict(talking("sad")["6"])
    first = server.run(prompt)
    prompt["8"]["inputs"]["filename_prefix"] = "again"
    again = server.run(prompt)  # from a page that was opened anew
    assert again.error is None and again.executed == ["SaveVideo"]
    assert again.outputs["6"]["dicetalk_notices"] == first.outputs["6"]["dicetalk_notices"] != []
    history = server.get(f"/history/{again.prompt_id}")[again.prompt_id]["outputs"]
    assert history["6"]["dicetalk_notices"] == first.outputs["6"]["dicetalk_notices"]

    prompt["5"]["inputs"]["box"] = ["22", 0]
    prompt["22"] = node("PrimitiveBoundingBox", x=8500, y=90, width=230, height=290)
    prompt["2"] = node("EmptyImage", width=9000, height=1200, batch_size=1, color=0)
    failed = server.run(prompt)
    assert "PortraitError: Face box" in failed.error and "outside the picture" in failed.error
    assert "Before that:\n- The picture has 9000 x 1200 pixels; it is scaled down to 8192 x 1092, in" in failed.error


def test_the_latents_are_saved_as_the_cores_nodes_take_them(server: Server, first_run: Run) -> None:
    prompt = talking("happy")
    prompt["9"] = node("SaveLatent", samples=["7", 4], filename_prefix="clip")
    run = server.run(prompt)
    assert run.error is None, run.error
    latents = load_file(server.file(run.outputs["9"]["latents"][0]))["latent_tensor"]
    assert latents.shape == (6, 4, 8, 8)  # whole frames of 0.5 s at 12.5 a second, an eighth of 64 pixels
    assert latents.isfinite().all() and latents.std() > 0


def test_killed_in_mid_run_and_started_again(comfyui: Path, base: Path) -> None:
    with Server(comfyui, base, "--preview-method", "auto") as second:

        def pull_the_plug(server: Server, run: Run, message: dict[str, Any]) -> None:
            if message["type"] == "progress" and message["data"]["node"] == "7":
                server.kill()

        with pytest.raises(Exception, match=r"clos|reset|lost|Broken"):
            second.run(talking("angry", steps=1000), watch=pull_the_plug)
        second.start()
        again = second.run(talking("angry"))
        assert again.error is None and len(again.previews) == 3  # as the command line asks for them
