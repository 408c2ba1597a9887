"""The tables of parameters, and everything that is made from them: options, node inputs, documents, translations.

Needs no ComfyUI; ``tests/nodes`` compares the nodes' real schemas.
"""

import argparse
import ast
import inspect
import json
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import pytest
from import_graph import modules

from dicetalk.adapters import DICE_ADAPTERS
from dicetalk.cli.options import add_options, parse_setting
from dicetalk.cli.parser import build_parser
from dicetalk.errors import SettingError
from dicetalk.parameters import Parameter, Ramp, check_parameters, parameter, parameters
from dicetalk.settings import PortraitSettings, SamplerSettings, SpeechSettings, VideoSettings
from dicetalk.talk import DiceTalk

ROOT = Path(__file__).parents[2]
COMMANDS = ROOT / "docs" / "commands.md"
SNAPSHOT = ROOT / "tests" / "nodes" / "schemas.json"
NODES = {
    SamplerSettings: "DICETalk_Sampler",
    PortraitSettings: "DICETalk_PortraitCrop",
    SpeechSettings: "DICETalk_AudioEncode",
    VideoSettings: "DICETalk_Sampler",
}
"""Tables, and the nodes whose inputs are made from them."""

TABLE = [(each, node) for settings, node in NODES.items() for each in parameters(settings)]
IN_NODES = [(each, node) for each, node in TABLE if not each.of_file]
names = [f"{node}-{each.name}" for each, node in TABLE]
names_in_nodes = [f"{node}-{each.name}" for each, node in IN_NODES]


def generate_parser() -> argparse.ArgumentParser:
    return next(action for action in build_parser()._actions if action.choices).choices["generate"]


def options_as_documented(parser: argparse.ArgumentParser) -> str:
    """A table for each group of the options of `parser`."""
    text = ""
    for group in parser._action_groups:
        rows = [row(action) for action in group._group_actions if action.dest != "help"]
        if rows:
            head = f"**{group.title.capitalize()}**\n\n| option | what it does |\n| --- | --- |\n"
            text += head + "".join(f"{each}\n" for each in rows) + "\n"
    return text


def row(action: argparse.Action) -> str:
    value = f" {action.metavar or action.dest.upper()}"
    if action.choices:
        value = f" {{{','.join(action.choices)}}}"
    return f"| `{action.option_strings[0]}{'' if action.nargs == 0 else value}` | {action.help} |"


def translated(each: Parameter, node: str, language: str) -> list[dict]:
    """Entries of a parameter's inputs in the locales; the name of a choice stands before those of its own inputs."""
    inputs = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text())[node]["inputs"]
    own = [each.name, f"{each.name}_change"] if each.kind == Ramp else [each.input_name]
    return [inputs.get(name) or next(inputs[key] for key in inputs if key.endswith(f"_{name}")) for name in own]


def test_the_documents_have_the_options_as_the_parser_has_them(request: pytest.FixtureRequest) -> None:
    """After a wanted change: ``python -m pytest tests/unit/test_parameters.py --update-documents``."""
    text = COMMANDS.read_text()
    begin = text.index("**Needed**")
    end = text.index("## ", begin)
    made = options_as_documented(generate_parser())
    if request.config.getoption("--update-documents"):
        COMMANDS.write_text(text[:begin] + made + text[end:])
    else:
        assert text[begin:end] == made


@pytest.mark.parametrize(("each", "node"), TABLE, ids=names)
def test_every_parameter_is_an_option(each: Parameter, node: str) -> None:
    actions = {action.dest: action for action in generate_parser()._actions}
    assert actions[each.name].default == (None if each.of_model or each.of_preset else each.default)
    assert each.help in actions[each.name].help or each.off[1] == actions[each.name].help


def test_every_parameter_is_used() -> None:
    """Something reads the field, takes it as an argument or names it, beside the command line and what calls it."""
    used = {f"{adapter.name}_scale" for adapter in DICE_ADAPTERS}
    for name, path in modules("dicetalk").items():
        if name.startswith(("dicetalk.cli", "dicetalk.drawn", "dicetalk.bench")):
            continue
        for found in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(found, ast.Attribute) and isinstance(found.ctx, ast.Load):
                used.add(found.attr)
            elif isinstance(found, ast.arg):
                used.add(found.arg)
            elif isinstance(found, ast.Constant) and isinstance(found.value, str):
                used.add(found.value)
    assert {each.name for each, _ in TABLE} - used == set()
    assert "warmth" not in used


@pytest.mark.parametrize(("each", "node"), IN_NODES, ids=names_in_nodes)
def test_every_parameter_is_an_input(each: Parameter, node: str) -> None:
    """``tests/nodes/test_schemas.py`` compares the snapshot with the nodes."""
    inputs = json.loads(SNAPSHOT.read_text())[node]["inputs"]
    inside = [port for whole in inputs if isinstance(whole.get("options"), dict) for port in whole["options"].values()]
    assert each.input_name in {port["id"] for port in [*inputs, *chain(*inside)]}


@pytest.mark.parametrize("language", ["ja", "zh"])
@pytest.mark.parametrize(("each", "node"), IN_NODES, ids=names_in_nodes)
def test_every_parameter_is_translated(each: Parameter, node: str, language: str) -> None:
    for entry in translated(each, node, language):
        assert entry["name"] and entry["tooltip"]
        assert set(entry.get("options", ())) == set(each.choices)


@pytest.mark.parametrize("language", ["en", "ja", "zh"])
@pytest.mark.parametrize(("each", "node"), IN_NODES, ids=names_in_nodes)
def test_every_parameter_is_on_the_help_pages(each: Parameter, node: str, language: str) -> None:
    page = f"{node}.md" if language == "en" else f"{node}/{language}.md"
    titles = [each.input_name] + ([translated(each, node, language)[0]["name"]] if language != "en" else [])
    text = (ROOT / "web" / "docs" / page).read_text()
    assert any(f"**{title}" in text for title in titles)


@pytest.mark.parametrize(("each", "node"), TABLE, ids=names)
def test_python_has_the_same_defaults(each: Parameter, node: str) -> None:
    if each.name in (taken := inspect.signature(DiceTalk.generate).parameters):
        assert taken[each.name].default == each.default


def test_every_number_is_checked_at_both_ends() -> None:
    for settings in NODES:
        for each in parameters(settings):
            if each.low is None:
                continue
            nothing = () if each.nothing else (None,)
            for value in (each.low - 1, each.high + 1, float("nan"), "1", True, *nothing):
                with pytest.raises(SettingError, match=each.name):
                    replace(settings(), **{each.name: value})
    with pytest.raises(SettingError, match="schedule"):
        SamplerSettings(schedule="loose")


def test_a_field_that_is_not_described_cannot_be_forgotten() -> None:
    @dataclass(frozen=True)
    class Larger(SamplerSettings):
        forgotten: float = 1.0

    with pytest.raises(TypeError, match="forgotten"):
        Larger()


def test_one_more_field_is_an_option_and_has_its_range() -> None:
    @dataclass(frozen=True)
    class Larger:
        warmth: float = parameter(0.5, "how warm the colours are", low=0.0, high=1.0, step=0.1)

        def __post_init__(self) -> None:
            check_parameters(self)

    parser = argparse.ArgumentParser()
    add_options(parser, Larger)
    assert parser.parse_args(["--warmth", "0.7"]).warmth == 0.7
    assert "how warm the colours are (default: 0.5)" in parser.format_help()
    with pytest.raises(SettingError, match="warmth is 1"):
        Larger(1.5)


def test_values_are_read_as_the_parameter_says() -> None:
    assert parse_setting("portrait_guidance", "1:2.5") == (1.0, 2.5)
    assert parse_setting("batched_guidance", "off") is False
