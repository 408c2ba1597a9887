"""Sonic in the nodes: where it is offered, what runs without an emotion, and what one that is wired becomes."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui.prompts import FACE, SAMPLER, nested, talking
from released_files import save_torch, shapes_of, write_networks
from small_models import SMALL_MODEL, SMALL_SONIC_MODEL, write_small_model, write_small_sonic

from dicetalk.audio.projection import AudioToBucket
from dicetalk.checkpoints.load import load_model
from dicetalk.checkpoints.variants import FULL, SONIC
from dicetalk.errors import CheckpointError, EmotionError

NOTICES = "dicetalk_notices"


@pytest.fixture(scope="module")
def sonic_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_sonic(tmp_path_factory.mktemp("sonic"))


@pytest.fixture
def models(nodes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder ``models`` of a ComfyUI of its own."""
    import folder_paths

    folder = tmp_path / "ComfyUI" / "models"
    known = folder_paths.folder_names_and_paths
    monkeypatch.setattr(folder_paths, "models_dir", str(folder))
    monkeypatch.setitem(known, "dice_talk", ([str(folder / "dice_talk")], known["dice_talk"][1]))
    (folder / "dice_talk").mkdir(parents=True)
    return folder


def offered(nodes: dict[str, Any]) -> list[str]:
    return next(port for port in nodes["DICETalk_LoadModel"].define_schema().inputs if port.id == "model").options


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_every_place_of_sonics_files_is_offered(
    nodes: dict[str, Any], node_module: Any, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import folder_paths

    touch(*(models / "dice_talk" / name for name in ("unet.pth", "emo_model.pth")))
    touch(*(models / "dice_talk" / "Sonic" / name for name in ("unet.pth", "audio2token.pth", "audio2bucket.pth")))
    touch(*(models / "sonic" / name for name in ("unet.pth", "audio2bucket.pth", "RIFE/flownet.pkl")))
    touch(tmp_path / "elsewhere" / "dicetalk-sonic.safetensors")
    # A pack may have given ComfyUI more folders, and extra_model_paths.yaml too.
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "sonic", ([str(tmp_path / "elsewhere")], {".pth"}))
    own, others = ["Sonic/unet.pth", "unet.pth"], ["sonic/unet.pth", "sonic/dicetalk-sonic.safetensors"]
    assert sorted(offered(nodes)[:2]) == own and offered(nodes)[2:] == [*others, "tiny"]
    places = {name: node_module("folders").model_path(name) for name in own + others}
    assert places == {
        "Sonic/unet.pth": models / "dice_talk" / "Sonic" / "unet.pth",
        "unet.pth": models / "dice_talk" / "unet.pth",
        "sonic/unet.pth": models / "sonic" / "unet.pth",
        "sonic/dicetalk-sonic.safetensors": tmp_path / "elsewhere" / "dicetalk-sonic.safetensors",
    }
    variant = node_module("folders").model_variant
    assert [variant(name) for name in own] == [SONIC, FULL] and variant("sonic/unet.pth") is SONIC
    assert variant("tiny").has_emotions and variant("gone.pth") is None and variant(["1", 0]) is None


def test_names_are_the_same_on_every_system(
    nodes: dict[str, Any], node_module: Any, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows has another separator; workflows with names in that form keep loading."""
    import folder_paths

    folders = node_module("folders")
    monkeypatch.setattr(folder_paths, "get_filename_list", lambda _key: ["Sonic\\unet.pth"])
    monkeypatch.setattr(folders.os, "sep", "\\")
    monkeypatch.setattr(folders.os.path, "basename", lambda name: name.rpartition("\\")[2])
    assert folders.model_names() == ["Sonic/unet.pth", "tiny"]
    prompt = {"1": {"class_type": "DICETalk_LoadModel", "inputs": {"model": "Sonic\\unet.pth"}}}
    node_module("prompts").settle_prompt(prompt, nodes)
    assert prompt["1"]["inputs"]["model"] == "Sonic/unet.pth"


@pytest.mark.parametrize("place", ["dice_talk", "sonic"])
def test_files_load_where_people_have_them(
    nodes: dict[str, Any],
    node_module: Any,
    models: Path,
    sonic_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    """As a download lays them out below our own folder, and as the README of ComfyUI_Sonic does."""
    monkeypatch.setattr(node_module("load_model"), "load_model", partial(load_model, config=SMALL_SONIC_MODEL))
    shutil.copytree(sonic_folder, models / place, dirs_exist_ok=True)
    (models / place / "dicetalk-sonic.safetensors").unlink()
    write_networks(models / place, SMALL_SONIC_MODEL, SONIC)
    if place == "sonic":
        for path in list((models / place / "Sonic").iterdir()):
            path.rename(models / place / path.name)
    name = "Sonic/unet.pth" if place == "dice_talk" else "sonic/unet.pth"
    assert name in offered(nodes)
    model = nodes["DICETalk_LoadModel"].execute(name, "auto", "fp32").result[0]
    assert model.dice.audio_to_bucket is not None and model.dice.flownet is not None
    changed = {Path(path).name for path, _, _ in nodes["DICETalk_LoadModel"].fingerprint_inputs(name, "auto", "fp32")}
    assert {"unet.pth", "audio2token.pth", "audio2bucket.pth", "flownet.pkl"} <= changed
    (model_folder,) = (path.parent for path in (models / place).rglob("audio2token.pth"))
    (model_folder / "audio2token.pth").unlink()
    with pytest.raises(CheckpointError, match="audio2token"):
        nodes["DICETalk_LoadModel"].execute(name, "auto", "fp32")


@pytest.fixture
def sonic(nodes: dict[str, Any], models: Path, sonic_folder: Path) -> Any:
    """The small Sonic on its wire."""
    shutil.copytree(sonic_folder, models / "dice_talk", dirs_exist_ok=True)
    return nodes["DICETalk_LoadModel"].execute("dicetalk-sonic.safetensors", "auto", "fp32").result[0]


@pytest.fixture
def given(nodes: dict[str, Any], sonic: Any, audio: Any, image: torch.Tensor, box: dict[str, int]) -> tuple[Any, Any]:
    portrait = nodes["DICETalk_PortraitCrop"].execute(sonic, image, FACE, 64, 1.1, box=box).result[0][0]
    return portrait, nodes["DICETalk_AudioEncode"].execute(sonic, audio, 0.0, 0.0, pad_end=0.4).result[0]


@pytest.mark.parametrize("preset", ["reference", "custom"])
def test_a_clip_without_an_emotion(
    nodes: dict[str, Any], node_module: Any, sonic: Any, given: tuple[Any, Any], preset: str
) -> None:
    chosen = nested(SAMPLER | {"preset.steps": 2})
    if preset == "reference":
        chosen["preset"] = {"preset": preset}
    made = nodes["DICETalk_Sampler"].execute(sonic, *given, node_module("sampler").UNWIRED, **chosen)
    images, audio, fps, *_ = made.result
    assert len(images) == 20 and fps == 25 and images.isfinite().all() and audio["sample_rate"] == 44_100
    assert made.ui[NOTICES] == []


@pytest.fixture
def motion_file(models: Path) -> Path:
    """Sonic's motion network where the Sonic packs keep it."""
    path = models / "sonic" / "audio2bucket.pth"
    path.parent.mkdir()
    save_torch(path, shapes_of(AudioToBucket(SMALL_SONIC_MODEL.bucket)))
    return path


def test_sonics_network_drives_a_model_with_emotions(
    nodes: dict[str, Any], models: Path, motion_file: Path, tmp_path: Path
) -> None:
    write_small_model(models / "dice_talk")
    load, name = nodes["DICETalk_LoadModel"], "dicetalk.safetensors"
    plain, driven = (load.execute(name, "auto", "fp32", predict_motion=on).result[0].dice for on in (False, True))
    assert plain.audio_to_bucket is None and plain.has_emotions
    assert driven.audio_to_bucket is not None and driven.has_emotions
    changed = load.fingerprint_inputs(name, "auto", "fp32", True)
    assert [path for path, *_ in changed if path == str(motion_file)]
    assert (
        changed != load.fingerprint_inputs(name, "auto", "fp32", False) == load.fingerprint_inputs(name, "auto", "fp32")
    )
    motion_file.unlink()
    load.fingerprint_inputs(name, "auto", "fp32", True)
    with pytest.raises(CheckpointError, match=r"models/sonic.*audio2bucket\.pth.*LeonJoe13/Sonic"):
        load.execute(name, "auto", "fp32", predict_motion=True)


def test_the_bundled_model_does_not_go_with_sonics_network(nodes: dict[str, Any], motion_file: Path) -> None:
    with pytest.raises(CheckpointError, match="does not go with this model"):
        nodes["DICETalk_LoadModel"].execute("tiny", "auto", "fp32", predict_motion=True)


def test_sonic_predicts_motion_anyway(nodes: dict[str, Any], node_module: Any, both: None) -> None:
    """The choice is dead there, and a switched one does not load the model again."""
    left = {}
    for model in ("dicetalk-sonic.safetensors", "unet.pth"):
        prompt = talking(model=model)
        prompt["1"]["inputs"]["predict_motion"] = True
        node_module("prompts").settle_prompt(prompt, nodes)
        left[model] = prompt["1"]["inputs"]["predict_motion"]
    assert left == {"dicetalk-sonic.safetensors": False, "unet.pth": True}
    without = talking(model="unet.pth")
    node_module("prompts").settle_prompt(without, nodes)
    assert without["1"]["inputs"]["predict_motion"] is False


def test_an_emotion_at_sonic_is_left_out_with_the_way_on(
    nodes: dict[str, Any], node_module: Any, sonic: Any, given: tuple[Any, Any], model: Any
) -> None:
    happy = model.emotion(model.dice.priors["happy"])
    run = partial(nodes["DICETalk_Sampler"].execute, sonic, *given, **nested(SAMPLER))
    plain = run(emotion=node_module("sampler").UNWIRED)
    for emotion in (happy, node_module("sampler").UNUSED):
        made = run(emotion=emotion)
        (notice,) = made.ui[NOTICES]
        assert "no emotions" in notice and "load DICE-Talk" in notice and "not used" in notice
        assert torch.equal(made.result[0], plain.result[0])


def test_a_model_with_emotions_names_what_to_connect(
    nodes: dict[str, Any], node_module: Any, model: Any, portrait: Any, speech: Any
) -> None:
    with pytest.raises(EmotionError, match=r"none is connected\. Connect an emotion of Emotion Bank Mix"):
        nodes["DICETalk_Sampler"].execute(model, portrait, speech, node_module("sampler").UNWIRED, **nested(SAMPLER))


def test_nodes_that_make_emotions_say_that_sonic_has_none(
    nodes: dict[str, Any], sonic: Any, given: tuple[Any, Any], model: Any, image: torch.Tensor
) -> None:
    happy = model.emotion(model.dice.priors["happy"])
    mix = {"emotions": '{"weights": {"happy": 1}}', "weight_a": 1.0, "weight_b": 1.0, "temperature": 0.0, "seed": 0}
    result = {"result": "one emotion", "strength": 1.0}
    for run in (
        lambda: nodes["DICETalk_EmotionBankMix"].execute(sonic, **mix),
        lambda: nodes["DICETalk_EmotionTimeline"].execute(
            sonic, given[1], '{"keyframes": [{"time": 0, "emotion": "sad"}]}'
        ),
        lambda: nodes["DICETalk_ExtractEmotionPrior"].execute(sonic, result, 25.0, images=image),
        lambda: nodes["DICETalk_SaveEmotion"].execute(sonic, happy, "happy"),
    ):
        with pytest.raises(EmotionError, match=r"model: This model has no emotions.* load DICE-Talk"):
            run()


@pytest.fixture
def both(models: Path, sonic_folder: Path) -> None:
    """Names of a DICE-Talk and of a Sonic that can be distinguished before a run."""
    touch(models / "dice_talk" / "unet.pth", models / "dice_talk" / "emo_model.pth")
    shutil.copy(sonic_folder / "dicetalk-sonic.safetensors", models / "dice_talk")


def settled(nodes: dict[str, Any], node_module: Any, prompt: dict[str, Any]) -> Any:
    node_module("prompts").settle_prompt(prompt, nodes)
    return prompt["7"]["inputs"].get("emotion")


@pytest.mark.parametrize("model", ["tiny", "unet.pth"])
def test_before_a_run_a_model_with_emotions_wants_one(
    nodes: dict[str, Any], node_module: Any, both: None, model: str
) -> None:
    """A missing wire stays missing, which ComfyUI reports."""
    prompt = talking(model=model)
    assert settled(nodes, node_module, prompt) == ["6", 0]
    del prompt["7"]["inputs"]["emotion"]
    assert settled(nodes, node_module, prompt) is None
    emotion = next(port for port in nodes["DICETalk_Sampler"].define_schema().inputs if port.id == "emotion")
    assert not emotion.optional


def test_before_a_run_sonic_wants_none(nodes: dict[str, Any], node_module: Any, both: None) -> None:
    """What is wired is not even run: a workflow of DICE-Talk runs on Sonic by choosing that."""
    sampler = node_module("sampler")
    prompt = talking(model="dicetalk-sonic.safetensors")
    assert settled(nodes, node_module, prompt) == sampler.UNUSED
    del prompt["7"]["inputs"]["emotion"]
    assert settled(nodes, node_module, prompt) == sampler.UNWIRED


def test_a_model_through_nodes_of_others(nodes: dict[str, Any], node_module: Any, both: None) -> None:
    sampler = node_module("sampler")

    def through(*models: str, wired: bool) -> Any:
        prompt = talking(model=models[0])
        loaders = {str(10 + i): talking(model=model)["1"] for i, model in enumerate(models)}
        wires = {f"any_{number}": [number, 0] for number in loaders}
        prompt |= loaders | {"20": {"class_type": "AnySwitch", "inputs": wires}}
        prompt["7"]["inputs"]["model"] = ["20", 0]
        if not wired:
            del prompt["7"]["inputs"]["emotion"]
        return settled(nodes, node_module, prompt)

    sonic, dice = "dicetalk-sonic.safetensors", "tiny"
    assert through(sonic, wired=False) == sampler.UNWIRED and through(sonic, wired=True) == sampler.UNUSED
    assert through(dice, wired=False) is None and through(dice, wired=True) == ["6", 0]
    # Which of the two arrives is known in the run.
    assert through(sonic, dice, wired=False) == sampler.UNWIRED and through(sonic, dice, wired=True) == ["6", 0]


def test_a_wire_in_a_circle_or_to_nowhere_ends(nodes: dict[str, Any], node_module: Any, both: None) -> None:
    prompt = talking()
    prompt["1"]["inputs"]["model"] = ["7", 0]
    prompt["5"]["inputs"]["model"] = ["99", 0]
    assert settled(nodes, node_module, prompt) == ["6", 0]


def test_sizes_of_the_small_models_differ_in_what_sonic_lacks() -> None:
    assert (SMALL_MODEL.unet.num_adapters, SMALL_SONIC_MODEL.unet.num_adapters) == (2, 1)
