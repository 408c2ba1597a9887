"""Ten minutes of a reference need hardly more memory than one. Measured in a process of its own, where what FFmpeg,
OpenCV and torch hold counts, and no other test."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

START = """
import json, sys
from pathlib import Path
import numpy as np, torch

def peak():
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""

VIDEO = """
import av
from fractions import Fraction
from colour_faces import BY_COLOUR
from small_films import BrightSquare, moving
from dicetalk.emotion.reference.extract import extract_emotion
from dicetalk.emotion.reference.clip import open_reference

def film(path, seconds):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1, options={"crf": "30"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(seconds + 1):
            frame = av.VideoFrame.from_ndarray(moving(1)[0], format="rgb24").reformat(320, 240, "yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path

def extracted(seconds):
    path = film(Path(sys.argv[1]) / f"{seconds}.mp4", seconds)
    found = extract_emotion(path, BY_COLOUR, as_track=True, detector=BrightSquare())
    assert abs(len(found.emotion.keyframes) - 12.5 * seconds) < 40
    return peak()

peaks = [extracted(60), extracted(600)]
held = list(open_reference(Path(sys.argv[1]) / "600.mp4").pictures())
print(json.dumps([*peaks, peak()]))
"""

SOUND = """
from colour_faces import embedder
from dicetalk.emotion.reference.embed import embed_prior, embed_track
from dicetalk.emotion.voice.features import measure_voice

def measured(minutes):
    rng = np.random.default_rng(0)
    samples = np.concatenate([rng.normal(0, 0.1, 60 * 16000).astype(np.float32) for _ in range(minutes)])
    states = torch.zeros(50 * 60 * minutes, 6)
    measure_voice(samples)
    embed_prior(embedder(), None, states, "clip")
    embed_track(embedder(), None, states, "clip", smoothing=0.2)
    return peak()

peaks = [measured(1), measured(10)]
held = [np.ones((30000, 1024)) for _ in range(3)]  # frames of ten minutes, and their spectra
print(json.dumps([*peaks, peak()]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize(("program", "allowed"), [(VIDEO, 250e6), (SOUND, 250e6)], ids=["video", "sound"])
def test_ten_minutes_need_hardly_more_than_one(program: str, allowed: float, tmp_path: Path) -> None:
    """The track is 7500 x 256 floats, in a few copies; pictures would be 1.7 GB, the frames of a voice 245 MB."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", START + program, str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    one, ten, held = json.loads(done.stdout)
    assert ten - one < allowed
    assert held - ten > 0.5 * allowed, "the measurement would not see what is held"
