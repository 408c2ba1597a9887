"""The converted file: written whole or not at all, read back the same, and not trusted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from released_files import SMALL, write_released
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dicetalk.checkpoints import files
from dicetalk.checkpoints.convert import convert_model
from dicetalk.checkpoints.load import DiceModel, load_model
from dicetalk.checkpoints.packed import read_packed
from dicetalk.checkpoints.read import DamagedFileError
from dicetalk.errors import Cancelled, CheckpointError, OutputError
from dicetalk.hooks import Hooks

NETWORKS = ("unet", "audio_projection", "emotion_model", "pose_guider")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("released")
    write_released(folder)
    return folder


@pytest.fixture(scope="module")
def packed(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "dicetalk.safetensors"
    convert_model(released, path, config=SMALL)
    return path


def replace_by(packed: Path, released: Path, folder: Path) -> Path:
    """A model folder with the converted file in place of the four."""
    shutil.copytree(released, folder, ignore=shutil.ignore_patterns(*(file.name for file in files.DICE_FILES)))
    shutil.copy(packed, folder)
    return folder


def weights(model: DiceModel) -> dict[str, torch.Tensor]:
    return {f"{name}.{key}": value for name in NETWORKS for key, value in getattr(model, name).state_dict().items()}


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_loads_as_the_four_files(released: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "dicetalk-any.safetensors"
    convert_model(released, path, dtype=dtype, config=SMALL)
    assert {tensor.dtype for tensor in load_file(path).values()} == {dtype}
    model = load_model(replace_by(path, released, tmp_path / "models"), dtype=torch.float32)
    assert model.config == SMALL  # out of the file; the argument was the full one
    expected = weights(load_model(released, dtype=torch.float32, config=SMALL))
    actual = weights(model)
    assert set(actual) == set(expected)
    assert all(torch.equal(actual[key], expected[key].to(dtype).float()) for key in expected)


def test_names_and_metadata(packed: Path) -> None:
    names = load_file(packed)
    assert {name.split(".")[0] for name in names} == {"unet", "audio_linear", "emo_model", "pose_guider"}
    assert "unet.conv_in.weight" in names
    assert metadata(packed)["format"] == "dicetalk.model"
    assert metadata(packed)["source"] == "unet.pth, audio_linear.pth, emo_model.pth, pose_guider.pth"


def test_a_converted_file_can_be_converted_again(packed: Path, released: Path, tmp_path: Path) -> None:
    folder = replace_by(packed, released, tmp_path / "models")
    convert_model(folder, tmp_path / "again.safetensors", dtype=torch.float32)
    again, first = load_file(tmp_path / "again.safetensors"), load_file(packed)
    assert all(torch.equal(again[name], first[name].float()) for name in first)


def test_progress_counts_tensors(released: Path, tmp_path: Path) -> None:
    seen = []
    hooks = Hooks(progress=lambda stage, done, total, preview: seen.append((stage, done, total)))
    convert_model(released, tmp_path / "out.safetensors", hooks=hooks, config=SMALL)
    total = len(load_file(tmp_path / "out.safetensors"))
    assert seen == [("convert", done, total) for done in range(1, total + 1)]


def test_cancelling_leaves_nothing(released: Path, tmp_path: Path) -> None:
    calls = iter(range(1000))
    hooks = Hooks(cancelled=lambda: next(calls) > 20)
    (tmp_path / "out.safetensors").write_text("the old one")
    with pytest.raises(Cancelled):
        convert_model(released, tmp_path / "out.safetensors", hooks=hooks, config=SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["out.safetensors"]
    assert (tmp_path / "out.safetensors").read_text() == "the old one"


def test_full_disk_leaves_nothing(released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Any, target: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dicetalk.files.os.replace", full)
    with pytest.raises(OutputError, match=r"out\.safetensors could not be written \(No space left on device\)"):
        convert_model(released, tmp_path / "out.safetensors", config=SMALL)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("out", "message"),
    [("out.pth", "must end in .safetensors"), ("no/such/folder/out.safetensors", "folder does not exist")],
)
def test_places_that_cannot_be_written(released: Path, tmp_path: Path, out: str, message: str) -> None:
    with pytest.raises((CheckpointError, OutputError), match=message):
        convert_model(released, tmp_path / out, config=SMALL)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"missing unet\.pth, audio_linear\.pth, emo_model\.pth, pose_guider\.pth"
    ):
        convert_model(tmp_path, tmp_path / "out.safetensors", config=SMALL)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_values_that_are_not_finite_are_refused(released: Path, tmp_path: Path, value: float) -> None:
    folder = shutil.copytree(released, tmp_path / "models")
    tensors = torch.load(folder / "pose_guider.pth", weights_only=True)
    tensors["blocks.0.bias"] = torch.full((8,), value)
    torch.save(tensors, folder / "pose_guider.pth")
    with pytest.raises(CheckpointError, match=r"NaN or infinite values in 'blocks\.0\.bias' \(as torch\.float16\)"):
        convert_model(folder, tmp_path / "out.safetensors", config=SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def rewritten(packed: Path, target: Path, edit: Callable[[dict, dict], None]) -> Path:
    tensors, extra = load_file(packed), metadata(packed)
    edit(tensors, extra)
    save_file(tensors, target, extra)
    return target


def with_config(change: Callable[[dict], Any]) -> Callable[[dict, dict], None]:
    def edit(tensors: dict, extra: dict) -> None:
        config = json.loads(extra["config"])
        change(config)
        extra["config"] = json.dumps(config)

    return edit


def set_in(section: str, name: str, value: Any) -> Callable[[dict, dict], None]:
    return with_config(lambda config: config[section].update({name: value}))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t, m: m.pop("format"), "was not written by `dicetalk convert`"),
        (lambda t, m: m.update(version="99"), "has format version '99'"),
        (lambda t, m: m.pop("config"), "not valid JSON"),
        (lambda t, m: m.update(config="{"), "not valid JSON"),
        (lambda t, m: m.update(config="[" * 60000), "not valid JSON"),
        (lambda t, m: m.update(config=" " * 100_000), "has a config of 100000 characters"),
        (lambda t, m: m.update(config="7"), "expected a table of ModelConfig"),
        (with_config(lambda config: config.update(more=1)), "unknown entry 'more'"),
        (with_config(lambda config: config["unet"].pop("layers_per_block")), "entry 'layers_per_block' is missing"),
        (set_in("unet", "layers_per_block", 10**6), "unet.layers_per_block = 1000000; at most 16"),
        (set_in("unet", "layers_per_block", -1), "expected a positive integer"),
        (set_in("unet", "block_out_channels", [32] * 1000), "1000 levels; at most 8"),
        (set_in("unet", "block_out_channels", [33, 64]), "of which no network can be built"),
        (set_in("image_encoder", "num_hidden_layers", 10**6), "at most 128"),
        (set_in("image_encoder", "image_size", 10**6), "at most 1024"),
        (set_in("image_encoder", "hidden_act", "exec"), "of which no network can be built"),
        (set_in("image_encoder", "num_attention_heads", 7), "of which no network can be built"),
        (set_in("emotion", "classifier_dims", [1, 2]), "of which no network can be built"),
        (set_in("vae", "scaling_factor", float("nan")), "scaling_factor = nan"),
        (set_in("vae", "scaling_factor", 0.0), "scaling_factor = 0.0"),
        (lambda t, m: t.update(other=torch.ones(1)), "holds 'other', which belongs to none"),
        (lambda t, m: t.update({"unet.x": torch.ones(1, dtype=torch.int64)}), "holds torch.int64"),
    ],
)
def test_metadata_is_not_trusted(packed: Path, tmp_path: Path, edit: Callable[[dict, dict], Any], message: str) -> None:
    with pytest.raises(DamagedFileError, match=message):
        read_packed(rewritten(packed, tmp_path / "dicetalk.safetensors", edit))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t, m: t.pop("unet.conv_in.bias"), r"1 of \d+ tensors missing \(conv_in\.bias\)"),
        (set_in("unet", "layers_per_block", 2), r"of \d+ tensors missing"),
        (set_in("audio", "output_dim", 1 << 20), r"of another shape \(proj3\.weight"),
    ],
)
def test_tensors_must_fit_the_config(
    packed: Path, released: Path, tmp_path: Path, edit: Callable[[dict, dict], Any], message: str
) -> None:
    folder = replace_by(packed, released, tmp_path / "models")
    rewritten(packed, folder / packed.name, edit)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


@settings(max_examples=60, deadline=None)
@given(cut=st.one_of(st.just(1.0), st.floats(0, 1)), flips=st.lists(st.integers(0, 20_000), max_size=3))
def test_any_damage_of_the_header_is_refused_or_harmless(
    packed: Path, tmp_path_factory: pytest.TempPathFactory, cut: float, flips: list[int]
) -> None:
    content = bytearray(packed.read_bytes())
    content = content[: round(cut * len(content))]
    for bit in flips:
        if bit // 8 < len(content):
            content[bit // 8] ^= 1 << bit % 8
    path = tmp_path_factory.mktemp("damaged") / "dicetalk.safetensors"
    path.write_bytes(content)
    try:
        parts, config, *_ = read_packed(path)
    except DamagedFileError:
        return
    assert set(parts) == set(NETWORKS)
    assert config.unet.layers_per_block <= 16
