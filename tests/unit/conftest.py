"""Model folders that the checkpoint tests share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub, point_clients_at, published, serving
from released_files import write_released


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete small model in the released formats; tests do not change it."""
    folder = tmp_path_factory.mktemp("released")
    write_released(folder)
    return folder


@pytest.fixture
def folder(released: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return shutil.copytree(released, tmp_path / "models")


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands of :func:`forked_commands.command` read."""
    from forked_commands import write_inputs  # imports what trains

    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FakeHub:
    """What the real repositories publish, small; tests do not change it."""
    return published(tmp_path_factory.mktemp("published"))


@pytest.fixture
def hub(made: FakeHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A copy to change, on a local server that the clients ask."""
    copy = FakeHub({key: dict(content) for key, content in made.content.items()})
    with serving(copy):
        point_clients_at(copy, monkeypatch)
        yield copy
