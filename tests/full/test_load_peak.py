"""Main memory that loading released float32 weights takes, at their real size: DICE-Talk's UNet, and all of Sonic.

Ten minutes, 9 GB of disk at a time and 10 GB of memory:

python -m pytest tests/full/test_load_peak.py -m full -s
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from measured_process import own_environment
from released_files import write_released

from dicetalk.checkpoints.variants import SONIC
from dicetalk.config import FULL
from dicetalk.denoise.unet import UNet

MARGIN = 10**9
"""What loading may need beside the weights, in bytes."""

LOAD_UNET = """
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

LOAD_MODEL = """
import sys
import diffusers.models.autoencoders.autoencoder_kl_temporal_decoder
import torch
import transformers.models.clip.modeling_clip
import transformers.models.whisper.modeling_whisper
from dicetalk.checkpoints.load import load_model
from measured_process import PeakMemory

with PeakMemory() as peak:
    model = load_model(sys.argv[1], dtype=getattr(torch, sys.argv[2]))
assert model.audio_to_bucket is not None and model.emotion_model is None
networks = [network for network in vars(model).values() if isinstance(network, torch.nn.Module)]
print(peak.grown, sum(weight.nbytes for network in networks for weight in network.parameters()))
"""
"""All of a model; what takes memory to import is imported before."""


@pytest.fixture(scope="module")
def unet_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """``unet.pth`` in float32, as it is published."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in UNet(FULL.unet).state_dict().items()}
    path = tmp_path_factory.mktemp("full") / "unet.pth"
    torch.save({name: torch.rand(shape) for name, shape in shapes.items()}, path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def sonic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Complete Sonic as it is published: zip archives of pickled float32 tensors."""
    folder = tmp_path_factory.mktemp("full")
    write_released(folder, SONIC.config, variant=SONIC, dtype=torch.float32)
    for file in SONIC.own_files:
        assert abs((folder / file.name).stat().st_size / file.bytes - 1) < 1e-3, "not the published size"
    yield folder
    shutil.rmtree(folder)


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_loading_takes_the_weights_and_a_gigabyte(unet_file: Path, dtype: str) -> None:
    check_peak(LOAD_UNET, unet_file, dtype)


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_loading_sonic_takes_its_weights_and_a_gigabyte(sonic: Path, dtype: str) -> None:
    check_peak(LOAD_MODEL, sonic, dtype)


def check_peak(script: str, path: Path, dtype: str) -> None:
    command = [sys.executable, "-c", script, str(path), dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=own_environment())
    peak, weights = map(int, done.stdout.split())
    print(f"{path.name} in {dtype}: peak {peak / 1e9:.2f} GB, weights {weights / 1e9:.2f} GB")
    assert peak <= weights + MARGIN
