"""Fifty queued runs on one server leave memory, descriptors and threads as they were after the fifth."""

import sys
import time
from statistics import median

import pytest
from comfyui.prompts import talking
from comfyui.server import Server
from measured_process import Taken, taken

EMOTIONS = ("happy", "sad", "fear", "angry")

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def settled(server: Server) -> Taken:
    """What the server has taken once its answers are over."""
    time.sleep(0.5)
    return taken(server.process.pid)


def run_many(server: Server, count: int) -> list[Taken]:
    """Queue prompts, each with another emotion and seed, so that nothing of the sampler is cached."""
    series = []
    for number in range(count):
        run = server.run(talking(EMOTIONS[number % len(EMOTIONS)], seed=number), preview_method="latent2rgb")
        assert run.error is None and "DICETalk_Sampler" in run.executed, run.error
        series.append(settled(server))
    return series


def test_runs_leave_no_descriptors_and_no_threads(server: Server) -> None:
    series = run_many(server, 6)
    few = {(each.descriptors, each.threads) for each in series[3:]}
    assert len(few) == 1, [str(each) for each in series]


@pytest.mark.slow
def test_fifty_runs_leave_nothing(server: Server) -> None:
    series = run_many(server, 50)
    print("", *series, sep="\n")
    fifth, last = series[4], series[-1]
    assert median(each.megabytes for each in series[-5:]) <= 1.05 * fifth.megabytes
    assert last.descriptors <= 1.05 * fifth.descriptors and last.threads <= 1.05 * fifth.threads
