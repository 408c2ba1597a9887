"""Main memory that loading the released float32 UNet takes, at its real size. Two minutes, 7 GB of disk and of memory:

python -m pytest tests/full/test_load_peak.py -m full -s
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from measured_process import own_environment

from dicetalk.config import FULL
from dicetalk.denoise.unet import UNet

MARGIN = 10**9
"""What loading may need beside the weights, in bytes."""

LOAD = """
import sys
from pathlib import Path
import torch
from dicetalk.checkpoints.read import read_tensors
from dicetalk.checkpoints.strict import fill_from_file
from dicetalk.config import FULL
from dicetalk.denoise.unet import UNet
from measured_process import PeakMemory

path, dtype = Path(sys.argv[1]), getattr(torch, sys.argv[2])
with torch.device("meta"):
    unet = UNet(FULL.unet)
with PeakMemory() as peak:
    unet = fill_from_file(path, unet, lambda names: read_tensors(path), dtype)
print(peak.grown, sum(weight.nbytes for weight in unet.parameters()))
"""


@pytest.fixture(scope="module")
def unet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``unet.pth`` in float32, as it is published."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in UNet(FULL.unet).state_dict().items()}
    path = tmp_path_factory.mktemp("full") / "unet.pth"
    torch.save({name: torch.rand(shape) for name, shape in shapes.items()}, path)
    return path


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_loading_takes_the_weights_and_a_gigabyte(unet_file: Path, dtype: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(unet_file), dtype],
        capture_output=True,
        text=True,
        check=True,
        env=own_environment(),
    )
    peak, weights = map(int, done.stdout.split())
    print(
        f"{dtype}: peak {peak / 1e9:.2f} GB, weights {weights / 1e9:.2f} GB, file {unet_file.stat().st_size / 1e9:.2f}"
    )
    assert peak <= weights + MARGIN
