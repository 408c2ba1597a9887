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

FAST_FOLDERS = (HERE / "unit", HERE / "nodes")
NOT_FAST = (
    *LONG,
    *("test_command_faults.py", "test_disk_faults.py", "test_first_minute.py", "test_golden_sets.py", "test_leaks.py"),
    *("test_train_loop.py", "test_train_resume.py", "test_prepare_run.py", "test_reference_expressions.py"),
    *("test_drawn_looks.py", "test_drawn_evaluate.py", "test_drawn_transfer.py", "test_drawn_voices.py"),
    *("test_import_cost.py", "test_memory.py", "test_load_memory.py", "test_reference_memory.py"),
    *("test_sampler_memory.py", "test_talk_output.py", "test_tiny_name.py", "test_pipeline.py", "test_sonic_clip.py"),
    *("test_sonic_files.py", "test_released_weights.py", "test_checkpoints_convert.py", "test_checkpoints_doctor.py"),
    *("test_checkpoints_download.py", "test_checkpoints_layouts.py", "test_checkpoints_load.py"),
    *("test_audio_inputs.py", "test_audio_lengths.py", "test_emotion_voice.py"),
    *(
        "test_reuse.py",
        "test_portrait_faces.py",
        "test_portrait_notices.py",
        "test_emotion_embedder.py",
        "test_video_retime.py",
    ),
    *("test_archive.py", "test_checks.py", "test_extract.py", "test_folders.py", "test_hosting.py"),
    *("test_motion_inputs.py", "test_notices.py", "test_packaging.py", "test_prompts.py", "test_run.py"),
    *("test_sampler_values.py", "test_sonic.py", "test_templates.py", "test_presets.py", "test_drawn_frontier.py"),
)
"""Files of :data:`FAST_FOLDERS` that ``-m fast`` leaves out: about five seconds or more. Single tests of other files
are marked `long`."""

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


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Whether a file need not be imported: of the fast tests' minute, reading all others would take a third."""
    if config.option.markexpr != "fast" or collection_path.is_dir():
        return None
    return collection_path.parent not in FAST_FOLDERS or collection_path.name in NOT_FAST or None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the fast tests, and put what takes minutes first: several processes then end at about the same time."""
    for item in items:
        marked = any(item.get_closest_marker(mark) for mark in ("long", "slow", "full"))
        if item.path.parent in FAST_FOLDERS and item.path.name not in NOT_FAST and not marked:
            item.add_marker("fast")

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
