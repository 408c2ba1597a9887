"""`tests/golden` on other sets of the same form."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_set import write_set
from made_sonic_set import write_sonic_set

ROOT = Path(__file__).parents[2]


def run_on(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/golden",
        "--golden-dir",
        str(folder),
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, env=env)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write_set(folder)
    return folder


@pytest.mark.slow
def test_a_set_of_other_sizes_seeds_and_cases_is_compared(made: Path) -> None:
    done = run_on(made)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "KeyError" not in done.stdout
    for lack in ("rife.safetensors is not in", "case unrecorded: no hidden states", "no 'sample' is recorded"):
        assert lack in done.stdout, done.stdout[-4000:]
    # Of everything recorded only the case without inputs is left, and it is named.
    assert "not: unet_tiny_extra.safetensors/lacking/sample" in done.stdout


@pytest.mark.slow
def test_a_sonic_set_of_other_sizes_seeds_and_cases_is_compared(tmp_path: Path) -> None:
    write_sonic_set(tmp_path)
    done = run_on(tmp_path)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "KeyError" not in done.stdout
    assert "; not: " not in done.stdout, "something that is recorded was not compared"


@pytest.mark.slow
def test_a_wrong_number_in_another_set_is_noticed(made: Path, tmp_path: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_text())
    for path in made.glob("*.safetensors"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for entry in manifest["files"].values():
        entry["tolerance"] = {name: {"atol": -1.0} for name in entry["tolerance"]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    done = run_on(tmp_path, "-k", "not loop")
    assert done.returncode == 1
    for compared in ("sample", "tokens", "padded", "cond", "narrow"):
        assert f"{compared}: off by" in done.stdout, compared


def test_a_set_of_another_program_is_skipped_with_the_reason(tmp_path: Path) -> None:
    manifest = {"reference": "https://example.org/Another", "files": {}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    done = run_on(tmp_path)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "holds fixtures of https://example.org/Another; these tests compare DICE-Talk and Sonic" in done.stdout
    assert "failed" not in done.stdout and "error" not in done.stdout.lower().replace("errors.py", "")


@pytest.mark.parametrize(("content", "said"), [(None, "no manifest.json"), ({"set": "B"}, "no table `files`")])
def test_a_folder_that_is_no_set_is_refused(tmp_path: Path, content: dict | None, said: str) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(json.dumps(content))
    done = run_on(tmp_path)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
