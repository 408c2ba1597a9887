"""Main memory of loading, every resident page counted: the weights in the chosen dtype and little more."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from measured_process import own_environment
from safetensors.torch import save_file
from torch import nn

from dicetalk.checkpoints import strict
from dicetalk.checkpoints.read import DamagedFileError, read_tensors
from dicetalk.checkpoints.strict import fill, fill_from_file

LAYERS, SIDE = 24, 2048
LOADER = """
import sys
from pathlib import Path
import torch
from torch import nn
from dicetalk.checkpoints.read import read_tensors
from dicetalk.checkpoints.strict import fill, fill_from_file
from measured_process import PeakMemory

path, how, layers, side = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with torch.device("meta"):
    network = nn.Sequential(*(nn.Linear(side, side, bias=False) for _ in range(layers)))
with PeakMemory() as peak:
    if how == "at once":  # what the measurement has to see
        fill(path, network, read_tensors(path), torch.float16)
    else:
        fill_from_file(path, network, lambda names: read_tensors(path), torch.float16)
print(peak.grown)
"""
HALF = LAYERS * SIDE * SIDE * 2
"""Bytes of the weights in half precision; the file has twice as many."""


def weights(layers: int = LAYERS, side: int = SIDE, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return {f"{i}.weight": torch.full((side, side), 0.25 + i, dtype=dtype) for i in range(layers)}


def peak(path: Path, how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", LOADER, str(path), how, str(LAYERS), str(SIDE)],
        capture_output=True,
        text=True,
        env=own_environment(),
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_400_megabytes_is_never_resident_as_a_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(weights(), path) if suffix == ".pth" else save_file(weights(), path)
    most = HALF + strict.MAPPED_BYTES + (64 << 20)
    assert path.stat().st_size == pytest.approx(2 * HALF, rel=0.01)
    # At most the converted weights and a few tensors of the file, of which 268 MB may be mapped at once.
    assert peak(path, "in parts") < most < 2.8 * HALF
    if suffix == ".pth":
        assert peak(path, "at once") > 2.8 * HALF, "the measurement would not see a file whose pages are kept"


def small_network(layers: int = 6, side: int = 16) -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(*(nn.Linear(side, side, bias=False) for _ in range(layers)))


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_loading_in_parts_gives_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(strict, "MAPPED_BYTES", 2 * 16 * 16 * 4)
    stored = weights(6, 16) | {"3.weight": torch.full((16, 16), 0.5, dtype=torch.float16)}
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    if kind == "safetensors":
        save_file(stored, path)
    else:
        torch.save(stored, path, _use_new_zipfile_serialization=kind == "zip")
    opened = []

    def read(names: list[str]) -> dict[str, torch.Tensor]:
        opened.append(read_tensors(path))
        return dict(opened[-1])

    made = fill_from_file(path, small_network(), read, dtype).state_dict()
    assert set(made) == set(stored)
    for name, tensor in made.items():
        assert tensor.dtype == dtype and torch.equal(tensor, stored[name].to(dtype))
    if dtype == torch.float32 or kind == "legacy":
        assert len(opened) == 1, "nothing large to give back, or a file that would be read whole again"
    else:
        assert len(opened) == 3, "five tensors of float32, two at a time"


def test_a_file_that_changes_while_it_is_loaded_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict, "MAPPED_BYTES", 2 * 16 * 16 * 4)
    path = tmp_path / "weights.pth"
    torch.save(weights(6, 16), path)
    readings = iter([weights(6, 16), weights(6, 8)])
    with pytest.raises(DamagedFileError, match="of another shape"):
        fill_from_file(path, small_network(), lambda names: next(readings), torch.float16)


def test_infinite_in_half_precision_is_named_in_any_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict, "MAPPED_BYTES", 2 * 16 * 16 * 4)
    path = tmp_path / "weights.pth"
    torch.save(weights(6, 16) | {"5.weight": torch.full((16, 16), 1e6)}, path)
    for how in (fill_from_file, lambda path, net, read, dtype: fill(path, net, read([]), dtype)):
        with pytest.raises(DamagedFileError, match=r"infinite values in '5\.weight'"):
            how(path, small_network(), lambda names: read_tensors(path), torch.float16)
