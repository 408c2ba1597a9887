"""What of the set was compared: a test that finds nothing of its stage is skipped, and must not pass unnoticed."""

from pathlib import Path

import pytest
from golden_fixtures import Golden

HERE = Path(__file__).parent


def test_every_recorded_output_was_compared(golden: Golden, request: pytest.FixtureRequest) -> None:
    """Runs last. An own set must be compared completely; of another one, the rest is listed as a skip."""
    session = request.session
    run = {item.path for item in session.items}
    if request.config.option.keyword or not set(HERE.glob("test_*.py")) <= run or session.testsfailed:
        pytest.skip("not the whole folder was run, or a comparison failed")
    recorded = {(name, out) for name in golden.names(r".*\.safetensors") for out in golden.file(name).output_names()}
    left = sorted("/".join(output) for output in recorded - golden.compared)
    message = f"compared {len(recorded) - len(left)} of {len(recorded)} recorded outputs"
    if left:
        message += f"; not: {', '.join(left)}"
    assert recorded, f"{golden.folder} records nothing"
    if golden.folder.resolve() == (HERE / "data").resolve():
        assert not left, message
    if left:
        pytest.skip(message)
