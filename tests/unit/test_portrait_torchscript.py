"""A TorchScript file is a program: harmless ones load, hostile ones are refused before anything runs."""

import contextlib
import io
import re
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dicetalk.errors import CheckpointError
from dicetalk.portrait import torchscript
from dicetalk.portrait.detector import YoloFace, input_size
from dicetalk.portrait.torchscript import load_torchscript
from dicetalk.residency import DeviceResidency

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Block(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, stride: int):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)
        self.act = nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(self.conv(x)))


class Detector(nn.Module):
    """The building blocks of a small YOLO: focus, strided blocks, pooling pyramid, upsampling, grids, decoding."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Block(12, 8, 4)
        self.down = nn.ModuleList([Block(8, 8, 2), Block(8, 8, 2)])
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.up = nn.Upsample(scale_factor=2.0)
        self.det = nn.ModuleList([nn.Conv2d(8, 16, 1) for _ in range(3)])  # torch.det is an operation as well
        self.save = [1, 2]  # and so is torch.save

    def forward(self, pixels: torch.Tensor, grids: list[torch.Tensor]) -> torch.Tensor:
        corners = [pixels[..., ::2, ::2], pixels[..., 1::2, ::2], pixels[..., ::2, 1::2], pixels[..., 1::2, 1::2]]
        fine = self.stem(torch.cat(corners, 1))
        middle = self.down[0](fine)
        coarse = self.pool(self.down[1](middle))
        levels = [fine + self.up(middle), middle, coarse]
        rows: list[torch.Tensor] = []
        for index, head in enumerate(self.det):
            y = head(levels[index]).permute(0, 2, 3, 1)[:, None]
            stride = 8.0 * 2**index
            centre = (y[..., 0:2].sigmoid() * 2.0 - 0.5 + grids[index]) * stride
            size = (y[..., 2:4].sigmoid() * 2) ** 2 * 10
            face = torch.ones_like(y[..., 15:16])
            rows.append(torch.cat([centre, size, y[..., 4:5].sigmoid(), y[..., 5:15], face], -1).flatten(1, 3))
        return torch.cat(rows, 1)


class Plain(nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.zeros(1, 3, 16, device=pixels.device)


class Separate(nn.Module):
    def forward(
        self, pixels: torch.Tensor, fine: torch.Tensor, middle: torch.Tensor, coarse: torch.Tensor
    ) -> tuple[torch.Tensor, list[int]]:
        cells = fine.numel() + middle.numel() + coarse.numel()
        return torch.full([1, 1, 16], float(cells)), [1]


def example_inputs() -> tuple[torch.Tensor, list[torch.Tensor]]:
    return torch.rand(1, 3, 64, 96), [torch.rand(1, 1, 64 // s, 96 // s, 2) for s in (8, 16, 32)]


FORMS: dict[str, Callable[[nn.Module], torch.jit.ScriptModule]] = {
    "scripted": torch.jit.script,
    "traced": lambda module: torch.jit.trace(module, example_inputs(), check_trace=False),
    "frozen": lambda module: torch.jit.freeze(torch.jit.script(module)),
}


@pytest.mark.parametrize("form", FORMS)
def test_detectors_load_and_compute_the_same(form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Detector().eval()
    FORMS[form](module).save(tmp_path / "detector.pt")
    inputs = example_inputs()
    with torch.inference_mode():
        torch.testing.assert_close(load_torchscript(tmp_path / "detector.pt")(*inputs), module(*inputs))


def test_detect_places_boxes_in_source_pixels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Detector().eval()
    for head in module.det:
        nn.init.zeros_(head.weight)
        nn.init.constant_(head.bias, -20)
    with torch.no_grad():
        module.det[2].bias[:5] = torch.tensor([0.0, 0.0, 0.0, 0.0, 5.0])
    torch.jit.script(module).save(tmp_path / "detector.pt")
    picture = np.zeros((300, 400, 3), np.uint8)
    faces = YoloFace(tmp_path / "detector.pt", DeviceResidency(torch.device("cpu"))).detect(picture)
    height, width = input_size(300, 400)
    assert len(faces) == (height // 32) * (width // 32)
    first = min(faces, key=lambda face: face.x + face.y)
    assert first.x == pytest.approx((16 - 5) * 400 / width)
    assert first.width == pytest.approx(10 * 400 / width)
    assert first.height == pytest.approx(10 * 300 / height)


@pytest.mark.parametrize("module", [Plain(), Separate()])
def test_other_forms_of_call(module: nn.Module, tmp_path: Path) -> None:
    torch.jit.script(module).save(tmp_path / "detector.pt")
    faces = YoloFace(tmp_path / "detector.pt").detect(np.zeros((64, 64, 3), np.uint8))
    assert len(faces) == isinstance(module, Separate)


def test_a_network_that_is_no_detector(tmp_path: Path) -> None:
    torch.jit.script(nn.ReLU()).save(tmp_path / "relu.pt")
    with pytest.raises(CheckpointError, match="rows of 16"):
        YoloFace(tmp_path / "relu.pt").detect(np.zeros((64, 64, 3), np.uint8))
    torch.jit.script(nn.Linear(7, 7)).save(tmp_path / "linear.pt")
    with pytest.raises(CheckpointError, match="cannot be run"):
        YoloFace(tmp_path / "linear.pt").detect(np.zeros((64, 64, 3), np.uint8))


# Hostile programs. Each test first shows that the attack works where nobody looks.


class WritesOnCall(nn.Module):
    def __init__(self, victim: str):
        super().__init__()
        self.victim = victim

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels + torch.from_file(self.victim, True, 16).sum()


class WritesOnLoad(nn.Module):
    def __init__(self, victim: str):
        super().__init__()
        self.victim = victim

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.victim, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.victim = state[0]
        self.training = bool(torch.from_file(self.victim, True, 16).sum() > 0)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels


def test_a_program_that_creates_a_file_when_called(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "hostile.pt"
    torch.jit.script(WritesOnCall(str(victim))).save(path)
    torch.jit.load(path)(torch.zeros(1))
    assert victim.exists()
    victim.unlink()
    with pytest.raises(CheckpointError, match=r"hostile\.pt: .*operation torch\.from_file"):
        YoloFace(path)
    assert not victim.exists()


def test_a_program_that_creates_a_file_when_loaded(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "hostile.pt"
    torch.jit.script(WritesOnLoad(str(victim))).save(path)
    victim.unlink(missing_ok=True)
    torch.jit.load(path)
    assert victim.exists()
    victim.unlink()
    with pytest.raises(CheckpointError, match=r"method __(get|set)state__"):
        YoloFace(path)
    assert not victim.exists()


def edit(source: Path, target: Path, change: Callable[[str, bytes], bytes]) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    torch.jit.script(Plain()).save(tmp_path / "plain.pt")
    return tmp_path / "plain.pt"


DISGUISES = [
    '_0 = "VICTIM".from_file(True, 16)',  # as a method of its first argument
    "_0 = torch.from_file\n    _1 = _0(VICTIM, True, 16)",
    '_0 = "VICTIM".from_file\n    _1 = _0(True, 16)',  # a short name for it
    '_0 = ("VICTIM").from_file\n    _1 = (_0)(True, 16)',
    '_0 = getattr("VICTIM", "from_file")\n    _1 = _0(True, 16)',
    '_1 = getattr("VICTIM", "from_file")(True, 16)',
    '_0 = "VICTIM".from_file\n    if True:\n      _0 = __torch__.good\n    else:\n      pass\n    _1 = _0(True, 16)',
    't = torch\n    _0 = t.from_file("VICTIM", True, 16)',
    't = ops.aten\n    _0 = t.from_file("VICTIM", True, 16)',
    '_0 = ops.aten.from_file("VICTIM", True, 16)',
    '_0 = ops.image.write_file("VICTIM", pixels)',
    'o = ops.image\n    _0 = o.write_file("VICTIM", pixels)',
    '__torch__ = "VICTIM"\n    _0 = __torch__.from_file(True, 16)',
    "_0 = pixels.save(VICTIM)",
    '_0 = torch.from_file ( # comment\n      "VICTIM", True, 16)',
    "_0 = r'\\' + torch.from_file(VICTIM, True, 16) + r'\\'",
    "_0 = '''\n    '''",
    '_0 = "a\\\n    b"',
    "_0 = pixels\r    _1 = pixels",
    "_0 = __torch__.torch.classes.dist.TCPStore(pixels)",
    "_0 = fork(pixels)",
    "_0 = open(pixels)",
]


@pytest.mark.parametrize("disguise", DISGUISES)
def test_disguised_operations(disguise: str, archive: Path, tmp_path: Path) -> None:
    def insert(name: str, payload: bytes) -> bytes:
        if name.endswith("portrait_torchscript.py") or name.endswith("__torch__.py"):
            return re.sub(rb"(-> Tensor:\n)", lambda m: m[1] + b"    " + disguise.encode() + b"\n", payload)
        return payload

    edit(archive, tmp_path / "same.pt", lambda name, payload: payload)
    load_torchscript(tmp_path / "same.pt")
    edit(archive, tmp_path / "edited.pt", insert)
    assert b"VICTIM" in (tmp_path / "edited.pt").read_bytes() or "VICTIM" not in disguise
    with pytest.raises(
        CheckpointError, match=r"operation|a call of|string|does not write|control|another name|outside"
    ):
        load_torchscript(tmp_path / "edited.pt")


@pytest.mark.parametrize(
    "call",
    [b"c__torch__.torch.classes.dist\nTCPStore\n.", b"c__torch__.torch\nclasses.dist.TCPStore\n.", b"cos\nsystem\n."],
)
def test_objects_from_outside_the_file(call: bytes, archive: Path, tmp_path: Path) -> None:
    edit(archive, tmp_path / "edited.pt", lambda name, old: b"\x80\x02" + call if name.endswith("/data.pkl") else old)
    with pytest.raises(CheckpointError, match=r"data\.pkl asks for an object"):
        load_torchscript(tmp_path / "edited.pt")


def test_only_checked_records_are_loaded(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("plain/extra/../../evil.txt", "x")
        file.writestr("plain/bytecode.pkl", b"cos\nsystem\n.")
    names = zipfile.ZipFile(torchscript.checked_archive(archive)).namelist()
    assert "plain/data.pkl" in names
    assert not [name for name in names if "evil" in name or "bytecode" in name or "debug_pkl" in name]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_records_of_one_name(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("plain/data.pkl", b"")
    with pytest.raises(CheckpointError, match="two records of one name"):
        load_torchscript(archive)


def test_archive_bombs(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchscript, "MAX_BYTES", 4 << 20)
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("plain/data/99", bytes(5 << 20))
    assert archive.stat().st_size < 1 << 16
    with pytest.raises(CheckpointError, match="unpacks to 5 MiB"):
        load_torchscript(archive)
    monkeypatch.setattr(torchscript, "MAX_RECORDS", 3)
    with pytest.raises(CheckpointError, match="records"):
        load_torchscript(archive)


@pytest.mark.parametrize(
    "content", [b"", b"<!DOCTYPE html><html></html>", b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_files_of_another_kind(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "yoloface_v5m.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"yoloface_v5m\.pt is no complete TorchScript archive"):
        load_torchscript(tmp_path / "yoloface_v5m.pt")


def test_truncated_and_foreign_archives(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no complete"):
        load_torchscript(tmp_path / "missing.pt")
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="no complete"):
        load_torchscript(archive)
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pt")  # a ZIP archive, but no program
    with pytest.raises(CheckpointError, match=r"weights\.pt cannot be loaded"):
        load_torchscript(tmp_path / "weights.pt")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("plain/code/__torch__.py", "def f(")
    (tmp_path / "syntax.pt").write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match="no TorchScript program"):
        load_torchscript(tmp_path / "syntax.pt")


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_damaged_bytes_never_escape_as_another_error(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.pt"
        torch.jit.script(Plain()).save(path)
        raw = bytearray(path.read_bytes())
        for position, value in data.draw(
            st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), min_size=1, max_size=8)
        ):
            raw[position] = value
        path.write_bytes(raw)
        with contextlib.suppress(CheckpointError):
            assert isinstance(load_torchscript(path), torch.jit.ScriptModule)
