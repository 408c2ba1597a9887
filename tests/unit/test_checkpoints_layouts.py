"""Files as other programs lay them out: the released program, and the READMEs of two packs for ComfyUI."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fake_hub import SmallDetector
from released_files import SMALL, write_priors, write_released

from dicetalk.checkpoints import files
from dicetalk.checkpoints.doctor import format_report, inspect_model
from dicetalk.checkpoints.find import find_files
from dicetalk.checkpoints.load import load_model

DICE_PACK = ("audio_linear.pth", "emo_model.pth", "pose_guider.pth", "unet.pth")
"""The folder ``models/dice_talk`` in the README of ComfyUI_DICE_Talk, which takes the rest from ``models/sonic``."""
SONIC_PACK = ("audio2bucket.pth", "audio2token.pth", "unet.pth")
"""What only Sonic has of the folder ``models/sonic`` in the README of ComfyUI_Sonic."""
SHARED = (
    "yoloface_v5m.pt",
    "whisper-tiny/config.json",
    "whisper-tiny/model.safetensors",
    "whisper-tiny/preprocessor_config.json",
    "RIFE/flownet.pkl",
)
"""What both READMEs list."""


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every file, SVD-XT as one."""
    folder = tmp_path_factory.mktemp("single")
    write_released(folder, SMALL, "single-file")
    torch.jit.script(SmallDetector()).save(folder / "yoloface_v5m.pt")
    return folder


def place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())


@pytest.fixture
def comfyui(single: Path, tmp_path: Path) -> Path:
    """A ComfyUI with both packs and their models."""
    models = tmp_path / "ComfyUI" / "models"
    for name in DICE_PACK:
        place(single / name, models / "dice_talk" / name)
    for name in SHARED:
        place(single / name, models / "sonic" / name)
    for name in SONIC_PACK:
        (models / "sonic" / name).write_bytes(b"of another network")
    place(single / "svd_xt.safetensors", models / "checkpoints" / "svd_xt.safetensors")
    write_priors(tmp_path / "ComfyUI" / "custom_nodes" / "ComfyUI_DICE_Talk" / "examples" / "emo")
    return tmp_path / "ComfyUI"


@pytest.mark.parametrize(
    "svd",
    ["checkpoints/svd_xt.safetensors", "checkpoints/svd_xt_1_1.safetensors", "checkpoints/SVD/svd_xt.safetensors"],
)
def test_both_packs_files_make_a_complete_model(comfyui: Path, svd: str) -> None:
    models = comfyui / "models"
    place(models / "checkpoints" / "svd_xt.safetensors", models / "kept")
    (models / "checkpoints" / "svd_xt.safetensors").unlink()
    place(models / "kept", models / svd)
    report = inspect_model(models / "dice_talk", config=SMALL)
    assert report.complete, format_report(report)
    assert {
        report.path.relative_to(models).parts[0] for report in report.files if report.path.is_relative_to(models)
    } == {
        "dice_talk",
        "sonic",
        "checkpoints",
    }
    model = load_model(models / "dice_talk", config=SMALL)
    assert model.flownet is not None and model.detector_path == models / "sonic" / "yoloface_v5m.pt"


def test_everything_in_the_packs_own_folder(comfyui: Path, single: Path) -> None:
    models = comfyui / "models"
    for name in SHARED:
        place(single / name, models / "dice_talk" / name)
        (models / "sonic" / name).unlink()
    assert inspect_model(models / "dice_talk", config=SMALL).complete


def test_sonics_unet_is_never_taken(comfyui: Path) -> None:
    (comfyui / "models" / "dice_talk" / "unet.pth").unlink()
    assert find_files(comfyui / "models" / "dice_talk").missing == (files.UNET,)


def test_a_diffusers_folder_beside(comfyui: Path, released: Path) -> None:
    (comfyui / "models" / "checkpoints" / "svd_xt.safetensors").unlink()
    for name in (files.VAE.name, files.IMAGE_ENCODER.name):
        place(released / name, comfyui / "models" / "diffusers" / name)
    assert inspect_model(comfyui / "models" / "dice_talk", config=SMALL).complete


def move(source: str, target: str) -> Callable[[Path], None]:
    def moved(folder: Path) -> None:
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / source).rename(folder / target)

    return moved


@pytest.mark.parametrize(
    "target",
    [
        "emo",
        "examples/emo",
        "emotion",
        "priors",
        "DICE-Talk/examples/emo",
        "DICE-Talk-main/examples/emo",
        "../DICE-Talk/examples/emo",
        "../dice_talk/examples/emo",
        "../examples/emo",
        "../../custom_nodes/ComfyUI_DICE_Talk/examples/emo",
    ],
)
def test_places_of_the_priors(folder: Path, target: str) -> None:
    """In the folder, in a clone of the program in or beside it, and with the clone's own folder of weights."""
    nested = folder.parent / "comfyui" / "models"
    nested.parent.mkdir()
    folder.rename(nested)
    move("emotion", "kept")(nested)
    assert len(find_files(nested).missing) == 8
    move("kept", target)(nested)
    assert not find_files(nested).missing
    assert len(load_model(nested, config=SMALL).priors) == 8


def test_priors_may_lie_bare(folder: Path) -> None:
    for path in list((folder / "emotion").iterdir()):
        path.rename(folder / path.name)
    assert not find_files(folder).missing


def test_examples_emotion_is_no_place(folder: Path) -> None:
    """No release has ever had such a folder."""
    move("emotion", "examples/emotion")(folder)
    assert len(find_files(folder).missing) == 8


def test_the_released_programs_own_folder(single: Path, released: Path, tmp_path: Path) -> None:
    """As its README lays out a clone, with ``checkpoints`` as the model folder and with the clone itself."""
    clone = tmp_path / "anything"
    for name in DICE_PACK:
        place(single / name, clone / "checkpoints" / "DICE-Talk" / name)
    for name in SHARED:
        place(single / name, clone / "checkpoints" / name)
    for file in (files.VAE, files.IMAGE_ENCODER):
        place(released / file.name, clone / "checkpoints" / file.name)
    write_priors(clone / "examples" / "emo")
    for chosen in (clone, clone / "checkpoints"):
        report = inspect_model(chosen, config=SMALL)
        assert report.complete, format_report(report)
