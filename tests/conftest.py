"""Options and fixtures that every test folder shares."""

from pathlib import Path

import pytest
from golden_fixtures import Golden, golden_set

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-dir",
        type=Path,
        default=HERE / "golden" / "data",
        help="folder with numeric fixtures of the released program (manifest.json and safetensors files)",
    )
    parser.addoption(
        "--update-schemas", action="store_true", help="write the nodes' schemas down anew after a wanted change"
    )
    parser.addoption(
        "--update-documents", action="store_true", help="write the documents' tables anew after a wanted change"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "files_of_set(pattern): run the test for each file of the set of fixtures that `pattern` matches"
    )
    config.addinivalue_line("markers", "cases_of_set(pattern): run the test for each case of those files")


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Golden:
    """The numeric fixtures of ``--golden-dir``."""
    return golden_set(request.config)
