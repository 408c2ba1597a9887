"""ComfyUI's folders: models, checkpoints, input and saved emotions."""

import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from dicetalk.errors import CheckpointError, EmotionError


def test_models_are_listed_and_the_bundled_one_is_last(
    nodes: dict[str, Any], models_folder: Path, tmp_path: Path
) -> None:
    import folder_paths

    def offered() -> list[str]:
        return next(i for i in nodes["DICETalk_LoadModel"].define_schema().inputs if i.id == "model").options

    assert offered() == ["dicetalk.safetensors", "tiny"]
    (tmp_path / "unet.pth").touch()
    (tmp_path / "anything.safetensors").touch()
    folder_paths.add_model_folder_path("dice_talk", str(tmp_path))  # as extra_model_paths.yaml does
    assert sorted(offered()) == ["dicetalk.safetensors", "tiny", "unet.pth"]
    folder_paths.folder_names_and_paths["dice_talk"][0].remove(str(tmp_path))


def test_a_file_of_the_model_that_changes_is_read_again(nodes: dict[str, Any], models_folder: Path) -> None:
    load = nodes["DICETalk_LoadModel"]
    before = load.fingerprint_inputs("dicetalk.safetensors", "auto", "auto")
    assert before == load.fingerprint_inputs("dicetalk.safetensors", "auto", "auto")
    file = models_folder / "dicetalk.safetensors"
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    assert load.fingerprint_inputs("dicetalk.safetensors", "auto", "auto") != before


def test_a_choice_that_comes_over_a_wire_does_not_spoil_the_cache(nodes: dict[str, Any]) -> None:
    """ComfyUI asks with none for it; what raises is run again every time."""
    load, emotion = nodes["DICETalk_LoadModel"], nodes["DICETalk_LoadEmotion"]
    for model, svd in ((None, "auto"), ("dicetalk.safetensors", None)):
        assert load.fingerprint_inputs(model, svd, "auto") == load.fingerprint_inputs(model, svd, None) == []
    assert emotion.fingerprint_inputs(None) == emotion.fingerprint_inputs(None)


def test_a_checkpoint_that_only_the_workflows_maker_has_is_replaced_by_what_is_there(
    nodes: dict[str, Any], models_folder: Path, tmp_path: Path
) -> None:
    import folder_paths

    load = nodes["DICETalk_LoadModel"]
    assert load.validate_inputs("auto") is load.validate_inputs(None) is True
    assert load.validate_inputs("svd_xt.safetensors") is True, "Stable Video Diffusion lies with the model"
    assert load.execute("dicetalk.safetensors", "svd_xt.safetensors", "fp32").result[0].dice.vae is not None
    folders = folder_paths.folder_names_and_paths["dice_talk"][0]
    before = list(folders)
    folders[:] = [str(tmp_path)]
    try:
        refusal = load.validate_inputs("svd_xt.safetensors")
    finally:
        folders[:] = before
    assert "svd_xt.safetensors is not in models/checkpoints" in refusal and "dicetalk download" in refusal


def test_a_file_that_is_added_to_the_model_is_read_too(
    nodes: dict[str, Any], models_folder: Path, tmp_path: Path
) -> None:
    import folder_paths

    load = nodes["DICETalk_LoadModel"]
    folders = folder_paths.folder_names_and_paths["dice_talk"][0]
    alone = tmp_path / "alone"
    shutil.copytree(models_folder, alone)
    rife = next(alone.rglob("flownet.pkl"))
    kept = rife.rename(tmp_path / "flownet.pkl")
    folders[:], before_folders = [str(alone)], list(folders)
    try:
        without = load.fingerprint_inputs("dicetalk.safetensors", "auto", "auto")
        assert load.execute("dicetalk.safetensors", "auto", "fp32").result[0].dice.flownet is None
        kept.rename(rife)
        assert load.fingerprint_inputs("dicetalk.safetensors", "auto", "auto") != without
        assert load.execute("dicetalk.safetensors", "auto", "fp32").result[0].dice.flownet is not None
    finally:
        folders[:] = before_folders
    bundled = load.fingerprint_inputs("tiny", "auto", "auto")
    assert len(bundled) > 1 and bundled == load.fingerprint_inputs("tiny", "auto", "auto")


def test_stable_video_diffusion_is_found_with_the_model_or_among_the_checkpoints(
    node_module: Any, models_folder: Path, tmp_path: Path
) -> None:
    import folder_paths

    checkpoints = Path(folder_paths.get_folder_paths("checkpoints")[0])
    checkpoints.mkdir(parents=True, exist_ok=True)
    for name in ("svd_xt_1_1.safetensors", "another.safetensors", "svd_xt-image_decoder.safetensors"):
        (checkpoints / name).touch()
    find = node_module("folders").svd_path
    assert find("auto", models_folder / "dicetalk.safetensors") is None
    assert find("another.safetensors", models_folder / "dicetalk.safetensors") == checkpoints / "another.safetensors"
    key = folder_paths.folder_names_and_paths
    before = key["dice_talk"]
    key["dice_talk"] = ([str(tmp_path)], before[1])
    (tmp_path / "unet.pth").touch()
    assert find("auto", tmp_path / "unet.pth") == checkpoints / "svd_xt_1_1.safetensors"
    key["dice_talk"] = before


def test_missing_files_are_named(nodes: dict[str, Any], models_folder: Path) -> None:
    (models_folder / "alone").mkdir()
    (models_folder / "alone" / "unet.pth").touch()
    with pytest.raises(CheckpointError, match=r"audio_linear\.pth"):
        nodes["DICETalk_LoadModel"].execute("alone/unet.pth", "auto", "fp32")


def test_what_the_templates_name_is_offered(extension: Any, node_module: Any) -> None:
    import folder_paths

    folder = Path(folder_paths.get_input_directory())
    templates = (Path(__file__).parents[2] / "example_workflows").glob("*.json")
    named = {name for template in templates for name in re.findall(r'"(dicetalk_\w+\.\w+)"', template.read_text())}
    assert len(named) == 5 and named <= {path.name for path in folder.iterdir()}
    (folder / "dicetalk_portrait.png").write_bytes(b"mine")
    node_module("extension").offer_examples()
    assert (folder / "dicetalk_portrait.png").read_bytes() == b"mine"


def test_an_input_folder_that_cannot_be_written_costs_the_examples_alone(
    node_module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import folder_paths

    (tmp_path / "file").touch()
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path / "file" / "input"))
    with caplog.at_level(logging.WARNING, "dicetalk"):
        node_module("extension").offer_examples()
    (message,) = caplog.messages
    assert "templates" in message and str(tmp_path) in message


def test_an_unknown_emotion_file(nodes: dict[str, Any], model: Any) -> None:
    nodes["DICETalk_SaveEmotion"].execute(model, model.emotion(model.dice.priors["sad"]), "known")
    with pytest.raises(EmotionError, match="no saved emotion 'x'"):
        nodes["DICETalk_LoadEmotion"].execute(model, "x")


@pytest.mark.parametrize(
    "name",
    [
        "../out",
        "..",
        "a/b",
        "a\\b",
        "C:",
        "C:\\a",
        "CON",
        "nul.x",
        "lpt1 ",
        "a.",
        ".a",
        "",
        " ",
        "a\0b",
        "x" * 300,
        "𠀀" * 64,
        "\ud800",
    ],
)
def test_names_that_no_emotion_may_have(node_module: Any, name: str) -> None:
    folders = node_module("folders")
    for use in (folders.check_emotion_name, folders.new_emotion_path, folders.emotion_path):
        with pytest.raises(EmotionError):
            use(name)
