"""Sonic's files: the public list, the layouts in which people have them, and every door that takes a model's files."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import SHARED
from fake_hub import SONIC_LISTING, FakeHub
from released_files import SMALL, SMALL_SONIC, random_weight, write_networks, write_released
from torch import nn

from dicetalk.checkpoints import files, networks, sources
from dicetalk.checkpoints.convert import convert_model
from dicetalk.checkpoints.doctor import format_report, inspect_model
from dicetalk.checkpoints.download import download_model
from dicetalk.checkpoints.find import find_files, variant_in, variants_in
from dicetalk.checkpoints.load import load_model
from dicetalk.checkpoints.strict import check_names_and_shapes
from dicetalk.checkpoints.variants import FULL, RELEASED, SONIC
from dicetalk.cli import main
from dicetalk.cli.parser import VARIANTS
from dicetalk.config import SONIC as SIZES
from dicetalk.errors import CheckpointError
from dicetalk.hooks import Hooks
from dicetalk.layers import sdpa_attention

KEYS = SHARED / "golden_sonic" / "keys"
DICE_KEYS = Path(__file__).parents[1] / "golden" / "data" / "keys"
EMOTION_ADAPTER = (".to_k_ip.1.weight", ".to_v_ip.1.weight")
NUMBERS = {"unet.pth": 1_575_741_162, "audio2token.pth": 54_300_672, "audio2bucket.pth": 21_762_050}
"""Numbers in each published file, which are float32."""


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete small Sonic, as its hub lays it out; tests do not change it."""
    folder = tmp_path_factory.mktemp("sonic")
    write_released(folder, SMALL_SONIC, variant=SONIC)
    return folder


@pytest.fixture
def models(released: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(released, tmp_path / "models")


def dice_keys(file: str) -> dict[str, list[int]]:
    return json.loads((DICE_KEYS / f"{file}.keys.json").read_text())


def published_keys() -> dict[str, dict[str, list[int]]]:
    """Names and shapes in each file, out of those of DICE-Talk's, which the same authors published."""
    unet = {name: shape for name, shape in dice_keys("unet.pth").items() if not name.endswith(EMOTION_ADAPTER)}
    sizes = {"proj1": (50 * 384 + 1024, 1024), "proj2": (1024, 1024), "proj3": (1024, 2)}
    layers = ({f"{name}.weight": [out, of], f"{name}.bias": [out]} for name, (of, out) in sizes.items())
    buckets = {name: shape for layer in layers for name, shape in layer.items()}
    return {"unet.pth": unet, "audio2token.pth": dice_keys("audio_linear.pth"), "audio2bucket.pth": buckets}


def test_names_and_shapes_are_the_published_ones() -> None:
    for network in SONIC.networks:
        keys = published_keys()[network.file.base]
        if KEYS.is_dir():
            assert keys == json.loads((KEYS / f"{network.file.base}.keys.json").read_text())
        tensors = {name: torch.empty(shape, device="meta") for name, shape in keys.items()}
        check_names_and_shapes(Path(network.file.base), built(network), tensors)
        numbers = sum(tensor.numel() for tensor in tensors.values())
        assert numbers == NUMBERS[network.file.base]
        assert 0 < network.file.bytes - 4 * numbers < 1_000_000, "float32, and a little of the zip archive"
    assert len(published_keys()["unet.pth"]) == len(dice_keys("unet.pth")) - 64


def built(network: networks.DiceNetwork) -> nn.Module:
    return networks.dice_network(network, SIZES, nn, sdpa_attention)


def test_the_registry_has_the_public_files() -> None:
    assert {file.remote for file in files.SONIC_FILES} <= set(SONIC_LISTING)
    assert files.SONIC_UNET.url == "https://huggingface.co/LeonJoe13/Sonic/resolve/main/Sonic/unet.pth"
    assert SONIC.licences[sources.SONIC.page] == "CC BY-NC-SA 4.0"
    assert [adapter.name for adapter in SONIC.adapters] == ["audio"] and SONIC.priors == {}
    assert SONIC.marks == {"audio2token.pth", "audio2bucket.pth"}
    assert FULL.marks == {"audio_linear.pth", "emo_model.pth", "pose_guider.pth"}
    assert tuple(variant.name for variant in RELEASED) == VARIANTS


def test_every_network_is_filled_and_ready(released: Path) -> None:
    assert variant_in(released) is SONIC
    model = load_model(released, config=SMALL_SONIC)
    for field, dtype in (
        ("unet", torch.float16),
        ("audio_projection", torch.float32),
        ("audio_to_bucket", torch.float32),
    ):
        for key, tensor in getattr(model, field).state_dict().items():
            assert tensor.dtype == dtype, (field, key)
            stored = random_weight(key, tuple(tensor.shape), torch.float16)
            assert torch.equal(tensor, stored.to(dtype)), (field, key)
    assert model.adapters == SONIC.adapters and model.config == SMALL_SONIC
    assert (model.emotion_model, model.pose_guider, model.priors, model.embedder) == (None, None, {}, None)
    assert model.flownet is not None and model.whisper is not None


def change(path: Path, name: str, tensor: torch.Tensor | None) -> None:
    tensors = torch.load(path, weights_only=True)
    del tensors[name]
    torch.save(tensors if tensor is None else tensors | {name: tensor}, path)


@pytest.mark.parametrize("file", SONIC.own_files, ids=lambda file: file.base)
def test_loading_is_strict(models: Path, file: files.ModelFile) -> None:
    name = next(iter(torch.load(models / file.name, weights_only=True)))
    change(models / file.name, name, torch.zeros(3))
    with pytest.raises(CheckpointError, match=rf"{file.base}.* of another shape .*{file.what}.*LeonJoe13/Sonic"):
        load_model(models, config=SMALL_SONIC)
    change(models / file.name, name, None)
    with pytest.raises(CheckpointError, match=r"1 of \d+ tensors missing"):
        load_model(models, config=SMALL_SONIC)


def test_dice_talks_unet_does_not_pass_for_sonics(models: Path) -> None:
    write_networks(models / "dice", SMALL, FULL)
    shutil.copy(models / "dice" / "unet.pth", models / "Sonic" / "unet.pth")
    with pytest.raises(CheckpointError, match=r"tensors unexpected .*to_k_ip\.1"):
        load_model(models, config=SMALL_SONIC)


def test_missing_files_are_named_with_the_way_to_fetch_them(models: Path) -> None:
    (models / "Sonic" / "audio2bucket.pth").unlink()
    with pytest.raises(CheckpointError) as caught:
        load_model(models)
    message = str(caught.value)
    assert "Sonic/audio2bucket.pth" in message and "huggingface.co/LeonJoe13/Sonic" in message
    assert "released Sonic" in message and "`dicetalk download --variant sonic`" in message
    assert "emo_model" not in message and "neutral.npy" not in message


LAYOUTS = {
    "the hub's": ("", {}),
    "the program's": ("", {"": "checkpoints"}),
    "its own folder": ("Sonic", {}),
    "its unet": ("Sonic/unet.pth", {}),
    "a ComfyUI pack's": ("models/sonic", {"": "models/sonic", "models/sonic/Sonic/*": "models/sonic"}),
    "a ComfyUI pack's unet": ("models/sonic/unet.pth", {"": "models/sonic", "models/sonic/Sonic/*": "models/sonic"}),
    "a ComfyUI pack's with SVD beside": (
        "models/sonic",
        {
            "": "models/sonic",
            "models/sonic/Sonic/*": "models/sonic",
            "models/sonic/stable-video-diffusion-img2vid-xt": "models/diffusers",
        },
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_in_which_people_have_the_files(released: Path, tmp_path: Path, layout: str) -> None:
    chosen, moves = LAYOUTS[layout]
    root = tmp_path / "root"
    shutil.copytree(released, root / moves.get("", ""), symlinks=True)
    for source, target in moves.items():
        for path in root.glob(source) if source else ():
            inside = root / target / (path.name if "*" in source else "")
            inside.parent.mkdir(parents=True, exist_ok=True)
            path.rename(inside)
    assert variant_in(root / chosen) is SONIC
    found = find_files(root / chosen)
    assert not found.missing and found.variant is SONIC, [file.name for file in found.missing]
    assert inspect_model(root / chosen, config=SMALL_SONIC).complete


def test_both_models_in_one_folder_are_kept_apart(models: Path) -> None:
    """As two downloads leave them: what both use is there once."""
    write_released(models, SMALL)
    assert variants_in(models) == [FULL, SONIC]
    assert variant_in(models / "Sonic") is SONIC and variant_in(models / "unet.pth") is FULL
    dice = find_files(models)
    sonic = find_files(models, variant=SONIC)
    assert not dice.missing and not sonic.missing
    assert dice.paths[files.UNET] == models / "unet.pth"
    assert sonic.paths[files.SONIC_UNET] == models / "Sonic" / "unet.pth"
    assert dice.paths[files.WHISPER] == sonic.paths[files.WHISPER] == find_files(models / "Sonic").paths[files.WHISPER]
    text = format_report(inspect_model(models, config=SMALL))
    assert text.startswith(f"{models}: released DICE-Talk\n")
    assert f"also holds released Sonic: `dicetalk doctor {models} --variant sonic`" in text
    assert load_model(models / "Sonic", config=SMALL_SONIC).emotion_model is None
    assert load_model(models, config=SMALL).emotion_model is not None


def test_a_folder_with_sonic_alone_has_no_unet_of_dice_talks(models: Path) -> None:
    for path in (models / "Sonic").iterdir():
        path.rename(models / path.name)
    assert files.UNET not in find_files(models, variant=FULL).paths
    assert variants_in(models) == [SONIC]


def test_the_doctor_knows_sonic(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = inspect_model(models, config=SMALL_SONIC)
    assert report.complete and [each.file for each in report.files] == list(SONIC.files)
    text = format_report(report)
    assert text.startswith(f"{models}: released Sonic\n") and text.endswith("The model is complete.")
    (models / "Sonic" / "audio2token.pth").write_text("<html>")
    text = format_report(inspect_model(models, config=SMALL_SONIC))
    assert "is a web page" in text and f"`dicetalk download {models} --variant sonic`" in text
    assert main(["doctor", str(models / "nothing"), "--variant", "sonic"]) == 1
    shown = capsys.readouterr().out
    assert "Sonic/unet.pth" in shown and "(8.32 GB)" in shown and "emo_model" not in shown


def test_a_converted_file_is_recognised(models: Path, tmp_path: Path) -> None:
    expected = load_model(models, config=SMALL_SONIC)
    out = models / "dicetalk-sonic.safetensors"
    convert_model(models, out, config=SMALL_SONIC)
    shutil.rmtree(models / "Sonic")
    assert variants_in(models) == [SONIC] and variant_in(out) is SONIC
    assert inspect_model(models).complete
    for place in (models, out):
        model = load_model(place)
        assert model.config == SMALL_SONIC and model.adapters == SONIC.adapters
        for field in ("unet", "audio_projection", "audio_to_bucket"):
            weights, others = getattr(model, field).state_dict(), getattr(expected, field).state_dict()
            assert all(torch.equal(weights[name], others[name]) for name in others), field
            assert {tensor.dtype for tensor in weights.values()} == {next(iter(others.values())).dtype}
    # DICE-Talk beside it, converted too, under a name that sorts after.
    write_released(tmp_path / "dice", SMALL)
    convert_model(tmp_path / "dice", models / "dicetalk.safetensors", config=SMALL)
    assert variants_in(models) == [FULL, SONIC]
    assert find_files(models).paths[files.PACKED] == models / "dicetalk.safetensors"
    assert find_files(models, variant=SONIC).paths[files.SONIC_PACKED] == out
    with pytest.raises(CheckpointError, match="holds released Sonic, not released DICE-Talk"):
        load_model(out, variant=FULL)


def test_a_download_fetches_what_sonic_needs_and_no_more(hub: FakeHub, tmp_path: Path) -> None:
    notices: list[str] = []
    download_model(tmp_path, Hooks(notice=notices.append), config=SMALL_SONIC, variant=SONIC)
    there = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert there == {file.name for file in SONIC.files}
    assert inspect_model(tmp_path, config=SMALL_SONIC).complete
    (source,) = [notice for notice in notices if notice.startswith("LeonJoe13/Sonic at ")]
    assert "licence: CC BY-NC-SA 4.0 (https://huggingface.co/LeonJoe13/Sonic)" in source
    assert not any("toto222" in notice for notice in notices)
    # What the folder holds is what is completed; nothing has to be said again.
    (tmp_path / "Sonic" / "unet.pth").unlink()
    hub.requests.clear()
    download_model(tmp_path, config=SMALL_SONIC)
    assert {request.path for request in hub.requests} == {"Sonic/unet.pth"}


def test_sonics_own_folder_gets_its_networks_without_another_one_inside(hub: FakeHub, tmp_path: Path) -> None:
    download_model(tmp_path / "Sonic", config=SMALL_SONIC, variant=SONIC)
    assert (tmp_path / "Sonic" / "unet.pth").is_file() and not (tmp_path / "Sonic" / "Sonic").exists()
    assert inspect_model(tmp_path / "Sonic", config=SMALL_SONIC).complete


def test_a_download_beside_dice_talk_fetches_the_three_networks(hub: FakeHub, tmp_path: Path) -> None:
    download_model(tmp_path, config=SMALL)
    hub.requests.clear()
    download_model(tmp_path, config=SMALL_SONIC, variant=SONIC)
    assert {request.path for request in hub.requests} == {file.remote for file in files.SONIC_FILES}
    assert variants_in(tmp_path) == [FULL, SONIC]


def test_a_converted_file_whose_variant_is_unknown_is_refused(models: Path) -> None:
    from safetensors.torch import load_file, save_file

    convert_model(models, models / "dicetalk.safetensors", config=SMALL_SONIC)
    tensors = load_file(models / "dicetalk.safetensors")
    metadata = {"format": "dicetalk.model", "version": "1", "config": json.dumps(SMALL_SONIC.to_dict())}
    save_file(tensors, models / "dicetalk.safetensors", metadata | {"variant": "tails"})
    with pytest.raises(CheckpointError, match=r"variant 'tails'; this program knows full, sonic"):
        load_model(models / "dicetalk.safetensors")
    # Sizes without the network that predicts motion.
    plain = json.dumps(replace(SMALL_SONIC, bucket=None).to_dict())
    save_file(tensors, models / "dicetalk.safetensors", metadata | {"variant": "sonic", "config": plain})
    with pytest.raises(CheckpointError, match="no network can be built"):
        load_model(models / "dicetalk.safetensors")
