"""The name `tiny` is the bundled model wherever a model folder is asked for, also beside a folder of that name."""

import argparse
import re
from pathlib import Path

import pytest
import torch

from dicetalk.checkpoints.load import load_model
from dicetalk.cli import main
from dicetalk.cli.bench import _measured
from dicetalk.cli.parser import build_parser
from dicetalk.errors import CheckpointError

EXAMPLES = Path(__file__).parents[2] / "examples"
CALLS = {
    "generate": [
        *["--models", "tiny", "--image", str(EXAMPLES / "portrait.jpg"), "--audio", str(EXAMPLES / "speech.wav")],
        *["--out", "hello.mp4", "--whole-picture", "--duration", "0.4", "--steps", "1", "--device", "cpu", "--quiet"],
    ],
    "doctor": ["tiny"],
    "convert": ["tiny", "half.safetensors"],
    "bench": ["--models", "tiny", "--seconds", "0.3", "--set", "steps=1", "--repeats", "1", "--device", "cpu"],
    "prepare": [
        *["test", "shards", "--kind", "procedural", "--limit", "1", "--size", "64", "--models", "tiny"],
        *["--device", "cpu", "--quiet"],
    ],
    "emotion show": ["happy", "--models", "tiny"],
    "emotion mix": ["happy", "sad", "--models", "tiny", "--out", "mixed.safetensors", "--quiet"],
    "emotion text": [
        *["[happy] Hello.", "--models", "tiny", "--audio", str(EXAMPLES / "speech.wav")],
        *["--out", "text.safetensors", "--quiet"],
    ],
    "emotion voice": [
        *[str(EXAMPLES / "speech.wav"), "--emotion", "happy", "--models", "tiny", "--quiet"],
        *["--out", "voice.safetensors"],
    ],
    "emotion extract": [
        *[str(EXAMPLES / "speech.wav"), "--models", "tiny", "--out", "heard.safetensors", "--quiet"],
        *["--device", "cpu"],
    ],
}
"""One call of every command that takes a model folder; `evaluate tiny` takes minutes and has tests of its own."""


@pytest.fixture
def beside_such_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("beside_such_a_folder")
@pytest.mark.parametrize("command", CALLS)
def test_commands(command: str) -> None:
    assert main([*command.split(), *CALLS[command]]) == 0
    assert not list(Path("tiny").iterdir())


def test_no_command_is_forgotten() -> None:
    commands: dict[str, argparse.ArgumentParser] = {}

    def collect(parser: argparse.ArgumentParser, name: str) -> None:
        commands[name] = parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for child, its_parser in action.choices.items():
                    collect(its_parser, f"{name} {child}".strip())

    collect(build_parser(), "")
    takes_model = {
        name
        for name, parser in commands.items()
        if any("folder of the weights" in (a.help or "") or "--models" in a.option_strings for a in parser._actions)
    }
    assert takes_model == {*CALLS, "download", "evaluate"}


@pytest.mark.usefixtures("beside_such_a_folder")
def test_python() -> None:
    for name in ("tiny", Path("tiny")):
        model = load_model(name, dtype=torch.float32)
        assert model.embedder is not None and model.config.sampling.short_side == 128


@pytest.mark.usefixtures("beside_such_a_folder")
def test_a_folder_of_that_name_is_reached_by_its_full_path(beside_such_a_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="missing"):
        load_model(beside_such_a_folder / "tiny")


def test_nothing_is_fetched_for_it(beside_such_a_folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["download", "tiny"]) == 1
    assert "bundled model" in capsys.readouterr().err
    assert not list((beside_such_a_folder / "tiny").iterdir())


@pytest.mark.usefixtures("beside_such_a_folder")
def test_bench_measures_the_model_with_its_own_settings() -> None:
    options = build_parser().parse_args(["bench", "--models", "tiny", "--seconds", "0.3"])
    model, size, setting = _measured(options, torch.float32)
    sampling = model.config.sampling
    assert (size.short_side, size.seconds) == (sampling.short_side, 0.3)
    assert setting.sampler.steps == sampling.steps
    assert setting.sampler.expression_guidance == sampling.expression_guidance


def test_bench_refuses_what_has_no_effect(capsys: pytest.CaptureFixture) -> None:
    assert main(["bench", "--svd", "elsewhere"]) == 1
    assert re.search(r"--svd .* --models", capsys.readouterr().err)
    with pytest.raises(SystemExit):
        main(["bench", "--size", "middle", "--models", "tiny"])
