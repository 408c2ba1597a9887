"""Options and fixtures that every test folder shares."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_fixtures import Golden, golden_set
from hypothesis import settings

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared"

LONG = (
    "test_tiny_model.py",
    "test_drawn_train.py",
    "test_emotion_recognise.py",
    "test_drawn_evaluate_command.py",
    "test_end_to_end.py",
    "test_drawn_faces.py",
    "test_docs.py",
    "test_emotion_algebra.py",
    "test_kills.py",
    "test_cli.py",
)
"""Files that take a minute or more."""

settings.register_profile("machines of any speed", deadline=None)
settings.load_profile("machines of any speed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-dir",
        type=Path,
        help="folder with numeric fixtures of a released program (manifest.json and safetensors files), instead of the "
        "own ones",
    )
    parser.addoption(
        "--update-schemas", action="store_true", help="write the nodes' schemas down anew after a wanted change"
    )
    parser.addoption(
        "--update-documents", action="store_true", help="write the documents' tables anew after a wanted change"
    )


def pytest_configure(config: pytest.Config) -> None:
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:  # or each takes all processors for every sum, and waits for the others
        threads = max(1, (os.cpu_count() or 1) // workers)
        torch.set_num_threads(threads)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # of programs that tests start
    config.addinivalue_line(
        "markers", "files_of_set(pattern): run the test for each file of the set of fixtures that `pattern` matches"
    )
    config.addinivalue_line("markers", "cases_of_set(pattern): run the test for each case of those files")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes minutes first: several processes then end at about the same time."""

    def rank(item: pytest.Item) -> int:
        if item.path.parent == HERE / "golden":
            return -1
        return LONG.index(item.path.name) if item.path.name in LONG else len(LONG)

    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep ``tests/golden`` in one process: its last test counts what the others compared there."""
    from xdist.scheduler import LoadFileScheduling

    if config.getoption("dist") != "loadfile":
        return None

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "tests/golden" if file.startswith("tests/golden/") else file

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Golden:
    """The numeric fixtures of DICE-Talk."""
    return golden_set(request.config, "DICE-Talk")


@pytest.fixture(scope="session")
def sonic(request: pytest.FixtureRequest) -> Golden:
    """The numeric fixtures of Sonic."""
    return golden_set(request.config, "Sonic")
