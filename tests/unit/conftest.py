"""Model folders that the checkpoint tests share."""

import shutil
from pathlib import Path

import pytest
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
