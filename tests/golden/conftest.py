"""Makes one test for each case of the set that ``--golden-dir`` names."""

from pathlib import Path

import pytest
from golden_fixtures import Golden, GoldenFile, golden_set

HERE = Path(__file__).parent


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for marker in metafunc.definition.iter_markers():
        if "file_name" not in metafunc.fixturenames:
            continue
        if marker.name == "files_of_set":
            golden = golden_set(metafunc.config)
            found = [] if golden.foreign else golden.names(*marker.args)
            metafunc.parametrize("file_name", found or [missing(golden, *marker.args)], scope="module")
        elif marker.name == "cases_of_set":
            golden = golden_set(metafunc.config)
            files = [] if golden.foreign else golden.names(*marker.args)
            found = [
                pytest.param(name, case, id=case if len(files) == 1 else f"{name.partition('.')[0]}-{case}")
                for name in files
                for case in golden.file(name).cases
            ]
            metafunc.parametrize(
                ("file_name", "case"), found or [missing(golden, *marker.args, values=2)], scope="module"
            )


def missing(golden: Golden, pattern: str, values: int = 1) -> object:
    """A parameter that is skipped, because the set lacks what would stand there."""
    reason = golden.foreign or f"no file {pattern} with what this test compares is in {golden.folder}"
    return pytest.param(*[None] * values, marks=pytest.mark.skip(reason=reason), id="not recorded")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the count of what was compared after everything that compares."""
    items.sort(key=lambda item: item.path.parent == HERE and item.path.name == "test_coverage.py")


@pytest.fixture(autouse=True)
def _of_this_program(request: pytest.FixtureRequest) -> None:
    """Skip the tests that read the chosen set if it was recorded from another program."""
    if "golden" in request.fixturenames:
        foreign = golden_set(request.config).foreign
        if foreign:
            pytest.skip(foreign)


@pytest.fixture(scope="module")
def file(golden: Golden, file_name: str) -> GoldenFile:
    """The file of the set that the test runs on."""
    return golden.file(file_name)
