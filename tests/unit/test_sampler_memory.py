"""Memory of the sampling loop: two latents a frame in main memory, whatever else happens."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

# Prints the peak in bytes after a short and a long clip.
PROGRAM = """
import json
import torch
from dicetalk.denoise.sampler import sample_clip
from dicetalk.denoise.sampler import karras_sigmas
from dicetalk.denoise.windows import window_schedule

def peak(frames):
    x = torch.zeros(frames, 4, 64, 64)
    schedule = window_schedule("tight", frames, 25, 0, 7)
    sample_clip(lambda x, sigma, frames, step: x, x, karras_sigmas(2), schedule)
    return 1024 * int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])

print(json.dumps([peak(50), peak(1050)]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_sampler_grows_by_two_latents_a_frame() -> None:
    environment = {"PYTHONPATH": str(REPOSITORY), "MALLOC_MMAP_THRESHOLD_": "65536"}
    program = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment)
    assert program.returncode == 0, program.stderr
    short, long = json.loads(program.stdout)
    latent_bytes = 4 * 64 * 64 * 4
    growth = (long - short) / 1000 / latent_bytes
    assert 1.7 < growth < 2.3, f"{growth:.2f} latents a frame"
