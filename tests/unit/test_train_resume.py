"""Going on with a run: with the same config only, in several processes, and what the user hears of it."""

import os
import shutil
import socket
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from training_runs import LOOP, curve, diffusion_training, embedder_training, make_inputs, reset_accelerate

from dicetalk.bench.sizes import SIZES
from dicetalk.drawn.train.config import TinyTraining
from dicetalk.drawn.train.run import train_tiny
from dicetalk.errors import CheckpointError, SettingError
from dicetalk.hooks import Hooks
from dicetalk.train import curves
from dicetalk.train.checkpoint import TECHNICAL, changes, defaults, entries, load_newest
from dicetalk.train.clip_record import DatasetError
from dicetalk.train.config import Ablations, LoopConfig
from dicetalk.train.curves import Curves
from dicetalk.train.diffusion import train_diffusion
from dicetalk.train.embedder import train_embedder
from dicetalk.train.loop import make_accelerator


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="module")
def begun(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    out = tmp_path_factory.mktemp("begun") / "run"
    reset_accelerate()
    train_embedder(embedder_training(corpus, out, steps=2))
    return out


@pytest.fixture(autouse=True)
def _accelerate() -> None:
    reset_accelerate()


# The config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "loop.seed was 0, and now is 1"),
        ({"ema_decay": 0.5}, "loop.ema_decay was 0.999, and now is 0.5"),
        ({"modality_dropout": 0.1}, "modality_dropout was 0.5, and now is 0.1"),
        ({"intensity_apart": True}, "intensity_apart was False, and now is True"),
    ],
)
def test_a_run_does_not_go_on_with_another_config(corpus: Path, begun: Path, change: dict, message: str) -> None:
    before = {path: path.read_bytes() for path in begun.rglob("*.*") if path.is_file()}
    with pytest.raises(CheckpointError, match="another training") as caught:
        train_embedder(embedder_training(corpus, begun, **{"steps": 3} | change))
    assert message in str(caught.value) and "choose another `out`" in str(caught.value)
    assert {path: path.read_bytes() for path in begun.rglob("*.*") if path.is_file()} == before


def test_other_data_is_another_run_but_both_folders_may_move(corpus: Path, begun: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus / "shards", tmp_path / "training" / "other")
    with pytest.raises(CheckpointError, match="data was"):
        train_embedder(replace(embedder_training(corpus, begun, steps=3), data=tmp_path / "training" / "other"))
    here, there = (diffusion_training(tmp_path / name, tmp_path / name / "run") for name in ("here", "there"))
    assert entries(here, here.out) == entries(there, there.out)
    assert entries(here, here.out)["data"] == "../shards"


def test_what_is_steered_is_reported_and_steps_are_not_taken_back(corpus: Path, tmp_path: Path) -> None:
    notices: list[str] = []
    train_embedder(embedder_training(corpus, tmp_path, steps=2))
    reset_accelerate()
    steered = {"learning_rate": 1e-4, "log_every": 1, "workers": 1}
    train_embedder(embedder_training(corpus, tmp_path, steps=4, **steered), Hooks(notice=notices.append))
    assert [line for line in notices if "loop." in line] == [
        "From step 3 on, loop.learning_rate was 0.001, and now is 0.0001."
    ]
    assert curve(tmp_path / "curves" / "train.csv")["learning_rate"][-1] == pytest.approx(1e-4)
    reset_accelerate()
    with pytest.raises(SettingError, match=r"loop\.steps is 3, .* has 4 already"):
        train_embedder(embedder_training(corpus, tmp_path, steps=3, **steered))


def test_every_ablation_and_rate_is_compared_and_nothing_technical() -> None:
    config = diffusion_training(Path("training"), Path("training/run"))
    changed = {
        "model.unet.block_out_channels": replace(config, model=SIZES["small"].config),
        "ablations.bank": replace(config, ablations=Ablations(bank="none")),
        "drop_rate": replace(config, drop_rate=0.1),
        "start": replace(config, start="svd"),
        "embedder": replace(config, embedder=Path("training/other.safetensors")),
        "loop.precision": replace(config, loop=replace(LOOP, precision="bf16")),
    }
    for name, other in changed.items():
        found = [change.name for change in changes(entries(config, config.out), entries(other, other.out))]
        assert name in found, name
    technical = replace(config, gradient_checkpointing=True, latents=Path("x"), loop=replace(LOOP, workers=9))
    assert not changes(entries(config, config.out), entries(technical, technical.out))
    assert TECHNICAL - set(LoopConfig.__dataclass_fields__) == {"out", "latents", "gradient_checkpointing"}


def test_an_entry_that_the_package_has_got_since_counts_as_left_out() -> None:
    config = replace(diffusion_training(Path("training"), Path("training/run")), start="dice")
    now, usual = entries(config, config.out), defaults(config)
    assert {"data", "models", "embedder"} <= set(now) - set(usual), "what has to be given"
    older = {name: value for name, value in now.items() if name not in ("fresh_emotion", "ablations.bank", "loop.seed")}
    assert changes(older, now, usual) == []
    assert {change.name for change in changes(older, now)} == {"fresh_emotion", "ablations.bank", "loop.seed"}
    fresh = replace(config, fresh_emotion=True)
    (change,) = changes(older, entries(fresh, fresh.out), defaults(fresh))
    assert str(change) == "fresh_emotion was False, and now is True"


def test_a_run_does_not_go_on_with_another_embedder_of_the_same_name(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "training")
    config = diffusion_training(tmp_path / "training", tmp_path / "run", steps=1)
    train_diffusion(config)
    path = config.embedder
    weights = load_file(path)
    name = next(iter(weights))
    weights[name] = weights[name] + 0.1
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(weights, path, metadata)
    reset_accelerate()
    with pytest.raises(CheckpointError, match="contents of embedder was"):
        train_diffusion(replace(config, loop=replace(config.loop, steps=2)))


# Launchers and reading processes


@pytest.mark.parametrize(("variable", "name"), [("FSDP", "FSDP"), ("DEEPSPEED", "DeepSpeed")])
def test_what_a_launcher_may_not_ask_for(monkeypatch: pytest.MonkeyPatch, variable: str, name: str) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{variable}", "true")
    with pytest.raises(SettingError, match=f"asks for {name}.*multi_gpu"):
        make_accelerator(LOOP)


def test_a_launcher_does_not_change_the_accumulation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "7")
    assert make_accelerator(replace(LOOP, accumulation=3)).gradient_accumulation_steps == 3


def test_the_small_model_is_trained_by_one_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingError, match="2 were launched"):
        train_tiny(TinyTraining(tmp_path, *[LOOP] * 6))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [0, 1])
def test_what_stops_a_reading_process_is_reported_without_its_trace(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise DatasetError("the disk is gone")

    monkeypatch.setattr("dicetalk.train.data.read_clip", broken)
    with pytest.raises(DatasetError, match="No clip of the people that a batch was drawn of") as caught:
        train_embedder(embedder_training(corpus, tmp_path, steps=2, workers=workers))
    assert "Traceback" not in str(caught.value) and "the disk is gone" in str(caught.value)


_PROCESS = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
import shutil
import torch
from training_runs import embedder_training
from dicetalk.errors import CheckpointError
from dicetalk.train.embedder import EmbedderTask, train_embedder
from dicetalk.train.loop import end_processes
weights = {}
EmbedderTask.after_step = lambda task, run, outputs: weights.update(
    {(run.step, name): parameter.detach().clone() for name, parameter in task.module.named_parameters()}
)
corpus, out = Path(sys.argv[1]), Path(sys.argv[2])
one_go = dict(log_every=3, checkpoint_every=2, validate_every=0)
train_embedder(embedder_training(corpus, out / "whole", steps=4, **one_go))
train_embedder(embedder_training(corpus, out / "parts", steps=2, **one_go))
train_embedder(embedder_training(corpus, out / "parts", steps=4, **one_go))
rank = torch.distributed.get_rank()
torch.save(weights, out / f"weights-{rank}.pt")
alone = out / f"alone-{rank}"
if rank == 0:
    shutil.copytree(out / "whole", alone)
try:
    train_embedder(embedder_training(corpus, alone, steps=5, **one_go))
except CheckpointError as error:
    (out / f"error-{rank}").write_text(str(error))
end_processes()
"""


def test_two_processes_train_one_model_and_go_on_together(corpus: Path, tmp_path: Path) -> None:
    """Real processes with gloo; what they log is the mean over both, before and after a restart."""
    here = Path(__file__).parents[1]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    arguments = [sys.executable, "-c", _PROCESS, str(corpus), str(tmp_path), str(here), str(here.parent)]
    started = []
    try:
        for rank in ("0", "1"):
            environment = os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank}
            started.append(subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True))
        for process in started:
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, said[-3000:]
    finally:
        for process in started:
            process.kill()
    one, other = (torch.load(tmp_path / f"weights-{rank}.pt") for rank in (0, 1))
    assert {step for step, _ in one} == {1, 2, 3, 4} and all(torch.equal(one[name], other[name]) for name in one)
    whole, parts = (load_newest(tmp_path / name / "checkpoints") for name in ("whole", "parts"))
    assert whole["step"] == 4 and all(torch.equal(t, parts["module"][n]) for n, t in whole["module"].items())
    assert all(torch.equal(t, parts["meter"][n]) for n, t in whole["meter"].items())
    assert (tmp_path / "whole/curves/train.csv").read_text() == (tmp_path / "parts/curves/train.csv").read_text()
    assert not torch.equal(*(next(iter(load_newest(p)["module"].values())) for p in _one_and_two(corpus, tmp_path)))
    for rank in (0, 1):
        assert "different steps (4, 0)" in (tmp_path / f"error-{rank}").read_text()


def _one_and_two(corpus: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Checkpoints of one process and of two."""
    train_embedder(embedder_training(corpus, tmp_path / "single", steps=4, checkpoint_every=2, validate_every=0))
    return tmp_path / "single" / "checkpoints", tmp_path / "whole" / "checkpoints"


# Curves


def test_tensorboard_gets_what_the_files_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int):
            written.append((folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def close(self) -> None:
            written.append(("closed",))

    monkeypatch.setattr(curves, "find_spec", lambda name: name == "tensorboard")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    both = Curves(tmp_path, 10)
    both.add("train", 15, {"loss": 0.5, "vq": 0.25})
    both.close()
    assert written == [
        (str(tmp_path / "tensorboard"), 11),
        ("train/loss", 0.5, 15),
        ("train/vq", 0.25, 15),
        ("closed",),
    ]
    assert (tmp_path / "train.csv").read_text() == "step,loss,vq\n15,0.5,0.25\n"
