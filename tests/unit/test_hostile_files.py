"""Files made to break, or to run something in, whoever reads them; each reader refuses them with its own error."""

import io
import json
import pickle
import shutil
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzz.mutate import Marks
from PIL import Image
from safetensors.torch import save

from dicetalk.audio.speech import load_speech
from dicetalk.checkpoints.packed import read_packed
from dicetalk.checkpoints.parts import read_whisper_sizes
from dicetalk.checkpoints.read import read_tensors
from dicetalk.checkpoints.single import load_embedder, load_expression_reader
from dicetalk.cli import main
from dicetalk.config import AudioConfig
from dicetalk.drawn.evaluate.judge_training import load_judges
from dicetalk.emotion.files import (
    SavedEmotion,
    import_npy,
    load_emotion,
    mix_from_json,
    read_track,
    save_emotion,
    track_from_json,
)
from dicetalk.emotion.parse import read_emotion
from dicetalk.emotion.prior import PRIOR_DIM, EmotionPrior, load_prior, read_prior_npy
from dicetalk.emotion.recognise.description import read_description
from dicetalk.emotion.recognise.recogniser import load_recogniser
from dicetalk.emotion.reference.clip import open_reference
from dicetalk.emotion.voice.classes import load_voice_classifier
from dicetalk.errors import DiceTalkError, EmotionError, OutputError
from dicetalk.hooks import Hooks
from dicetalk.portrait.read import read_picture
from dicetalk.portrait.torchscript import load_torchscript
from dicetalk.train.checkpoint import load_newest
from dicetalk.train.prepare.datasets import find_videos
from dicetalk.train.shards import list_clips

Read = Callable[[Path], Any]
QUIET = Hooks(notice=lambda _: None)


def in_folder(name: str, read: Read) -> Read:
    """A reader of folders, in which the file gets the name."""

    def moved(path: Path) -> Any:
        folder = path.parent / "folder"
        (folder / name).parent.mkdir(parents=True)
        shutil.move(path, folder / name)
        return read(folder)

    return moved


def classifier(folder: Path) -> Any:
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        if not (folder / name).exists():
            (folder / name).write_text("{}")
    return load_voice_classifier(folder)


SAFETENSORS: dict[str, Read] = {
    "tensors": read_tensors,
    "packed": read_packed,
    "embedder": load_embedder,
    "expression reader": load_expression_reader,
    "judges": load_judges,
    "prior": load_prior,
    "emotion": lambda path: load_emotion(path, None),
    "given": lambda path: read_emotion(path, {}, lambda: None),
    "clips": in_folder("shard-00000.safetensors", lambda folder: list_clips(folder, hooks=QUIET)),
    "voice classifier": in_folder("model.safetensors", classifier),
}
PICKLES: dict[str, Read] = {
    "tensors": read_tensors,
    "detector": load_torchscript,
    "checkpoint": in_folder("step-000000001/state.pt", lambda folder: load_newest(folder, QUIET)),
    "npy": lambda path: import_npy(path, "space"),
    "released prior": read_prior_npy,
    "prior": lambda path: load_prior(path.rename(path.with_suffix(".npy"))),
    "recogniser": load_recogniser,
    "picture": read_picture,
    "speech": load_speech,
    "reference": open_reference,
}
JSON: dict[str, Read] = {
    "track": lambda path: read_track(path, {}),
    "mix in a node": lambda path: mix_from_json(path.read_text()),
    "track in a node": lambda path: track_from_json(path.read_text(), {}),
    "description": read_description,
    "whisper": lambda path: read_whisper_sizes(path, AudioConfig()),
    "voice classifier": in_folder("config.json", classifier),
    "features of a voice classifier": in_folder("preprocessor_config.json", classifier),
    "packed": lambda path: read_packed(_with_metadata(path, format="dicetalk.model", version="1", config=True)),
    "embedder": lambda path: load_embedder(_with_metadata(path, format="dicetalk.embedder", version="1", config=True)),
    "clips": in_folder(
        "shard-00000.safetensors",
        lambda folder: list_clips(
            _with_metadata(folder / "shard-00000.safetensors", format="dicetalk.clips", version="1", clips=True).parent,
            hooks=QUIET,
        ),
    ),
}


def _with_metadata(path: Path, **metadata: Any) -> Path:
    """The text of `path` as the entry of a safetensors file's metadata that is true."""
    text = path.read_text()
    path.write_bytes(save({}, {key: text if value is True else value for key, value in metadata.items()}))
    return path


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Fails if more than 64 MB are taken by Python, whatever a file claims."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20, f"{peak >> 20} MB"


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def torch_file(program: bytes) -> bytes:
    """What torch.save writes, with another pickle in it."""
    return zipped({"archive/data.pkl": program, "archive/version": b"3\n", "archive/byteorder": b"little"})


def npy_file(program: bytes) -> bytes:
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + program


CLAIM = 256 << 20
CLAIMS = {
    "BINBYTES": b"\x80\x04B" + struct.pack("<I", CLAIM) + b"abc.",
    "BINBYTES8": b"\x80\x04\x8e" + struct.pack("<Q", CLAIM) + b"abc.",
    "BYTEARRAY8": b"\x80\x05\x96" + struct.pack("<Q", CLAIM) + b"abc.",
    "BINUNICODE": b"\x80\x04X" + struct.pack("<I", CLAIM) + b"abc.",
    "BINUNICODE8": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"abc.",
    "LONG4": b"\x80\x04\x8b" + struct.pack("<i", CLAIM) + b"abc.",
    "LONG_BINPUT": b"\x80\x04K\x01r" + struct.pack("<I", CLAIM) + b".",
    "FRAME": b"\x80\x04\x95" + struct.pack("<Q", CLAIM) + b"K\x01.",
}


@pytest.mark.parametrize("program", CLAIMS.values(), ids=CLAIMS)
@pytest.mark.parametrize("wrap", [torch_file, npy_file], ids=["torch", "npy"])
@pytest.mark.parametrize("reader", ["tensors", "checkpoint", "npy"])
def test_sizes_that_a_pickle_claims_are_not_believed(
    reader: str, wrap: Any, program: bytes, tmp_path: Path, little_memory: None
) -> None:
    (tmp_path / "a.bin").write_bytes(wrap(program))
    with pytest.raises(DiceTalkError):
        PICKLES[reader](tmp_path / "a.bin")


@pytest.mark.parametrize("kind", ["bare", "torch", "legacy torch", "npy", "npz"])
@pytest.mark.parametrize("read", PICKLES.values(), ids=PICKLES)
def test_a_pickle_runs_in_no_reader(read: Read, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path, program = tmp_path / "a.pth", pickle.dumps({"mu": Marks("executed")})
    if kind == "legacy torch":
        torch.save({"mu": Marks("executed")}, path, _use_new_zipfile_serialization=False)
    elif kind == "npz":
        path.write_bytes(zipped({"mu.npy": npy_file(program)}))
    else:
        path.write_bytes({"bare": bytes, "torch": torch_file, "npy": npy_file}[kind](program))
    with pytest.raises(DiceTalkError):
        read(path)
    assert not (tmp_path / "executed").exists()


def test_the_pickle_would_run_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.npy").write_bytes(npy_file(pickle.dumps({"mu": Marks("executed")})))
    np.load("a.npy", allow_pickle=True)
    assert (tmp_path / "executed").exists()


COMPRESSED = zipped({"archive/data.pkl": pickle.dumps({}), "archive/data/0": bytes(80 << 20)}, zipfile.ZIP_DEFLATED)
"""Of 80 kB; TorchScript's archives may be compressed, and their sizes have a test of their own."""


@pytest.mark.parametrize("reader", ["tensors", "checkpoint", "npy", "prior"])
def test_archives_that_unpack_to_much_more(reader: str, tmp_path: Path, little_memory: None) -> None:
    (tmp_path / "a.pt").write_bytes(COMPRESSED)
    with pytest.raises(DiceTalkError):
        PICKLES[reader](tmp_path / "a.pt")


def header(entries: dict[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(begin: int, end: int, count: int = 1) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [count], "data_offsets": [begin, end]}


HEADERS = {
    "longer than the file": header({"a": tensor(0, 4)}, bytes(4), 1 << 20),
    "longer than anything": header({"a": tensor(0, 4)}, bytes(4), (1 << 64) - 1),
    "over 100 MB": header({"a": tensor(0, 4)}, bytes(4), 100_000_001),
    "beyond the file": header({"a": tensor(0, 4 << 30, 1 << 30)}, bytes(4)),
    "overlapping": header({"a": tensor(0, 4), "b": tensor(2, 6)}, bytes(8)),
    "twice the same": header({"a": tensor(0, 4), "b": tensor(0, 4)}, bytes(4)),
    "negative": header({"a": tensor(-4, 0)}, bytes(4)),
    "backwards": header({"a": tensor(4, 0)}, bytes(4)),
    "overflowing": header({"a": {"dtype": "F32", "shape": [1 << 62, 8], "data_offsets": [0, 4]}}, bytes(4)),
    "with a hole": header({"a": tensor(0, 4), "b": tensor(8, 12)}, bytes(12)),
    "of another size": header({"a": tensor(0, 4, 2)}, bytes(4)),
    "deep": struct.pack("<Q", 200_000) + b"[" * 100_000 + b"]" * 100_000,
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("read", SAFETENSORS.values(), ids=SAFETENSORS)
def test_headers_of_safetensors(read: Read, content: bytes, tmp_path: Path, little_memory: None) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(DiceTalkError):
        read(tmp_path / "a.safetensors")


@pytest.mark.parametrize("read", SAFETENSORS.values(), ids=SAFETENSORS)
def test_a_list_of_a_million_tensors_is_not_parsed(read: Read, tmp_path: Path, little_memory: None) -> None:
    """The format allows lists of 100 MB, which take gigabytes in memory."""
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 90_000_000))
        file.truncate(90_000_008)
    with pytest.raises(DiceTalkError):
        read(path)


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000, "9" * 50_000])
@pytest.mark.parametrize("read", JSON.values(), ids=JSON)
def test_json_100_000_deep(read: Read, text: str, tmp_path: Path, little_memory: None) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DiceTalkError):
        read(tmp_path / "a.json")


def test_a_picture_that_unpacks_to_gigabytes(tmp_path: Path, little_memory: None) -> None:
    Image.new("1", (64, 64)).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "a.png").write_bytes(content)
    for read in (read_picture, open_reference):
        with pytest.raises(DiceTalkError, match="million"):
            read(tmp_path / "a.png")


OUTSIDE = ["../secret.mp4", "a/../../secret.mp4", "/etc/passwd", "link/secret.mp4", "..\\secret.mp4", "a\0.mp4"]


@pytest.mark.parametrize("video", [*OUTSIDE, "x" * 300 + ".mp4", "C:\\secret.mp4", "\\\\host\\share\\a.mp4"])
def test_tables_that_lead_out_of_their_data_set(video: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "secret.mp4").write_bytes(b"")
    (data / "link").symlink_to(tmp_path)
    (data / "labels.csv").write_text(f'video,identity,emotion\na.mp4,Anna,sad\n"{video}",Ben,sad\n')
    videos, skipped = find_videos(data)
    assert all(found.path.resolve().is_relative_to(data) for found in videos)
    if video in OUTSIDE:
        assert len(videos) == 1 and "inside" in skipped[0].reason


PRIOR = SavedEmotion(EmotionPrior(torch.zeros(PRIOR_DIM)), "0" * 64)


@pytest.mark.parametrize("name", ["CON", "nul.happy", "com1", "LPT³ .x", "a\0b", "x" * 300, "𠀀" * 64])
def test_names_under_which_no_emotion_is_saved(name: str, tmp_path: Path) -> None:
    with pytest.raises((EmotionError, OutputError)):
        save_emotion(PRIOR, tmp_path / f"{name}.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["..", "a.", "C:", "a b", "control", "console.1", "é"])
def test_names_that_a_folder_may_have(name: str, tmp_path: Path) -> None:
    """On the command line a path may lead anywhere; what is saved is found again."""
    path = tmp_path / f"{name}.safetensors"
    save_emotion(PRIOR, path)
    assert load_emotion(path, None).space == PRIOR.space


@pytest.mark.parametrize("name", ["CON", "nul.happy", "a\0b", "x" * 300, "𠀀" * 64, "missing/../../a/b"])
def test_names_that_the_command_refuses(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "here").mkdir()
    out = str(tmp_path / "here" / f"{name}.safetensors")
    assert main(["emotion", "mix", "happy", "--out", out, "--models", "tiny", "--quiet"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert not list((tmp_path / "here").iterdir())
