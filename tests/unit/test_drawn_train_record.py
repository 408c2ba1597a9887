"""What stages of the small model's training were begun with, and how long they took."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
from training_runs import ONCE

from dicetalk.drawn.train.config import TinyTraining
from dicetalk.drawn.train.priors import save_priors
from dicetalk.drawn.train.record import FILE, WRITE_EVERY, StageRecord, StageTimes
from dicetalk.errors import OutputError, SettingError
from dicetalk.hooks import Hooks
from dicetalk.train.config import Ablations


def test_a_stage_is_not_mixed_with_those_of_another_config(tmp_path: Path) -> None:
    config = TinyTraining(tmp_path, *[ONCE] * 6)
    done, open_stage = tmp_path / "clips.done", tmp_path / "stills.done"
    done.touch()
    record = StageRecord(config)
    record.begin("clips", ("people",))
    record.begin("stills", ("stills", "ablations"))

    def check(other: TinyTraining) -> None:
        again = StageRecord(other)
        again.check("clips", ("people",), done)
        again.check("stills", ("stills", "ablations"), open_stage)
        again.check("takes", ("cast",), tmp_path / "takes.done")

    # What no stage that was begun depends on, what is technical, and the rate of one that is not done
    check(
        replace(config, cast=9, vae=replace(ONCE, steps=9), stills=replace(ONCE, learning_rate=0.5, workers=3, seed=4))
    )
    for changed, message in (
        (replace(config, seed=1), "'clips'.*seed was 0, and now is 1"),
        (replace(config, people=7), "'clips'.*people was 60, and now is 7"),
        (replace(config, stills=replace(ONCE, precision="bf16")), "'stills'.*stills.precision was fp32"),
        (replace(config, ablations=Ablations(bank="none")), "'stills'.*ablations.bank was retrieve"),
    ):
        with pytest.raises(SettingError, match=message):
            check(changed)
    open_stage.touch()
    with pytest.raises(SettingError, match=r"stills\.learning_rate was"):
        check(replace(config, stills=replace(ONCE, learning_rate=0.5)))
    (tmp_path / FILE).write_text("{")
    with pytest.raises(SettingError, match="damaged"):
        StageRecord(config)


def test_a_stage_that_is_killed_has_its_time_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    path = tmp_path / "stages.csv"
    path.write_text("stage,seconds,done\nhearing,7,1\n")
    heard: list[tuple[object, ...]] = []
    times = StageTimes(path)
    hooks = times.listening(Hooks(progress=lambda *report: heard.append(report)))
    hooks.report("train", 1, 9)  # between two stages
    with times.of("vae"):
        for _ in range(3):
            clock += WRITE_EVERY / 2
            hooks.report("train", 2, 9)
        killed = path.read_text()
        clock += 5
    assert killed == "stage,seconds,done\nhearing,7,1\nvae,60,0\n"
    assert path.read_text() == "stage,seconds,done\nhearing,7,1\nvae,95,1\n"
    path.write_text(killed)
    with contextlib.suppress(KeyboardInterrupt), StageTimes(path).of("vae"):
        clock += 3
        raise KeyboardInterrupt
    assert path.read_text() == killed + "vae,3,0\n"
    assert heard == [("train", 1, 9, None), *[("train", 2, 9, None)] * 3]


def test_priors_that_cannot_be_written_are_reported(tmp_path: Path) -> None:
    (tmp_path / "emotion").touch()
    with pytest.raises(OutputError, match="emotion could not be written"):
        save_priors({}, tmp_path / "emotion")
