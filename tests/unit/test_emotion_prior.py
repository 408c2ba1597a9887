"""Priors and their files, the hostile ones above all."""

import io
import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from dicetalk.emotion.prior import (
    MAX_FILE_BYTES,
    PRESET_NAMES,
    EmotionPrior,
    load_prior,
    read_mu,
    read_prior_npy,
    save_prior,
)
from dicetalk.errors import EmotionError, OutputError

RELEASED = Path(__file__).parents[3] / "shared" / "data" / "priors"
MU = np.linspace(-1, 1, 256, dtype=np.float32)


def npy_of(value: object) -> bytes:
    """A .npy file as numpy writes it; an object becomes a pickle inside."""
    file = io.BytesIO()
    np.save(file, value, allow_pickle=True)
    return file.getvalue()


def npy_around(pickled: bytes, header: str = "{'descr': '|O', 'fortran_order': False, 'shape': (), }") -> bytes:
    """A .npy file with the given pickle inside."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + pickled


def object_array(value: object, protocol: int) -> bytes:
    return npy_around(pickle.dumps(np.array(value, dtype=object), protocol=protocol))


def refused(tmp_path: Path, content: bytes, match: str = "prior.npy") -> None:
    path = tmp_path / "prior.npy"
    path.write_bytes(content)
    with pytest.raises(EmotionError, match=match) as caught:
        read_prior_npy(path)
    assert "prior.npy" in str(caught.value)
    assert len(str(caught.value)) < 400


class Malicious:
    """Its pickle makes a file when run."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.target),)


# What is read


@pytest.mark.skipif(not RELEASED.is_dir(), reason="the released priors are not here")
@pytest.mark.parametrize("name", PRESET_NAMES)
def test_released_priors(name: str) -> None:
    prior = read_prior_npy(RELEASED / f"{name}.npy")
    expected = np.load(RELEASED / f"{name}.npy", allow_pickle=True).item()["mu"]
    assert prior.name == name and prior.sigma is None
    assert np.array_equal(prior.mu.numpy(), expected.reshape(-1))


@pytest.mark.skipif(not RELEASED.is_dir(), reason="the released priors are not here")
def test_released_priors_lie_close_together() -> None:
    mus = torch.stack([read_prior_npy(RELEASED / f"{name}.npy").mu for name in PRESET_NAMES])
    norms = mus.norm(dim=1)
    cosines = (mus @ mus.T / norms / norms[:, None])[~torch.eye(len(mus), dtype=torch.bool)]
    assert norms.min() > 13.2 and norms.max() < 14.0
    assert cosines.min() > 0.91 and cosines.max() < 0.993


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("shape", [(1, 256), (256,), (256, 1)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_pickled_dict(tmp_path: Path, protocol: int, shape: tuple[int, ...], dtype: type) -> None:
    path = tmp_path / "mine.npy"
    path.write_bytes(object_array({"mu": MU.astype(dtype).reshape(shape)}, protocol))
    prior = read_prior_npy(path)
    assert prior.name == "mine" and prior.mu.dtype == torch.float32
    assert np.array_equal(prior.mu.numpy(), MU.astype(dtype).astype(np.float32))


@pytest.mark.parametrize("old", [True, False])
def test_names_of_old_and_new_numpy(old: bool) -> None:
    content = object_array({"mu": MU}, protocol=3)
    names = (b"numpy._core.multiarray", b"numpy.core.multiarray")
    content = content.replace(*(names if old else names[::-1]))
    assert names[old] in content
    assert np.array_equal(read_mu(content), MU)


def test_what_numpy_saves_itself(tmp_path: Path) -> None:
    for name, value in {
        "dict": {"mu": MU[None]},
        "plain": MU,
        "row": MU[None],
        "double": MU.astype(np.float64),
    }.items():
        path = tmp_path / f"{name}.npy"
        path.write_bytes(npy_of(value))
        assert np.allclose(read_prior_npy(path).mu.numpy(), MU)


# What is refused


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_that_would_run_code(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "made"
    refused(tmp_path, object_array({"mu": Malicious(target)}, protocol), "no prior needs")
    refused(tmp_path, npy_around(pickle.dumps(Malicious(target), protocol)), "no prior needs")
    assert not target.exists()
    pickle.loads(pickle.dumps(Malicious(target)))
    assert target.exists(), "the attack itself must work, or the test shows nothing"


@pytest.mark.parametrize(
    "code",
    [
        b"cbuiltins\neval\n(X\x01\x00\x00\x001tR.",
        b"cnumpy\nload\n(X\x01\x00\x00\x00atR.",
        b"cnumpy.core.multiarray\nfrombuffer\n)R.",
        b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
        b"(X\x04\x00\x00\x00echoios\nsystem\n.",
        b"\x80\x02\x82\x01.",
        b"Pid\n.",
    ],
)
def test_other_ways_to_reach_code(tmp_path: Path, code: bytes) -> None:
    refused(tmp_path, npy_around(code))


@pytest.mark.parametrize(
    "code",
    [
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",  # BINBYTES8 of 8 exabytes
        b"B\xff\xff\xff\x7f",  # BINBYTES of 2 GB
        b"}r\xff\xff\xff\xff.",  # a memo of 4 billion entries
        b"\x8b\xff\xff\xff\x7f",  # LONG4 of 2 GB
        b"]" + b"(]" * 30000,
        b"h\x00.",
        b"0.",
        b"t.",
        b"]]s.",
        b"]].",
        b"}(]]u.",
        b"}(]u.",
        b"cnumpy\ndtype\n(K\x01K\x02tR.",
        b"cnumpy\ndtype\n(X\x02\x00\x00\x00f4tR]b.",
        b"",
    ],
)
def test_claimed_sizes_and_damaged_programs(tmp_path: Path, code: bytes) -> None:
    tracemalloc.start()
    refused(tmp_path, npy_around(code))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 << 20


def test_headers_that_lie(tmp_path: Path) -> None:
    data = MU.tobytes()
    for shape in ("(999999999, 999999999)", "(257,)", "(16, 16)", "(-256,)", "(9999999999,)", "(256,), 'x': ()"):
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
        refused(tmp_path, npy_around(data, header))
    for descr in ("<i4", "<c8", "|V4", ">f4", "<f16", "|S4"):
        refused(tmp_path, npy_around(data, f"{{'descr': '{descr}', 'fortran_order': False, 'shape': (256,), }}"))
    refused(tmp_path, npy_around(data, "__import__('os').mkdir('x')"), "header")
    refused(tmp_path, npy_around(data, "(" * 5000), "header")
    refused(tmp_path, b"\x93NUMPY\x03\x00" + data)
    refused(tmp_path, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1403\n")
    refused(tmp_path, b"<!DOCTYPE html><html></html>")
    refused(tmp_path, b"")
    refused(tmp_path, b"\0" * (MAX_FILE_BYTES + 1), "larger")


@pytest.mark.parametrize(
    "value",
    [
        {"sigma": MU},
        {"mu": MU, "sigma": MU},
        {},
        {"mu": MU.tolist()},
        {"mu": None},
        {"mu": MU[:255]},
        {"mu": MU.reshape(16, 16)},
        {"mu": MU.astype(np.int32)},
        {"mu": np.array([1, "x"], dtype=object)},
        {"mu": np.where(MU > 0, np.nan, MU)},
        {"mu": np.full(256, np.inf)},
        {"m" * 20000: MU},
        [MU],
        "mu",
        None,
    ],
    ids=lambda value: str(value)[:20],
)
def test_wrong_dicts(tmp_path: Path, value: object) -> None:
    array = np.empty((), dtype=object)
    array[()] = value
    refused(tmp_path, npy_of(array))


def test_truncated_anywhere(tmp_path: Path) -> None:
    content = object_array({"mu": MU}, protocol=3)
    for length in range(0, len(content), 7):
        refused(tmp_path, content[:length])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 420), st.integers(0, 255)), min_size=1, max_size=6), st.sampled_from([3, 4]))
def test_changed_bytes_give_a_prior_or_an_error(changes: list[tuple[int, int]], protocol: int) -> None:
    content = bytearray(object_array({"mu": MU}, protocol))
    for position, value in changes:
        content[position] = value
    try:
        mu = read_mu(bytes(content))
    except ValueError:
        return
    assert mu.dtype == np.float32


def test_missing_file(tmp_path: Path) -> None:
    for read in (read_prior_npy, load_prior):
        with pytest.raises(EmotionError, match=r"none[.]npy"):
            read(tmp_path / "none.npy")
        with pytest.raises(EmotionError):
            read(tmp_path)


# The prior itself, and safetensors


def test_prior_is_checked() -> None:
    good = torch.zeros(256)
    for mu, sigma in [
        (good[:-1], None),
        (good[None], None),
        (good, good[:5]),
        (good * torch.nan, None),
        (good, good - 1),
    ]:
        with pytest.raises(EmotionError, match="mine"):
            EmotionPrior(mu, sigma, "mine")
    prior = EmotionPrior(good.double().requires_grad_(), good + 1)
    assert prior.mu.dtype == torch.float32 and not prior.mu.requires_grad


@pytest.mark.parametrize("sigma", [None, torch.rand(256)])
def test_save_and_load(tmp_path: Path, sigma: torch.Tensor | None) -> None:
    prior = EmotionPrior(torch.randn(256), sigma, "froh")
    path = tmp_path / "froh.safetensors"
    save_prior(prior, path)
    save_prior(prior, path)
    again = load_prior(path)
    assert again.name == "froh" and torch.equal(again.mu, prior.mu)
    assert again.sigma is None if sigma is None else torch.equal(again.sigma, sigma)
    assert [file.name for file in tmp_path.iterdir()] == ["froh.safetensors"]


def test_save_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="none does not exist"):
        save_prior(EmotionPrior(torch.zeros(256)), tmp_path / "none" / "x.safetensors")


def test_safetensors_that_are_no_prior(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    meta = {"format": "dicetalk.prior", "version": "1"}
    for tensors, metadata in [
        ({"mu": torch.zeros(256)}, None),
        ({"mu": torch.zeros(256)}, meta | {"version": "2"}),
        ({"mu": torch.zeros(255)}, meta),
        ({"mean": torch.zeros(256)}, meta),
        ({"mu": torch.zeros(256), "more": torch.zeros(1)}, meta),
        ({"mu": torch.full((256,), torch.nan)}, meta),
    ]:
        save_file(tensors, path, metadata)
        with pytest.raises(EmotionError):
            load_prior(path)
    save_prior(EmotionPrior(torch.zeros(256)), path)
    whole = path.read_bytes()
    for content in (b"", whole[:-1], whole[:20], b"\xff" * 64, b"<html>", whole + b"\0" * MAX_FILE_BYTES):
        path.write_bytes(content)
        with pytest.raises(EmotionError, match=r"x[.]safetensors"):
            load_prior(path)
