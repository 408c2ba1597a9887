"""Memory of decoding, interpolating and writing: bounded by the chunk, and what the chunk needs is known beforehand."""

import json
import os
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dicetalk.video import FlowNet, decode_frames, interpolate_frames, interpolated_length, write_mp4

Gather = Callable[[Iterable[Tensor]], Iterable[Tensor]]


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of the tensors that live at once among those made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.holders: Counter[int] = Counter()
        self.live = self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                address, size = storage.data_ptr(), storage.nbytes()
                if not self.holders[address]:
                    self.live += size
                    self.peak = max(self.peak, self.live)
                self.holders[address] += 1
                weakref.finalize(tensor, self.released, address, size)
        return result

    def released(self, address: int, size: int) -> None:
        self.holders[address] -= 1
        if not self.holders[address]:
            del self.holders[address]
            self.live -= size


def small_vae(channels: tuple[int, ...] = (32, 32, 32, 32)) -> AutoencoderKLTemporalDecoder:
    return AutoencoderKLTemporalDecoder(
        block_out_channels=channels, layers_per_block=1, down_block_types=("DownEncoderBlock2D",) * 4
    ).eval()


def peak_of_rendering(path: Path, frames: int, gather: Gather = iter) -> int:
    """Peak bytes of tensors while `frames` of 64 x 64 become a file of twice as many."""
    vae, flownet, latents = small_vae(), FlowNet(width=8), torch.randn(frames, 4, 8, 8)
    with LiveTensors() as tensors:
        chunks = interpolate_frames(flownet, decode_frames(vae, latents, frames), frames)
        write_mp4(path, gather(chunks), fps=25, total=interpolated_length(frames))
    return tensors.peak


def test_peak_does_not_grow_with_the_clip(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    short, long = (peak_of_rendering(path, frames) for frames in (40, 400))
    frame = 3 * 64 * 64 * 4
    assert long - short < 10 * frame  # 360 latents more
    assert peak_of_rendering(path, 40, list) - short > 40 * frame, "the measurement would not see a clip that is held"


# In a process of its own, where what ffmpeg holds counts, and no other test.
WRITER = """
import json, sys
import numpy as np, torch
from dicetalk.video import write_mp4

def peak(frames, gather=iter):
    chunks = (torch.rand(1, 3, 96, 96) for _ in range(frames))
    sound = np.zeros((2, 48000 * frames // 25), np.float32), 48000
    write_mp4(sys.argv[1], gather(chunks), fps=25, sound=sound, total=frames)
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

print(json.dumps([peak(100), peak(1000), peak(1000, list)]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_encoder_and_muxer_do_not_hold_the_clip(tmp_path: Path) -> None:
    program = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path / "clip.mp4")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
    )
    assert program.returncode == 0, program.stderr
    short, long, held = json.loads(program.stdout)
    allowed = 900 * 96 * 96 * 3 // 2 / 2  # half of what the further frames would take as 4:2:0 bytes
    assert long - short < allowed
    assert held - long > allowed, "the measurement would not see a clip that is held"


class Announced:
    """A residency that keeps ``(announced, needed)`` bytes of each block."""

    def __init__(self) -> None:
        self.blocks: list[tuple[int, int]] = []

    @contextmanager
    def __call__(self, *modules, memory_required=0):
        with LiveTensors() as tensors:
            yield torch.device("cpu")
        self.blocks.append((memory_required, tensors.peak))


@pytest.mark.parametrize("channels", [(32, 32, 32, 32), (32, 64, 64, 64), (64, 128, 128, 128)])
def test_decoding_announces_what_it_needs(channels: tuple[int, ...]) -> None:
    announced = Announced()
    list(decode_frames(small_vae(channels), torch.randn(5, 4, 4, 6), 5, chunk=3, residency=announced))
    assert len(announced.blocks) == 2
    assert all(needed <= said <= 2 * needed for said, needed in announced.blocks)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (50, 70)])
def test_interpolating_announces_what_it_needs(height: int, width: int) -> None:
    announced = Announced()
    list(interpolate_frames(FlowNet(), [torch.rand(6, 3, height, width)], 6, batch=3, residency=announced))
    assert len(announced.blocks) == 2
    assert all(needed <= said <= 2 * needed for said, needed in announced.blocks)
