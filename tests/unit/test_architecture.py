"""The picture of the packages: as the script draws it now, and as the import statements say."""

import re
from pathlib import Path

from docs.draw_architecture import COLOURS, DOCUMENT, FOUNDATION, written

ROOT = Path(__file__).resolve().parents[2]
STATEMENT = re.compile(r"^\s*from dicetalk(?:\.(\w+))?[\w.]* import (\w+)", re.MULTILINE)


def test_the_picture_is_drawn_from_the_code_as_it_is() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert text == written(text), "draw it anew: python docs/draw_architecture.py"


def test_every_import_statement_follows_from_the_arrows() -> None:
    arrows: dict[str, set[str]] = {}
    chart = DOCUMENT.read_text("utf-8").partition("```mermaid\n")[2].partition("```")[0]
    for importer, imported in re.findall(r"^    (\w+) --> (\w+)$", chart, re.MULTILINE):
        arrows.setdefault(importer, set()).add(imported)
    boxes = set(re.findall(r"^    (\w+)\[", chart, re.MULTILINE))
    assert boxes - {name for _, _, names in COLOURS.values() for name in names} == {FOUNDATION}
    stated = set()
    for path in [*(ROOT / "dicetalk").rglob("*.py"), *(ROOT / "nodes").glob("*.py")]:
        top, *inner = path.relative_to(ROOT).with_suffix("").parts
        importer = top if top == "nodes" or inner == ["__init__"] else inner[0].replace("__main__", "cli")
        text = path.read_text("utf-8")
        modules = [module or (name if is_module(name) else "dicetalk") for module, name in STATEMENT.findall(text)]
        modules += ["dicetalk"] if re.search(r"^\s*import dicetalk$", text, re.MULTILINE) else []
        stated |= {tuple(each if each in boxes else FOUNDATION for each in (importer, module)) for module in modules}
    stated = {(importer, imported) for importer, imported in stated if importer != imported}
    assert len(stated) > 60 and sum(map(len, arrows.values())) < 30
    assert {(a, b) for a in arrows for b in arrows[a]} <= stated
    assert {(a, b) for a, b in stated if b not in reached(a, arrows)} == set()


def reached(start: str, arrows: dict[str, set[str]]) -> set[str]:
    found, todo = set(), [start]
    while todo:
        new = arrows.get(todo.pop(), set()) - found
        found |= new
        todo += new
    return found


def is_module(name: str) -> bool:
    return (ROOT / "dicetalk" / f"{name}.py").is_file() or (ROOT / "dicetalk" / name).is_dir()
