"""Fifty clips after one another leave memory, descriptors and threads as they were after the fifth.

A few clips by default, with descriptors and threads alone; ``-m slow -s`` makes fifty and prints what they took.
"""

import gc
import sys
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import soundfile
from measured_process import Taken, taken
from small_models import write_small_model

from dicetalk import DiceTalk

ROOT = Path(__file__).parents[2]
FACES = [(150 + 4 * n, 100, 220, 260) for n in range(3)]
EMOTIONS = ("happy", "sad:0.5+fear:0.5", "neutral", "a little angry")
SETTLED = 5
"""Clips after which allocators, caches and pools of threads have what they need."""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> DiceTalk:
    return DiceTalk.load(write_small_model(tmp_path_factory.mktemp("models")), device="cpu")


def make_clips(talk: DiceTalk, folder: Path, count: int) -> list[Taken]:
    """Make and save clips of changing faces, emotions and kinds of file; what the process has taken after each."""
    samples = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
    soundfile.write(folder / "speech.wav", samples, 16_000)
    series = []
    for number in range(count):
        speech = folder / "speech.wav" if number % 2 else (samples, 16_000)
        clip = talk.generate(
            ROOT / "examples" / "portrait.jpg",
            speech,
            EMOTIONS[number % len(EMOTIONS)],
            seed=number,
            steps=1,
            short_side=64,
            box=FACES[number % len(FACES)],
        )
        clip.save(folder / (f"{number}.mp4" if number % 3 else f"{number}"))
        del clip
        gc.collect()
        series.append(taken())
    return series


def test_clips_leave_no_descriptors_and_no_threads(talk: DiceTalk, tmp_path: Path) -> None:
    series = make_clips(talk, tmp_path, 6)
    assert {(each.descriptors, each.threads) for each in series[2:]} == {(series[2].descriptors, series[2].threads)}


@pytest.mark.slow
def test_fifty_clips_leave_nothing(talk: DiceTalk, tmp_path: Path) -> None:
    series = make_clips(talk, tmp_path, 50)
    print("", *series, sep="\n")
    settled, last = series[SETTLED - 1], series[-1]
    assert (last.descriptors, last.threads) == (settled.descriptors, settled.threads)
    assert median(each.megabytes for each in series[-5:]) <= 1.05 * settled.megabytes
