"""Help pages say the same in every language, and name every input."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCS, LOCALES = ROOT / "web" / "docs", ROOT / "locales"
LANGUAGES = ("en", "ja", "zh")
LAYOUT = re.compile(r"^(#+ |!\[|- |\||`)", re.MULTILINE)


def page(node_id: str, language: str) -> str:
    path = DOCS / (f"{node_id}.md" if language == "en" else f"{node_id}/{language}.md")
    return path.read_text(encoding="utf-8")


def ports(node: Any) -> Iterator[tuple[str, str]]:
    """Each input's id, and its key in the translations; inputs of choices and those that grow included."""
    from comfy_api.latest import io

    for port in node.define_schema().inputs:
        yield port.id, port.id
        if isinstance(port, io.DynamicCombo.Input):
            yield from ((each.id, f"{port.id}_{each.id}") for option in port.options for each in option.inputs)
        elif isinstance(port, io.Autogrow.Input):
            yield from ((name, f"{port.id}_{name}") for name in port.template.names)


def input_names(node: Any, language: str) -> list[str]:
    """Names of the node's inputs as the editor shows them in `language`; of a series of letters the ends."""
    node_id = node.define_schema().node_id
    found = [(name, key) for name, key in ports(node) if not re.search("_[b-g]$", name)]
    if language == "en":
        return [name for name, _ in found]
    words = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))[node_id]["inputs"]
    return [words[key]["name"] for _, key in found]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_page_names_every_input(nodes: dict[str, Any], language: str) -> None:
    lacking = {}
    for node_id, node in nodes.items():
        bold = set(re.findall(r"\*\*(.+?)\*\*", page(node_id, language)))
        lacking[node_id] = [name for name in input_names(node, language) if name not in bold]
    assert not any(lacking.values()), lacking


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_a_page_is_laid_out_as_the_english_one(nodes: dict[str, Any], language: str) -> None:
    """Headings, pictures, items and lines of code in the same order, and paragraph for paragraph."""
    for node_id in nodes:
        english, translated = page(node_id, "en"), page(node_id, language)
        assert LAYOUT.findall(translated) == LAYOUT.findall(english), node_id
        assert len(translated.split("\n\n")) == len(english.split("\n\n")), node_id


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_a_page_names_the_same_files_values_and_numbers(nodes: dict[str, Any], language: str) -> None:
    def facts(text: str) -> tuple[list[str], list[str]]:
        prose = re.sub(r"`[^`]*`", " ", text)
        numbers = re.findall(r"(?<![\w.-])-?\d+(?:\.\d+)?", re.sub(r"(?<=\d),(?=\d{3})", "", prose))
        return sorted(re.findall(r"`([^`]*)`", text)), sorted(set(numbers))

    for node_id in nodes:
        code, numbers = facts(page(node_id, "en"))
        translated_code, translated_numbers = facts(page(node_id, language))
        assert translated_code == code, node_id
        # Languages without an indefinite article and number words write small numbers in digits.
        assert set(numbers) <= set(translated_numbers), node_id
