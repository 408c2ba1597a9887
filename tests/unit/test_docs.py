"""The documents: what they show runs, where they point exists, and README stays short."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import av
import pytest
from emotion_tracks import PRIORS
from small_models import SMALL_MODEL, write_small_model

from dicetalk.cli.parser import build_parser
from dicetalk.config import SamplingConfig
from dicetalk.emotion.files import track_from_json
from dicetalk.motion.parse import parse_motion

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
names = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


def blocks(document: Path, *kinds: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(document.read_text()) if kind in kinds]


def test_readme_is_short_and_begins_with_a_result() -> None:
    readme = ROOT / "README.md"
    assert len(readme.read_bytes()) <= 12_000
    first = re.search(r"!\[.*?\]\((.*?)\)", readme.read_text())
    assert first[1] == "docs/pictures/eight-emotions.png"


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_links_and_pictures_exist(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        assert target.startswith("https://") or (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_python_runs(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = blocks(document, "python")
    if not code:
        return
    quick = replace(SMALL_MODEL, sampling=SamplingConfig(short_side=64, steps=1))
    write_small_model(tmp_path / "models", quick)
    (tmp_path / "examples").symlink_to(ROOT / "examples", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in code:  # one after another, as somebody reads them
        exec(compile(block, document.name, "exec"), namespace)
    for video in tmp_path.glob("*.mp4"):
        with av.open(str(video)) as container:
            assert container.streams.video[0].frames > 0


def test_readme_shows_the_library_in_three_lines() -> None:
    code = blocks(ROOT / "README.md", "python")
    assert code[0].startswith("from dicetalk import DiceTalk\n")
    assert len([line for line in code[0].splitlines() if line and "import" not in line]) == 3


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_commands_are_understood(document: Path) -> None:
    """Every command line is one that the parser takes; what it does is tested where the command is."""
    for block in blocks(document, ""):
        for line in re.split(r"\n|&&", block.replace("\\\n", " ")):
            words = shlex.split(line, comments=True)
            words = words[words.index("--multi_gpu") + 1 :] if "--multi_gpu" in words else words
            if words[1:3] == ["-m", "dicetalk"]:
                words = words[2:]
            if words[:2] == ["-m", "dicetalk"]:
                words = words[1:]
            if words and words[0] == "dicetalk":
                build_parser().parse_args(words[1:])


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_json_is_an_emotion_track_or_motion_over_time(document: Path) -> None:
    for block in blocks(document, "json"):
        if '"value":' in block:
            assert isinstance(parse_motion(block), tuple)
        else:
            assert track_from_json(block, PRIORS).keyframes


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_no_block_goes_untested(document: Path) -> None:
    kinds = {kind for kind, _ in BLOCK.findall(document.read_text())}
    # Tables of jobs are read by test_jobs, the picture of the packages by test_architecture.
    assert kinds <= {"", "python", "json", "csv", "mermaid"}, "a kind of code block that no test here reads"
