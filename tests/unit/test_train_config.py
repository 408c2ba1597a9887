"""Configs of trainings: what a file may say, and how a wrong one is reported."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from training_runs import TINY

from dicetalk.bench.sizes import SIZES
from dicetalk.config import FULL
from dicetalk.drawn.train.config import TinyTraining
from dicetalk.drawn.train.run import diffusion_training, stills
from dicetalk.errors import SettingError
from dicetalk.train.config import Ablations, DiffusionTraining, EmbedderTraining, LoopConfig, build, read_config
from dicetalk.train.distill import DistillTraining

EMBEDDER = "data: shards\nout: runs/embedder\nembedder: {visual_fps: 12.5}\n"
DIFFUSION = "data: shards\nout: runs/diffusion\nmodels: models\nembedder: e.safetensors\n"


@pytest.fixture
def read(tmp_path: Path):
    def reader(text: str, kind: type = DiffusionTraining) -> object:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return read_config(path, kind)

    return reader


def test_what_is_not_said_has_its_default(read) -> None:
    config = read(DIFFUSION)
    paths = (Path("shards"), Path("runs/diffusion"), Path("models"), Path("e.safetensors"))
    assert config == DiffusionTraining(*paths)
    assert config.ablations == Ablations("retrieve", True, True)
    assert config.latents_folder == Path("runs/diffusion/latents")


def test_entries_are_read(read) -> None:
    text = """
loop: {steps: 7, learning_rate: 1e-4, precision: bf16, decay: cosine}
model: small
ablations: {bank: none, classifier: false}
sigma_mean: 2
latents: elsewhere
"""
    config = read(DIFFUSION + text)
    assert (config.loop.steps, config.loop.learning_rate, config.loop.precision) == (7, 1e-4, "bf16")
    assert config.model == SIZES["small"].config
    assert config.ablations == Ablations("none", False, True)
    assert config.sigma_mean == 2.0 and isinstance(config.sigma_mean, float)
    assert config.latents_folder == Path("elsewhere")


def test_a_model_may_be_a_whole_table(read) -> None:
    table = {
        name: part and {k: list(v) if isinstance(v, tuple) else v for k, v in part.items()}
        for name, part in _plain().items()
    }
    assert read(DIFFUSION + yaml.safe_dump({"model": table})).model == TINY


def _plain() -> dict:
    return yaml.safe_load(yaml.dump(TINY.to_dict()).replace("!!python/tuple", ""))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("learning_rate: 1", ["unknown entry 'learning_rate'", "loop"]),
        ("loop: {steps: 0}", ["loop: steps", "at least 1", "0"]),
        ("loop: {steps: 1.5}", ["loop: steps", "whole number", "1.5"]),
        ("loop: {steps: true}", ["loop: steps", "whole number", "True"]),
        ("loop: {learning_rate: fast}", ["loop: learning_rate", "number", "fast"]),
        ("loop: {learning_rate: 0}", ["loop: learning_rate", "above 0"]),
        ("loop: {learning_rate: .nan}", ["loop: learning_rate", "nan"]),
        ("loop: {precision: fp8}", ["loop: precision", "fp32, bf16", "fp8"]),
        ("loop: [1, 2]", ["loop", "table", "[1, 2]"]),
        ("ablations: {classifier: 1}", ["classifier", "true or false", "1"]),
        ("ablations: {bank: off}", ["bank", "retrieve, learnable, none", "False"]),
        ("model: huge", ["model", "small", "huge"]),
        ("model: {unet: {}}", ["model"]),
        ("drop_rate: 0.5", ["drop_rate", "0.25", "0.5"]),
        ("drop_rate: 0.25\nportrait_only_rate: 0.1", ["drop_rate 0.25", "portrait_only_rate 0.1", "more than 1"]),
        ("fresh_emotion: true", ["fresh_emotion", "start: svd"]),
        ("whole_bank_rate: 0.5\nablations: {bank: none}", ["whole_bank_rate is 0.5", "bank: none"]),
        ("latents: 3", ["latents", "path", "3"]),
        ("window: 3\nwindow: 4", ["'window'", "twice"]),
        ("loop: {seed: 1, seed: 2}", ["'seed'", "twice"]),
        ("start: [", ["YAML"]),
    ],
)
def test_a_wrong_entry_is_named_with_its_value(read, text: str, named: list[str]) -> None:
    with pytest.raises(SettingError) as caught:
        read(DIFFUSION + text)
    assert "config.yaml" in str(caught.value)
    assert all(part in str(caught.value) for part in named), str(caught.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("out: o\n", "'data' is missing"),
        ("data: d\nout: o\n", "visual_fps is 25"),  # the embedder's own default is not the shards' rate
        (EMBEDDER + "shortest: 9\nlongest: 8", "shortest: 9"),
        (EMBEDDER + "clips: 1", "clips"),
        ("data: d\nout: o\nembedder: {visual_fps: 12.5, layers: -1}", "layers"),
        ("data: d\nout: o\nembedder: {visual_fps: 12.5, dim: 9}", "dim is 9"),
        ("- 1", "table"),
        ("", "table"),
    ],
)
def test_a_wrong_embedder_config_is_refused(read, text: str, named: str) -> None:
    if text == "data: d\nout: o\n":
        text += "embedder: {}\n"
    with pytest.raises(SettingError, match=named):
        read(text, EmbedderTraining)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"missing\.yaml"):
        read_config(tmp_path / "missing.yaml", EmbedderTraining)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingError, match=r"binary\.yaml"):
        read_config(tmp_path / "binary.yaml", EmbedderTraining)


def test_objects_in_yaml_are_refused(read) -> None:
    with pytest.raises(SettingError, match="YAML"):
        read(DIFFUSION + "start: !!python/object/apply:os.getcwd []")


@given(st.integers(1, 10**6), st.floats(1e-8, 1), st.sampled_from(["constant", "cosine"]), st.integers(0, 2**32 - 1))
def test_a_loop_survives_the_way_through_its_table(steps: int, rate: float, decay: str, seed: int) -> None:
    config = LoopConfig(steps=steps, learning_rate=rate, decay=decay, seed=seed)
    assert build(LoopConfig, asdict(config), "loop") == config


def test_the_examples_are_configs() -> None:
    examples = Path(__file__).parents[2] / "examples"
    embedder = read_config(examples / "train-embedder.yaml", EmbedderTraining)
    assert embedder.embedder.visual_dim == 17 and embedder.loop.learning_rate == 1e-4
    diffusion = read_config(examples / "train-diffusion.yaml", DiffusionTraining)
    assert diffusion.model == FULL and diffusion.loop.precision == "bf16"
    distill = read_config(examples / "train-distill.yaml", DistillTraining)
    assert (distill.student_steps, distill.substeps, distill.loop.precision) == (4, 3, "bf16")


def test_the_example_of_an_ablation_goes_on_from_what_train_tiny_made() -> None:
    examples = Path(__file__).parents[2] / "examples"
    row = read_config(examples / "train-ablation.yaml", DiffusionTraining)
    tiny = read_config(examples / "train-tiny.yaml", TinyTraining)
    as_before = replace(diffusion_training(tiny, row.loop), **stills(tiny))
    assert row == replace(as_before, out=row.out, start="dice", fresh_emotion=True, emotion_rate=row.emotion_rate)
    assert row.ablations == Ablations() and row.loop.steps < tiny.stills.steps
