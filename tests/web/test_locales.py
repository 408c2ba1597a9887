"""Every word that a person reads is there in every language."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parents[2]
LOCALES = ROOT / "locales"
TRANSLATED = ("zh", "ja")


def words(table: dict[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in table.items():
        found |= words(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def read(language: str, name: str) -> dict[str, Any]:
    return json.loads((LOCALES / language / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("language", TRANSLATED)
def test_widgets_words_are_translated(language: str) -> None:
    english, translated = words(read("en", "main")), words(read(language, "main"))
    assert english.keys() == translated.keys()
    for key, text in english.items():
        placeholders = re.compile(r"\{\w+\}")
        assert sorted(placeholders.findall(text)) == sorted(placeholders.findall(translated[key])), key


def test_every_word_the_widgets_ask_for_is_there() -> None:
    english = words(read("en", "main"))
    for source in (ROOT / "web").glob("*.mjs"):
        for key in re.findall(r'(?:\bt|FormatError)\("([\w.-]+)"', source.read_text(encoding="utf-8")):
            assert f"dicetalk.{key}" in english, f"{source.name}: {key}"


def full_names(inputs: dict[str, Any]) -> set[str]:
    """Names of inputs as the editor looks for their words: those of a choice, and those that grow, after its own."""
    names = set(inputs)
    for name, (_, about) in inputs.items():
        for option in about.get("options", []) if isinstance(about.get("options"), list) else []:
            if isinstance(option, dict):
                inner = {**option["inputs"].get("required", {}), **option["inputs"].get("optional", {})}
                names |= {f"{name}_{each}" for each in inner}
        names |= {f"{name}_{each}" for each in about.get("template", {}).get("names", [])}
    return names


@pytest.mark.parametrize("language", TRANSLATED)
def test_nodes_are_translated(language: str, node_definitions: dict[str, Any]) -> None:
    translated = read(language, "nodeDefs")
    assert translated.keys() == node_definitions.keys()
    for node_id, definition in node_definitions.items():
        inputs = {**definition["input"].get("required", {}), **definition["input"].get("optional", {})}
        assert translated[node_id]["inputs"].keys() == full_names(inputs), node_id
        assert len(translated[node_id]["outputs"]) == len(definition["output"]), node_id


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_text_of_a_node_is_there_in_a_language_of_its_own(language: str) -> None:
    script = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
    own = {"SVD", "Latent"}  # names that stay
    for node_id, node in read(language, "nodeDefs").items():
        ports = {f"inputs.{name}": port for name, port in node["inputs"].items()}
        ports |= {f"outputs.{number}": port for number, port in node["outputs"].items()}
        texts = {"display_name": node["display_name"], "description": node["description"]}
        for place, port in ports.items():
            assert {"name", "tooltip"} <= port.keys(), f"{node_id}.{place}"
            texts |= {f"{place}.{key}": port[key] for key in ("name", "tooltip")}
        for place, text in texts.items():
            assert script.search(text) or text in own, f"{node_id}.{place}: {text!r}"


@pytest.mark.parametrize("language", TRANSLATED)
def test_nodes_words_hold_no_character_that_the_editor_interprets(language: str) -> None:
    for key, text in words(read(language, "nodeDefs")).items():
        assert not re.search(r"[{}|@]", text), key


@pytest.mark.parametrize("page", ["{}.md", *(f"{{}}/{language}.md" for language in TRANSLATED)])
def test_every_node_has_a_help_page_with_a_picture(
    server_url: str, node_definitions: dict[str, Any], page: str
) -> None:
    for node_id, definition in node_definitions.items():
        folder = quote(definition["python_module"].removeprefix("custom_nodes."))
        docs = f"{server_url}/extensions/{folder}/docs"
        with urlopen(f"{docs}/{page.format(node_id)}") as text:
            pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text.read().decode())
        assert pictures, node_id
        for picture in pictures:
            with urlopen(f"{docs}/{picture}") as file:
                assert file.read(8) == b"\x89PNG\r\n\x1a\n", picture
