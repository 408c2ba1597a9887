"""What of the sets was compared: a test that finds nothing of its stage is skipped, and must not pass unnoticed."""

from pathlib import Path

import pytest
from golden_fixtures import OWN, golden_sets

HERE = Path(__file__).parent


def test_every_recorded_output_was_compared(request: pytest.FixtureRequest) -> None:
    """Runs last. An own set must be compared completely; of another one, the rest is listed as a skip."""
    session = request.session
    run = {item.path for item in session.items}
    if request.config.option.keyword or not set(HERE.glob("test_*.py")) <= run or session.testsfailed:
        pytest.skip("not the whole folder was run, or a comparison failed")
    messages = []
    for golden in golden_sets(request.config):
        if golden.foreign:
            pytest.skip(golden.foreign)
        files = golden.names(r".*\.safetensors")
        recorded = {(name, out) for name in files for out in golden.file(name).output_names()}
        left = sorted("/".join(output) for output in recorded - golden.compared)
        message = f"{golden.folder.name}: compared {len(recorded) - len(left)} of {len(recorded)} recorded outputs"
        assert recorded, f"{golden.folder} records nothing"
        if left:
            messages.append(f"{message}; not: {', '.join(left)}")
        assert not left or golden.folder.resolve() not in map(Path.resolve, OWN), messages[-1]
    if messages:
        pytest.skip("; ".join(messages))
