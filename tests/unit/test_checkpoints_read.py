"""Damaged and hostile weight files."""

import io
import pickle
import tempfile
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from dicetalk.checkpoints.read import DamagedFileError, read_tensors

TENSORS = {"a.weight": torch.arange(12.0).reshape(4, 3), "b.bias": torch.ones(5).half(), "c": torch.zeros(2, 2, 2)}


def saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


class MakesAFile:
    """Unpickling it would make a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


ZIP = saved(TENSORS)
LEGACY = saved(TENSORS, _use_new_zipfile_serialization=False)
SAFETENSORS = save(TENSORS, {"origin": "here"})
GOOD = {"zip.pth": ZIP, "legacy.pkl": LEGACY, "new.safetensors": SAFETENSORS}


def recompressed(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return buffer.getvalue()


@pytest.mark.parametrize("name", GOOD)
def test_whole_files_are_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(GOOD[name])
    tensors = read_tensors(path)
    assert set(tensors) == set(TENSORS)
    for key, tensor in TENSORS.items():
        assert torch.equal(tensors[key], tensor)
        assert tensors[key].dtype == tensor.dtype
    assert set(read_tensors(path, lambda key: key.startswith("a."))) == {"a.weight"}


def test_an_ordered_dict_of_parameters_is_read(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(saved(torch.nn.Linear(2, 3).state_dict(keep_vars=True)))
    tensors = read_tensors(path)
    assert not any(isinstance(t, torch.nn.Parameter) or t.requires_grad for t in tensors.values())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "is a web page"),
        (b"\n <html>login</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3253791632\n", "Git-LFS pointer"),
        (b'{"error":"Unauthorized"}', "no safetensors file|not written by torch.save"),
        (b"\x00" * 64, "no safetensors file|not written by torch.save"),
    ],
)
def test_what_often_lies_there_instead_is_named(tmp_path: Path, suffix: str, content: bytes, message: str) -> None:
    path = tmp_path / f"unet{suffix}"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=message) as caught:
        read_tensors(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.pth", ZIP[:-200], "is cut off"),
        ("cut.pth", ZIP[: len(ZIP) // 2], "is cut off"),
        ("cut.pkl", LEGACY[:-10], "damaged"),
        ("cut.safetensors", SAFETENSORS[:-1], "cut off"),
        ("cut.safetensors", SAFETENSORS[:40], "cut off"),
        ("cut.safetensors", SAFETENSORS[:5], "cut off"),
        ("huge.safetensors", (1 << 62).to_bytes(8, "little") + b"{}", "cut off or no safetensors"),
        ("torch.safetensors", ZIP, "no safetensors file"),
        ("safe.pth", SAFETENSORS, "not written by torch.save"),
        ("bare.pkl", pickle.dumps({"a": [1.0]}), "bare pickle"),
        ("deflated.pth", recompressed(ZIP), "compressed"),
        ("list.pth", saved([torch.ones(2)]), "holds a list, not a table"),
        ("nested.pth", saved({"state_dict": TENSORS}), "holds a dict under 'state_dict'"),
        ("numbers.pth", saved({1: torch.ones(2)}), "holds a Tensor under '1'"),
        ("whole.pth", saved({"a": torch.ones(2, dtype=torch.int64)}), "holds torch.int64 in 'a'"),
        ("complex.pth", saved({"a": torch.ones(2, dtype=torch.complex64)}), "holds torch.complex64 in 'a'"),
        ("sparse.pth", saved({"a": torch.eye(2).to_sparse()}), "without plain numbers"),
        ("nowhere.pth", saved({"a": torch.ones(2, device="meta")}), "without plain numbers"),
        ("whole.safetensors", save({"a": torch.ones(2, dtype=torch.int8)}), "holds torch.int8 in 'a'"),
        ("zip.pth", b"PK\x03\x04" + b"\x00" * 400, "is cut off"),
    ],
)
def test_damage_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=message):
        read_tensors(path)


def test_a_folder_under_the_name_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="cannot be read"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("packing", ["zip", "legacy", "bare"])
@pytest.mark.parametrize(
    "wrap", [lambda evil: evil, lambda evil: TENSORS | {"x": evil}, lambda evil: OrderedDict(x=evil)]
)
def test_a_hostile_pickle_does_not_run(tmp_path: Path, packing: str, wrap: Any) -> None:
    marker = tmp_path / "marker"
    content = wrap(MakesAFile(marker))
    path = tmp_path / "flownet.pkl"
    if packing == "bare":
        path.write_bytes(pickle.dumps(content))
    else:
        path.write_bytes(saved(content, _use_new_zipfile_serialization=packing == "zip"))
    with pytest.raises(DamagedFileError, match=r"asks for \w+\.open\).* nothing in it was run|not opened") as caught:
        read_tensors(path)
    assert not marker.exists()
    assert "weights_only" not in str(caught.value)


def test_the_hostile_pickle_would_run_elsewhere(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(MakesAFile(marker))).close()
    assert marker.exists()


def changed(content: bytes, cut: float, flips: list[tuple[float, int]]) -> bytes:
    data = bytearray(content[: round(cut * len(content))])
    for place, bit in flips:
        if data:
            data[min(int(place * len(data)), len(data) - 1)] ^= 1 << bit
    return bytes(data)


PLACES = st.floats(0, 1)
FLIPS = st.lists(st.tuples(PLACES, st.integers(0, 7)), max_size=4)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(max_examples=400, deadline=None)
@given(name=st.sampled_from(sorted(GOOD)), cut=st.one_of(st.just(1.0), PLACES), flips=FLIPS)
def test_any_damage_is_refused_or_harmless(name: str, cut: float, flips: list[tuple[float, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(changed(GOOD[name], cut, flips))
        try:
            tensors = read_tensors(path)
        except DamagedFileError:
            tensors = {}
        for tensor in tensors.values():
            assert tensor.is_floating_point()
            tensor.double().sum()  # every value can be reached
        assert [p.name for p in Path(folder).iterdir()] == [name]


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(max_examples=200, deadline=None)
@given(in_zip=st.booleans(), cut=st.one_of(st.just(1.0), PLACES), flips=FLIPS)
def test_a_damaged_hostile_file_does_not_run(in_zip: bool, cut: float, flips: list[tuple[float, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, marker = Path(folder) / "unet.pth", Path(folder) / "marker"
        content = saved(TENSORS | {"x": MakesAFile(marker)}, _use_new_zipfile_serialization=in_zip)
        path.write_bytes(changed(content, cut, flips))
        with suppress(DamagedFileError):  # damage can end the pickle early
            read_tensors(path)
        assert not marker.exists()
