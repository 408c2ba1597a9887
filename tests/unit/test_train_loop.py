"""The training loop: a killed run goes on as if nothing had happened; checkpoints, curves, rates."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from training_runs import LOOP, curve, diffusion_training, embedder_training, make_inputs, reset_accelerate

from dicetalk.checkpoints.single import load_embedder
from dicetalk.errors import Cancelled, CheckpointError, DiceTalkError, SettingError
from dicetalk.hooks import Hooks
from dicetalk.train import checkpoint, loop
from dicetalk.train.checkpoint import list_checkpoints, load_newest, save_checkpoint, sweep_checkpoints
from dicetalk.train.config import EmbedderTraining, read_config
from dicetalk.train.curves import Curves
from dicetalk.train.diffusion import train_diffusion
from dicetalk.train.embedder import train_embedder
from dicetalk.train.loop import learning_rate, make_accelerator

TRAININGS = {
    "embedder": (train_embedder, embedder_training, {"steps": 20}),
    "diffusion": (
        train_diffusion,
        diffusion_training,
        {"steps": 6, "accumulation": 2, "validate_every": 3, "log_every": 2, "checkpoint_every": 3},
    ),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("training"))


@pytest.fixture(autouse=True)
def _accelerate() -> None:
    reset_accelerate()


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of runs that nobody disturbed."""
    outs = {}
    for name, (train, training, changes) in TRAININGS.items():
        reset_accelerate()
        outs[name] = tmp_path_factory.mktemp(name)
        train(training(corpus, outs[name], **changes))
    return outs


def assert_same_run(out: Path, whole: Path) -> None:
    """Weights, averages, moments, what the task remembers, curves and exports are the same to the last bit."""
    assert_equal(load_newest(out / "checkpoints"), load_newest(whole / "checkpoints"))
    for path in [*whole.glob("*.safetensors"), *whole.glob("curves/*.csv")]:
        assert (out / path.relative_to(whole)).read_bytes() == path.read_bytes(), path.name


def assert_equal(one: object, other: object, where: str = "state") -> None:
    if torch.is_tensor(one):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_equal(a, b, f"{where}.{i}")
    else:
        assert one == other, where


class Killed(BaseException):
    """Nothing in the library catches this."""


def kill_at_call(number: int, function: Callable, after: bool) -> Callable:
    """`function` that dies at its call `number`, before or after doing its work."""
    calls = 0

    def dying(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        result = function(*args, **kwargs) if calls != number or after else None
        if calls == number:
            raise Killed
        return result

    return dying


def dying_save(number: int) -> Callable:
    """torch.save that dies in the middle of its call `number`."""
    save, calls = torch.save, iter(range(1, 1000))

    def dying(state: object, file: object) -> None:
        if next(calls) == number:
            file.write(b"PK\x03\x04 and then")
            raise Killed
        save(state, file)

    return dying


@pytest.mark.parametrize(
    ("name", "moment", "number"),
    [
        ("embedder", "in a step", 11),
        ("embedder", "between steps", 15),
        ("embedder", "in the data", 13),
        ("embedder", "in a save", 3),
        ("embedder", "before a rename", 3),
        ("diffusion", "in a step", 5),
        ("diffusion", "in a save", 2),
    ],
)
def test_a_killed_run_goes_on_bit_by_bit(
    corpus: Path,
    whole: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    moment: str,
    number: int,
) -> None:
    train, training, changes = TRAININGS[name]
    places = {
        "in a step": (torch.optim.AdamW, "step", kill_at_call(number, torch.optim.AdamW.step, after=True)),
        "between steps": (loop, "learning_rate", kill_at_call(number, loop.learning_rate, after=False)),
        "in the data": (loop, "seed_for", kill_at_call(number, loop.seed_for, after=False)),
        "in a save": (checkpoint.torch, "save", dying_save(number)),
        "before a rename": (checkpoint.os, "fsync", kill_at_call(number, os.fsync, after=False)),
    }
    with monkeypatch.context() as patch:
        patch.setattr(*places[moment])
        with pytest.raises(Killed):
            train(training(corpus, tmp_path, **changes))
    assert 0 < load_newest(tmp_path / "checkpoints")["step"] < changes["steps"]
    reset_accelerate()
    train(training(corpus, tmp_path, **changes))
    assert_same_run(tmp_path, whole[name])
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_a_run_killed_while_it_writes_its_first_checkpoint_starts_anew(
    corpus: Path, whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.torch, "save", dying_save(1))
        with pytest.raises(Killed):
            train_embedder(embedder_training(corpus, tmp_path, steps=20))
    assert list_checkpoints(tmp_path / "checkpoints") == []
    reset_accelerate()
    train_embedder(embedder_training(corpus, tmp_path, steps=20))
    assert_same_run(tmp_path, whole["embedder"])


_PROGRAM = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from training_runs import embedder_training
from dicetalk.train.embedder import train_embedder
from dicetalk.checkpoints.single import load_embedder
train_embedder(embedder_training(Path(sys.argv[1]), Path(sys.argv[2]), steps=100_000, checkpoint_every=1))
"""


def test_a_run_survives_sigkill(corpus: Path, tmp_path: Path) -> None:
    here = Path(__file__).parents[1]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    arguments = [
        sys.executable,
        "-c",
        _PROGRAM,
        str(corpus),
        str(tmp_path / "killed"),
        str(here),
        str(here.parent),
    ]
    process = subprocess.Popen(arguments, env=os.environ | threads)
    try:
        deadline = time.monotonic() + 600
        while len(list_checkpoints(tmp_path / "killed" / "checkpoints")) < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = load_newest(tmp_path / "killed" / "checkpoints")["step"]
    changes = {"steps": done + 2, "checkpoint_every": 1}
    train_embedder(embedder_training(corpus, tmp_path / "killed", **changes))
    reset_accelerate()
    train_embedder(embedder_training(corpus, tmp_path / "whole", **changes))
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def test_reading_processes_change_nothing(corpus: Path, whole: dict[str, Path], tmp_path: Path) -> None:
    train_embedder(embedder_training(corpus, tmp_path, steps=20, workers=2))
    assert_same_run(tmp_path, whole["embedder"])


def test_a_finished_run_is_only_exported_again(corpus: Path, whole: dict[str, Path], tmp_path: Path) -> None:
    train_embedder(embedder_training(corpus, tmp_path, steps=20))
    (tmp_path / "embedder.safetensors").unlink()
    reset_accelerate()
    seen = []
    hooks = Hooks(progress=lambda stage, done, total, preview=None: seen.append(stage))
    train_embedder(embedder_training(corpus, tmp_path, steps=20), hooks)
    assert "train" not in seen
    assert_same_run(tmp_path, whole["embedder"])


def test_another_seed_is_another_run(corpus: Path, whole: dict[str, Path], tmp_path: Path) -> None:
    train_embedder(embedder_training(corpus, tmp_path, steps=20, seed=1))
    one, other = (load_newest(out / "checkpoints")["module"] for out in (tmp_path, whole["embedder"]))
    assert all(not torch.equal(one[name], other[name]) for name in one)


def test_the_checkpoint_of_another_training_is_refused(corpus: Path, tmp_path: Path) -> None:
    train_embedder(embedder_training(corpus, tmp_path, steps=2))
    reset_accelerate()
    smaller = embedder_training(corpus, tmp_path, steps=2)
    smaller = replace(smaller, embedder=replace(smaller.embedder, hidden_dim=16))
    with pytest.raises(CheckpointError, match="another training"):
        train_embedder(smaller)


def test_what_is_exported_is_the_average(corpus: Path, tmp_path: Path) -> None:
    (path,) = train_embedder(embedder_training(corpus, tmp_path, steps=6))
    state = load_newest(tmp_path / "checkpoints")
    exported = list(load_embedder(path).parameters())
    assert all(torch.equal(a, b) for a, b in zip(exported, state["ema"]["shadow_params"], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(exported, state["module"].values(), strict=True))


def test_cancelling_leaves_checkpoints(corpus: Path, tmp_path: Path) -> None:
    asked = iter(range(1000))
    with pytest.raises(Cancelled):
        train_embedder(embedder_training(corpus, tmp_path), Hooks(cancelled=lambda: next(asked) > 9))
    assert load_newest(tmp_path / "checkpoints")["step"] > 0


def test_a_loss_that_is_no_number_ends_the_run_before_it_is_saved(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"Step \d+: \w+ is (nan|inf)"):
        train_embedder(embedder_training(corpus, tmp_path, learning_rate=1e30, clip_norm=1e30))
    for path in list_checkpoints(tmp_path / "checkpoints"):
        assert all(t.isfinite().all() for t in torch.load(path / "state.pt")["meter"].values())


# Checkpoints


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    for step in (1, 2, 10, 3000):
        save_checkpoint(tmp_path, step, {"step": step}, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000000010", "step-000003000"]
    assert load_newest(tmp_path) == {"step": 3000}


def test_a_damaged_checkpoint_is_passed_over_and_written_again(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"step": step, "weights": torch.arange(1000.0)}, keep=2)
    newest = list_checkpoints(tmp_path)[-1] / "state.pt"
    newest.write_bytes(newest.read_bytes()[:-500])
    notices = []
    assert load_newest(tmp_path, Hooks(notice=notices.append))["step"] == 1
    assert "step-000000002" in notices[0]
    save_checkpoint(tmp_path, 2, {"step": 2}, keep=2)
    assert load_newest(tmp_path) == {"step": 2}
    for path in list_checkpoints(tmp_path):
        (path / "state.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of 2"):
        load_newest(tmp_path)


def test_no_code_in_a_checkpoint_runs(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "sprung",)

    save_checkpoint(tmp_path / "runs", 1, {"step": Trap()}, keep=1)
    with pytest.raises(CheckpointError):
        load_newest(tmp_path / "runs", Hooks(notice=lambda _: None))
    assert not (tmp_path / "sprung").exists()


def test_a_full_disk_is_explained_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        save_checkpoint(tmp_path, 1, {"step": 1}, keep=1)
    assert list(tmp_path.iterdir()) == []


def test_sweeping_leaves_whole_checkpoints(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"step": 1}, keep=1)
    (tmp_path / ".unfinished-0a1b").mkdir()
    (tmp_path / ".unfinished-0a1b" / "state.pt").write_bytes(b"half")
    sweep_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]


# Curves and rates


def test_rows_after_the_checkpoint_are_cut(tmp_path: Path) -> None:
    curves = Curves(tmp_path)
    for step in (5, 10, 15):
        curves.add("train", step, {"loss": 1 / step})
        curves.add("late", step + 100, {"loss": 1.0})
    curves.close()
    with (tmp_path / "train.csv").open("a") as file:
        file.write("20,0.0")  # the kill came in the middle of a row
    again = Curves(tmp_path, 10)
    again.add("train", 15, {"loss": 0.5})
    again.close()
    assert (tmp_path / "train.csv").read_text().splitlines() == ["step,loss", "5,0.2", "10,0.1", "15,0.5"]
    assert not (tmp_path / "late.csv").exists()


def test_damaged_curves_are_reported_and_the_run_goes_on(tmp_path: Path) -> None:
    rows = [b"step,loss", b"1,0.5", b"2,\xff\xfe", b"3", b"\0\0\0", b"9" * 5000 + b",1", b"4,x", b"5,0.25", b"6,0."]
    (tmp_path / "train.csv").write_bytes(b"\n".join(rows))
    (tmp_path / "validation.csv").write_bytes(b"\xff" * 200_000 + b"\n1,2\n")
    notices: list[str] = []
    curves = Curves(tmp_path, 10, Hooks(notice=notices.append))
    curves.add("train", 11, {"loss": 0.125})
    curves.add("validation", 11, {"loss": 0.5})
    curves.close()
    assert (tmp_path / "train.csv").read_text().splitlines() == ["step,loss", "1,0.5", "5,0.25", "11,0.125"]
    assert (tmp_path / "validation.csv").read_text().splitlines() == ["step,loss", "11,0.5"]
    assert (tmp_path / "validation.csv.damaged").stat().st_size == 200_005
    assert "train.csv: 5 damaged rows are left out, the first in lines 3, 4, 5, 6." in notices[0]
    assert "validation.csv.damaged" in notices[1] and len(notices) == 2


def test_values_stand_under_their_names_whichever_a_row_has(tmp_path: Path) -> None:
    curves = Curves(tmp_path)
    curves.add("train", 0, {"loss": 1.0, "clip": 2.0})
    curves.add("train", 1, {"picture": 3.0, "loss": 4.0})
    curves.add("train", 2, {"clip": 5.0, "loss": 6.0})
    curves.close()
    lines = ["step,loss,clip,picture", "0,1,2,", "1,4,,3", "2,6,5,"]
    assert (tmp_path / "train.csv").read_text().splitlines() == lines
    Curves(tmp_path, 1).close()
    assert (tmp_path / "train.csv").read_text().splitlines() == lines[:3]


def test_curves_that_cannot_be_written_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiceTalkError, match="file/curves could not be written"):
        Curves(tmp_path / "file" / "curves")
    curves = Curves(tmp_path)
    curves.add("train", 1, {"loss": 1.0})

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("csv.DictWriter.writerow", full)
    with pytest.raises(DiceTalkError, match=r"train.csv could not be written.*The disk is full"):
        curves.add("train", 2, {"loss": 1.0})


def test_curves_have_a_row_each_interval(whole: dict[str, Path]) -> None:
    rows = curve(whole["diffusion"] / "curves" / "train.csv")
    assert rows["step"].tolist() == [2, 4, 6]
    total = rows["denoising"] + 0.1 * rows["classification"] + rows["vq"]
    assert rows["loss"] == pytest.approx(total, rel=1e-4)
    assert ((rows["bank_perplexity"] >= 1) & (rows["bank_perplexity"] <= 5)).all()
    assert curve(whole["diffusion"] / "curves" / "validation.csv")["step"].tolist() == [3, 6]


@pytest.mark.parametrize(("package", "train"), [("accelerate", "loop"), ("yaml", "config")])
def test_a_missing_package_is_explained(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, train: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "c.yaml").write_text("data: x\nout: y\nembedder: {visual_fps: 12.5}\n")
    with pytest.raises(SettingError, match=r'pip install "dicetalk\[train\]"'):
        make_accelerator(LOOP) if train == "loop" else read_config(tmp_path / "c.yaml", EmbedderTraining)


def test_the_rate_rises_and_falls() -> None:
    config = replace(LOOP, steps=100, warmup_steps=10, learning_rate=2.0, decay="cosine")
    rates = [learning_rate(config, step) for step in range(1, 101)]
    assert rates[0] == pytest.approx(2 / 11) and max(rates) == rates[10] == 2.0
    assert all(a < b for a, b in pairwise(rates[:11]))
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert 0 < rates[-1] < 0.01
    constant = replace(config, decay="constant")
    assert {learning_rate(constant, step) for step in range(11, 101)} == {2.0}
