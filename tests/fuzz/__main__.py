"""``python -m fuzz``; see the text of the package."""

import argparse
import itertools
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

from fuzz import readers
from fuzz.worker import Outcome, Worker


def main() -> int:
    """Run cases for a time; exit status 1 if one has failed."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Read changed files until the time is over (Linux only).")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of all cases (default: 0)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each target (default: 0)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a target; may be repeated")
    parser.add_argument("--out", type=Path, default=Path("fuzz-failures"), help="folder for cases that have failed")
    parser.add_argument("--replay", type=Path, metavar="FOLDER", help="read one case of --out again")
    options = parser.parse_args()
    with Worker(readers.targets) as worker:
        if options.replay:
            return _replay(worker, options.replay)
        return _run(worker, options)


def _run(worker: Worker, options: argparse.Namespace) -> int:
    names = [name for name in worker.names if not options.only or name in options.only]
    if not names:
        sys.exit(f"No such target. Known: {', '.join(worker.names)}.")
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    end = time.monotonic() + 60 * options.minutes
    for number in itertools.count(options.first):
        if time.monotonic() > end:
            break
        for name in names:
            outcome = worker.run(name, f"{options.seed} {name} {number}")
            counts[name][outcome.kind] += 1
            if outcome.kind == "failed":
                _keep(worker, outcome, options, name, number)
    for name, counted in counts.items():
        print(f"{name:<20} {counted['read']:>7} read {counted['refused']:>7} refused {counted['failed']:>4} failed")
    total, failed = (sum(c.total() for c in counts.values()), sum(c["failed"] for c in counts.values()))
    print(f"{total} cases in {options.minutes:g} minutes, seed {options.seed}: {failed} failed")
    return 1 if failed else 0


def _keep(worker: Worker, outcome: Outcome, options: argparse.Namespace, name: str, number: int) -> None:
    kept = options.out / f"{name}-{options.seed}-{number}"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(worker.case, kept / "case", symlinks=True)
    (kept / "reason.txt").write_text(outcome.reason + "\n")
    print(f"FAILED {kept}: {outcome.reason.splitlines()[0]}", flush=True)


def _replay(worker: Worker, kept: Path) -> int:
    name = kept.resolve().name.rsplit("-", 2)[0]
    shutil.rmtree(worker.case, ignore_errors=True)
    shutil.copytree(kept / "case", worker.case, symlinks=True)
    outcome = worker.run(name, None)
    print(outcome.kind, outcome.reason)
    return 1 if outcome.kind == "failed" else 0


if __name__ == "__main__":
    sys.exit(main())
