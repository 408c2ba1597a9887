"""Finding and loading a complete model of random weights, whole and broken."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from released_files import SMALL, random_weight, write_priors, write_released, write_svd_single_file, write_whisper
from safetensors.torch import load_file, save_file
from torch import nn

from dicetalk.checkpoints import files
from dicetalk.checkpoints.convert import convert_model
from dicetalk.checkpoints.doctor import inspect_model
from dicetalk.checkpoints.find import find_files
from dicetalk.checkpoints.load import DiceModel, load_model
from dicetalk.config import FULL
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.errors import Cancelled, CheckpointError
from dicetalk.hooks import Hooks

NETWORKS = ("unet", "audio_projection", "emotion_model", "pose_guider", "vae", "image_encoder", "whisper", "flownet")
FLOAT32 = ("whisper", "flownet")
SVD = Path("stable-video-diffusion-img2vid-xt")


def change(path: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = torch.load(path, weights_only=True)
    edit(tensors)
    torch.save(tensors, path)


def load(folder: Path, **options: Any) -> DiceModel:
    return load_model(folder, config=SMALL, **options)


def test_every_network_is_filled_and_ready(released: Path) -> None:
    before = torch.get_rng_state()
    model = load(released)
    assert torch.equal(before, torch.get_rng_state())
    for name in NETWORKS:
        network = getattr(model, name)
        assert not network.training
        dtype = torch.float32 if name in FLOAT32 else torch.float16
        for key, tensor in network.state_dict().items():
            expected = random_weight(_stored_name(name, key), tuple(tensor.shape), tensor.dtype)
            assert tensor.dtype == dtype, (name, key)
            assert torch.equal(tensor, expected), (name, key)
        assert not any(parameter.requires_grad for parameter in network.parameters())
        assert not any(buffer.is_meta for buffer in network.buffers())
    assert list(model.priors) == list(PRESET_NAMES)
    for name, prior in model.priors.items():
        stored = np.load(released / "emotion" / f"{name}.npy", allow_pickle=True).item()["mu"]
        assert np.array_equal(prior.mu.numpy(), stored[0])
    assert model.detector_path is None
    assert model.config == SMALL
    assert model.dtype == torch.float16


def _stored_name(network: str, key: str) -> str:
    return {"flownet": key, "whisper": f"model.encoder.{key}"}.get(network, key)


@torch.inference_mode()
def test_networks_run(released: Path) -> None:
    model = load(released, dtype=torch.float32)
    frames = model.vae.decode(torch.randn(3, 4, 8, 8), num_frames=3).sample
    assert frames.isfinite().all()
    size = SMALL.image_encoder.image_size
    assert model.image_encoder(torch.randn(1, 3, size, size)).image_embeds.isfinite().all()
    assert model.whisper(torch.randn(1, 80, 3000)).last_hidden_state.isfinite().all()
    assert model.flownet(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_dtype_is_the_one_asked_for(released: Path, dtype: torch.dtype) -> None:
    model = load(released, dtype=dtype)
    half = load(released)
    for name in NETWORKS:
        expected = torch.float32 if name in FLOAT32 else dtype
        weights, stored = getattr(model, name).state_dict(), getattr(half, name).state_dict()
        assert all(torch.equal(weights[key], stored[key].to(expected)) for key in stored)


def test_layers_come_from_the_given_namespace(released: Path) -> None:
    class Operations:
        def __getattr__(self, name: str) -> type:
            return getattr(nn, name)

        class Linear(nn.Linear):
            pass

    def no_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
        return torch.zeros_like(q)

    model = load(released, operations=Operations(), attention=no_attention)
    for name in ("unet", "audio_projection", "emotion_model"):
        linear = [module for module in getattr(model, name).modules() if isinstance(module, nn.Linear)]
        assert linear and all(type(module) is Operations.Linear for module in linear)
    assert not model.emotion_model.tokens(torch.zeros(1, 256, dtype=torch.float16)).any()


def test_single_file_gives_the_same_as_the_folder(released: Path, tmp_path: Path) -> None:
    expected = load(released)
    for cut_down in (False, True):
        path = tmp_path / f"svd_xt_{cut_down}.safetensors"
        write_svd_single_file(path, SMALL, cut_down)
        model = load(released, svd=path)
        for name in ("vae", "image_encoder"):
            weights, other = getattr(expected, name).state_dict(), getattr(model, name).state_dict()
            same = [key for key in weights if not (cut_down and key.startswith("quant_conv."))]
            assert all(torch.equal(weights[key], other[key]) for key in same)


@pytest.mark.parametrize(
    "layout",
    [
        {"": "checkpoints"},
        {"unet.pth": "DICE-Talk/unet.pth", "emo_model.pth": "DICE-Talk/emo_model.pth"},
        {"emotion": "examples/emo", "RIFE/flownet.pkl": "flownet.pkl"},
        {"emotion": "DICE-Talk/emotion", str(SVD): f"checkpoints/{SVD}-1-1"},
        {f"{SVD}/vae": "vae", f"{SVD}/image_encoder": "image_encoder"},
        {f"{SVD}/vae/diffusion_pytorch_model.fp16.safetensors": f"{SVD}/vae/diffusion_pytorch_model.safetensors"},
    ],
)
def test_usual_layouts_are_found(folder: Path, layout: dict[str, str]) -> None:
    for source, target in layout.items():
        moving = [folder / source] if source else list(folder.iterdir())
        for path in moving:
            new = folder / target if source else folder / target / path.name
            new.parent.mkdir(parents=True, exist_ok=True)
            path.rename(new)
    assert not find_files(folder).missing
    load(folder)


def test_svd_elsewhere_is_used_instead(released: Path, tmp_path: Path) -> None:
    inside = find_files(released)
    shutil.copytree(released / SVD, tmp_path / "elsewhere")
    found = find_files(released, tmp_path / "elsewhere")
    assert found.paths[files.VAE] != inside.paths[files.VAE]
    assert found.paths[files.VAE].is_relative_to(tmp_path / "elsewhere")
    write_svd_single_file(tmp_path / "comfy" / "svd_xt_1_1.safetensors", SMALL)
    assert find_files(released, tmp_path / "comfy").paths[files.IMAGE_ENCODER].name == "svd_xt_1_1.safetensors"
    with pytest.raises(CheckpointError, match=r"nothing\.safetensors: there is no such file or folder"):
        load(released, svd=tmp_path / "nothing.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"2 files of the model are missing(?s:.*)looked for in .*empty"):
        load(released, svd=tmp_path / "empty")


def test_svd_without_temporal_decoder_is_not_taken(folder: Path) -> None:
    shutil.rmtree(folder / SVD)
    write_svd_single_file(folder / "svd_xt_image_decoder.safetensors", SMALL)
    assert files.VAE not in find_files(folder).paths


def test_whisper_may_be_a_torch_file(folder: Path) -> None:
    expected = load(folder).whisper.state_dict()
    shutil.rmtree(folder / "whisper-tiny")
    write_whisper(folder / "whisper-tiny", SMALL.audio, "pytorch_model.bin")
    weights = load(folder).whisper.state_dict()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


def test_detector_is_optional(folder: Path) -> None:
    (folder / "yoloface_v5m.pt").write_bytes(b"not looked at here")
    assert load(folder).detector_path == folder / "yoloface_v5m.pt"


def test_missing_files_are_named_all_at_once(tmp_path: Path) -> None:
    write_priors(tmp_path / "emotion")
    (tmp_path / "emotion" / "sad.npy").unlink()
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path)
    message = str(caught.value)
    for file in files.MODEL_FILES:
        named = (file in files.PRIORS.values() and file.name != "emotion/sad.npy") or file.optional
        assert (file.name in message) != named, file.name
    for word in ("9 files", "huggingface.co/EEEELY/DICE-Talk", "openai/whisper-tiny", "licence", "doctor", "download"):
        assert word in message


@pytest.mark.parametrize(
    ("name", "lost", "field", "dropped"),
    [
        ("emo_model.pth", "classifier.", "emotion_model", "classifier"),
        ("RIFE/flownet.pkl", "module.block_tea.", "flownet", "block_tea"),
    ],
)
def test_what_inference_does_not_need_may_be_absent(
    folder: Path, name: str, lost: str, field: str, dropped: str
) -> None:
    def drop(tensors: dict[str, torch.Tensor]) -> None:
        for key in [key for key in tensors if key.startswith(lost)]:
            del tensors[key]

    change(folder / name, drop)
    network = getattr(load(folder), field)
    assert getattr(network, dropped) is None
    assert not any(tensor.is_meta for tensor in network.state_dict().values())


def test_half_a_classifier_is_refused(folder: Path) -> None:
    change(folder / "emo_model.pth", lambda tensors: tensors.pop("classifier.fc2.bias"))
    with pytest.raises(CheckpointError, match=r"emo_model\.pth does not fit .* 1 of \d+ tensors missing \(classifier"):
        load(folder)


def test_only_module_keys_of_the_flownet_count(folder: Path) -> None:
    change(folder / "RIFE" / "flownet.pkl", lambda tensors: tensors.update({"epoch": torch.tensor(3)}))
    load(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("conv_out.bias"), r"1 of \d+ tensors missing \(conv_out\.bias\)"),
        (lambda t: t.update(extra=torch.ones(1)), r"1 of \d+ tensors unexpected \(extra\)"),
        (lambda t: t.update({"conv_out.bias": torch.ones(5)}), r"conv_out\.bias \(5,\) instead of \(4,\)"),
        (lambda t: [t.pop(key) for key in list(t)[:9]], r"9 of \d+ tensors missing \(.*, \.\.\.\)"),
        (
            lambda t: t["conv_in.weight"].view(-1)[3:4].fill_(float("nan")),
            r"NaN or infinite values in 'conv_in\.weight'",
        ),
        (
            lambda t: t["conv_in.weight"].view(-1)[3:4].fill_(float("inf")),
            r"NaN or infinite values in 'conv_in\.weight'",
        ),
    ],
)
def test_a_wrong_unet_is_refused_with_the_way_on(folder: Path, edit: Callable, message: str) -> None:
    change(folder / "unet.pth", edit)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(folder)
    for word in (str(folder / "unet.pth"), "Expected: UNet", "huggingface.co/EEEELY/DICE-Talk", "dicetalk doctor"):
        assert word in str(caught.value)


def test_numbers_too_large_for_half_precision_are_named(folder: Path) -> None:
    change(folder / "pose_guider.pth", lambda t: t.update({"conv_in.bias": torch.full((8,), 1e6)}))
    with pytest.raises(CheckpointError, match=r"'conv_in\.bias' \(as torch\.float16\)"):
        load(folder)
    assert load(folder, dtype=torch.float32).pose_guider.conv_in.bias[0] == 1e6


def test_released_weights_do_not_fit_another_size(released: Path) -> None:
    with pytest.raises(CheckpointError, match=r"unet\.pth does not fit the network: \d+ of 1556 tensors missing"):
        load_model(released, config=FULL)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 60000, "not valid JSON"),
        ("[]", "not a Whisper config"),
        ('{"d_model": "big"}', "its d_model is 'big'"),
        ({"d_model": 384}, "says d_model = 384; the audio projection needs 32"),
        ({"encoder_layers": 10**9}, "its encoder_layers is 1000000000"),
        ({"encoder_layers": 4}, "says encoder_layers = 4; the audio projection needs 2"),
        ({"num_mel_bins": 128}, "says num_mel_bins = 128"),
        ({"encoder_attention_heads": 5}, "5 heads, which do not divide"),
        ({"encoder_ffn_dim": 64}, "does not fit the network"),
    ],
)
def test_a_wrong_whisper_is_refused(folder: Path, config: Any, message: str) -> None:
    path = folder / "whisper-tiny" / "config.json"
    if isinstance(config, dict):
        config = json.dumps(json.loads(path.read_text()) | config)
    path.write_text(config)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_old_position_ids_in_the_image_encoder_are_ignored(folder: Path) -> None:
    path = folder / SVD / "image_encoder" / "model.fp16.safetensors"
    save_file(load_file(path) | {"vision_model.embeddings.position_ids": torch.arange(17)[None]}, path)
    load(folder)


def test_a_hostile_prior_is_refused_and_does_not_run(folder: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return open, (str(tmp_path / "marker"), "w")

    np.save(folder / "emotion" / "happy.npy", {"mu": Evil()}, allow_pickle=True)
    with pytest.raises(CheckpointError, match=r"happy\.npy"):
        load(folder)
    assert not (tmp_path / "marker").exists()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="asks Linux where memory comes from")
@pytest.mark.parametrize(
    ("field", "name"),
    [("unet", "unet.pth"), ("vae", "diffusion_pytorch_model.fp16.safetensors"), ("flownet", "flownet.pkl")],
)
def test_weights_stay_views_of_their_file(released: Path, field: str, name: str) -> None:
    network = getattr(load(released), field)
    mapped = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(f"/{name}")]
    ranges = [tuple(int(end, 16) for end in line[0].split("-")) for line in mapped]
    assert ranges
    for parameter in network.parameters():
        assert any(start <= parameter.data_ptr() < end for start, end in ranges)


def test_library_imports_without_the_hub_diffusers_or_torchvision(released: Path) -> None:
    code = (
        "import sys; import dicetalk.checkpoints.load, dicetalk.checkpoints.doctor, dicetalk.checkpoints.convert; "
        "import dicetalk.checkpoints.download; "
        "print([m for m in ('huggingface_hub', 'diffusers', 'transformers', 'torchvision') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.fixture
def full_size(tmp_path: Path) -> Iterator[Path]:
    """The release's sizes, 4.9 GB; removed at once, since pytest would keep three of them."""
    write_released(tmp_path / "full", FULL)
    yield tmp_path / "full"
    shutil.rmtree(tmp_path / "full")


@pytest.mark.full
def test_full_size_is_inspected_loaded_and_converted(full_size: Path) -> None:
    start = time.monotonic()
    assert inspect_model(full_size).complete
    assert time.monotonic() - start < 30
    before = anonymous_memory()
    model = load_model(full_size)
    assert anonymous_memory() - before < 1 << 30  # 4.9 GB stay in their files
    assert sum(tensor.numel() for tensor in model.unet.state_dict().values()) == 1_626_859_242
    assert len(model.vae.state_dict()) == 374
    del model
    before = anonymous_memory()
    convert_model(full_size, full_size / "dicetalk.safetensors")
    assert anonymous_memory() - before < 1 << 30
    for file in files.DICE_FILES:
        (full_size / file.name).unlink()
    assert inspect_model(full_size).complete
    assert load_model(full_size).config == FULL


def anonymous_memory() -> int:
    """Bytes that belong to this process and to no file (Linux)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) << 10


def test_a_file_says_which_networks_are_meant(folder: Path) -> None:
    for name in ("dicetalk-a.safetensors", "dicetalk-b.safetensors"):
        (folder / name).touch()
    assert find_files(folder).paths[files.PACKED] == folder / "dicetalk-a.safetensors"
    assert find_files(folder / "dicetalk-b.safetensors").paths[files.PACKED] == folder / "dicetalk-b.safetensors"
    released = find_files(folder / "unet.pth")
    assert files.PACKED not in released.paths and released.paths[files.UNET] == folder / "unet.pth"
    assert not released.missing


def test_shared_folders_lend_all_but_the_networks_of_dice_talk(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for file in files.DICE_FILES:
        (folder / file.name).rename(own / file.name)
    found = find_files(own, shared=[tmp_path / "absent", folder])
    assert not found.missing
    assert found.paths[files.WHISPER].is_relative_to(folder) and found.paths[files.UNET].is_relative_to(own)
    (own / files.UNET.name).rename(folder / files.UNET.name)
    assert find_files(own, shared=[folder]).missing == (files.UNET,)


def test_loading_reports_and_can_be_stopped(released: Path) -> None:
    heard = []
    load(released, hooks=Hooks(progress=lambda stage, done, total, preview: heard.append((stage, done, total))))
    assert heard[0][:2] == ("load", 1) and heard[-1][1] == heard[-1][2] == len(heard)
    with pytest.raises(Cancelled):
        load(released, hooks=Hooks(cancelled=lambda: len(heard) > 3))
