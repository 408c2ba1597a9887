"""Makes one test for each case of the sets that are compared: of ``--golden-dir``, or the own ones."""

from pathlib import Path

import pytest
from golden_fixtures import Golden, GoldenFile, golden_sets

HERE = Path(__file__).parent


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for marker in metafunc.definition.iter_markers():
        if marker.name not in ("files_of_set", "cases_of_set") or "file_name" not in metafunc.fixturenames:
            continue
        sets = golden_sets(metafunc.config)
        files = [golden.file(name) for golden in sets if not golden.foreign for name in golden.names(*marker.args)]
        if marker.name == "files_of_set":
            found = [file.name for file in files]
            metafunc.parametrize("file_name", found or [missing(sets, *marker.args)], scope="module")
        else:
            found = [
                pytest.param(file.name, case, id=case if len(files) == 1 else f"{file.name.partition('.')[0]}-{case}")
                for file in files
                for case in file.cases
            ]
            metafunc.parametrize(
                ("file_name", "case"), found or [missing(sets, *marker.args, values=2)], scope="module"
            )


def missing(sets: list[Golden], pattern: str, values: int = 1) -> object:
    """A parameter that is skipped, because no set has what would stand there."""
    folders = ", ".join(str(golden.folder) for golden in sets)
    reason = sets[0].foreign or f"no file {pattern} with what this test compares is in {folders}"
    return pytest.param(*[None] * values, marks=pytest.mark.skip(reason=reason), id="not recorded")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the count of what was compared after everything that compares."""
    items.sort(key=lambda item: item.path.parent == HERE and item.path.name == "test_coverage.py")


@pytest.fixture(scope="module")
def file(request: pytest.FixtureRequest, file_name: str) -> GoldenFile:
    """The file that the test runs on; the sets have no names in common."""
    return next(golden.file(file_name) for golden in golden_sets(request.config) if golden.names(file_name))
