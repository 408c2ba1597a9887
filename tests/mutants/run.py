"""Mutation check: puts in each listed fault alone and runs the tests that should notice.

    python tests/mutants/run.py                 every fault, minutes
    python tests/mutants/run.py --only scale    faults whose name or file contains "scale"
    python tests/mutants/run.py --part 1/4      every fourth fault, from the first; parts can run side by side
    python tests/mutants/run.py --check         compare the list with the code only

The lists are `sampling.py` and `inputs_and_outputs.py`. A copy of the tree is changed, never the checkout. It ends with
1 if a fault survives, if an equivalent one is noticed, if the tests fail without any fault, or if a place in the list
is not found exactly once in the code.

Heavy packages are imported once; each run is a fork of that process (Linux and macOS).
"""

import argparse
import contextlib
import importlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))
import inputs_and_outputs  # noqa: E402
import sampling  # noqa: E402
from fault import Fault  # noqa: E402

FAULTS = sampling.FAULTS + inputs_and_outputs.FAULTS

PRELOADED = (
    *("torch", "numpy", "cv2", "av", "soxr", "soundfile", "PIL.Image", "einops", "safetensors.torch", "scipy.signal"),
    *("pytest", "hypothesis", "diffusers.models", "transformers.models.whisper.modeling_whisper"),
)
PASSED, FAILED = 0, 1
WRONG_COPY, TIMED_OUT = 98, 99


def main() -> int:
    """Run the faults that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="part of a fault's name or file")
    parser.add_argument("--part", type=_part, default=(1, 1), help="which of how many equal parts, as 1/4")
    parser.add_argument("--check", action="store_true", help="do not run anything")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one run of tests")
    options = parser.parse_args()
    stale = [f"{fault.name}: found {n} times in {fault.file}" for fault in FAULTS if (n := occurrences(fault)) != 1]
    print(*stale, sep="\n", end="\n" if stale else "")
    if options.check or stale:
        print(f"{len(FAULTS)} faults, {len(stale)} of them not found exactly once")
        return bool(stale)
    chosen = [fault for fault in FAULTS if options.only in fault.name or options.only in fault.file]
    chosen = chosen[options.part[0] - 1 :: options.part[1]]
    os.environ["OMP_NUM_THREADS"] = "1"
    for package in PRELOADED:
        importlib.import_module(package)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder) / "tree"
        copy_tree(copy)
        wrong = red_without_faults(chosen, copy, options.timeout)
        for fault in [] if wrong else chosen:
            began = time.monotonic()
            code = with_fault(fault, copy, options.timeout)
            verdict, good = judged(fault, code)
            print(f"{verdict:9} {time.monotonic() - began:5.0f} s  {fault.file}  {fault.name}", flush=True)
            wrong += [] if good else [fault.name]
    print(f"{len(chosen)} faults, {len(wrong)} with another end than expected" + "".join(f"\n  {w}" for w in wrong))
    return bool(wrong)


def _part(text: str) -> tuple[int, int]:
    number, of = map(int, text.split("/"))
    if not 1 <= number <= of:
        raise ValueError(text)
    return number, of


def occurrences(fault: Fault) -> int:
    """How often the place of `fault` is in the checkout."""
    path = ROOT / fault.file
    return path.read_text().count(fault.before) if path.is_file() else 0


def copy_tree(target: Path) -> None:
    """Copy what git knows or would add."""
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)


def red_without_faults(faults: Sequence[Fault], copy: Path, timeout: float) -> list[str]:
    """Tests of `faults` that fail as the code stands."""
    wanted = dict.fromkeys(test for fault in faults for test in fault.tests)
    red = [test for test in wanted if tested((test,), copy, timeout) != PASSED]
    print(f"{len(wanted)} sets of tests without faults, {len(red)} of them fail", flush=True)
    return red


def with_fault(fault: Fault, copy: Path, timeout: float) -> int:
    """The tests' exit code with `fault` put in."""
    path = copy / fault.file
    text = path.read_text()
    path.write_text(text.replace(fault.before, fault.after))
    try:
        return tested(fault.tests, copy, timeout)
    finally:
        path.write_text(text)


def judged(fault: Fault, code: int) -> tuple[str, bool]:
    """A word for what happened, and whether that is what the list expects."""
    if code in (FAILED, TIMED_OUT):
        return "noticed", not fault.equivalent
    if code == PASSED:
        return ("equal" if fault.equivalent else "SURVIVES"), bool(fault.equivalent)
    return f"BROKEN {code}", False


def tested(tests: Sequence[str], copy: Path, timeout: float) -> int:
    """Exit code of pytest on `tests` in `copy`, in a fork."""
    child = multiprocessing.get_context("fork").Process(target=_run_pytest, args=(tests, copy))
    child.start()
    child.join(timeout)
    if child.is_alive():
        child.kill()
        child.join()
        return TIMED_OUT
    return child.exitcode


def _run_pytest(tests: Sequence[str], copy: Path) -> None:
    os.chdir(copy)
    sys.dont_write_bytecode = True
    os.environ["PYTHONPATH"] = str(copy)
    sys.path[:] = [str(copy), *(place for place in sys.path if place not in (str(ROOT), str(HERE), ""))]
    with (copy.parent / "log.txt").open("w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        code = importlib.import_module("pytest").main(["-x", "-q", "-p", "no:cacheprovider", *tests])
    tested_code = sys.modules.get("dicetalk")
    if tested_code is None or not Path(tested_code.__path__[0]).is_relative_to(copy):
        code = WRONG_COPY
    os._exit(int(code))


if __name__ == "__main__":
    sys.exit(main())
