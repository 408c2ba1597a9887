"""Disks that are full or read-only, and places that are taken: every writer says so and leaves what was there."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from released_files import SMALL
from small_disks import fill_up, mounted, read_only_disk, unfinished_in

from dicetalk.checkpoints.convert import convert_model
from dicetalk.cli.emotion_show import _save as save_pictures
from dicetalk.emotion.files import SavedEmotion, save_emotion
from dicetalk.emotion.prior import PRIOR_DIM, EmotionPrior, save_prior
from dicetalk.errors import CheckpointError, OutputError
from dicetalk.files import check_file_target, check_folder_target
from dicetalk.train.checkpoint import load_newest, save_checkpoint
from dicetalk.train.clip_record import ClipLabels
from dicetalk.train.curves import Curves
from dicetalk.train.latents import LatentStore
from dicetalk.train.prepare.run import prepare_shards
from dicetalk.train.shards import ShardWriter
from dicetalk.video import write_mp4, write_png_folder, write_webm

PRIOR = EmotionPrior(torch.zeros(PRIOR_DIM), name="calm")
NOISE = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def video(folder: Path) -> Path:
    hum = np.zeros((1, 4000), np.float32)
    write_mp4(folder / "clip.mp4", [NOISE], fps=25, sound=(hum, 16_000), crf=0, total=len(NOISE))
    return folder / "clip.mp4"


def film_with_alpha(folder: Path) -> Path:
    hum = np.zeros((1, 4000), np.float32)
    alpha = torch.cat([NOISE, NOISE[:, :1]], dim=1)
    write_webm(folder / "clip.webm", [alpha], fps=25, sound=(hum, 16_000), crf=0, total=len(NOISE))
    return folder / "clip.webm"


def frames_with_alpha(folder: Path) -> Path:
    write_png_folder(folder / "cut-out", [torch.cat([NOISE, NOISE[:, :1]], dim=1)], total=len(NOISE))
    return folder / "cut-out"


def frames(folder: Path) -> Path:
    write_png_folder(folder / "frames", [NOISE], total=len(NOISE))
    return folder / "frames"


def emotion(folder: Path) -> Path:
    save_emotion(SavedEmotion(PRIOR, "0" * 64), folder / "calm.safetensors")
    return folder / "calm.safetensors"


def prior(folder: Path) -> Path:
    save_prior(PRIOR, folder / "prior.safetensors")
    return folder / "prior.safetensors"


def clip(folder: Path) -> Path:
    tensors = {
        "box": torch.tensor([8.0, 6.0, 16.0, 20.0]),
        "whisper": torch.zeros(4 * 5 + 10, 2, 4).half(),
        "frames": torch.zeros(5, 64, 64, 3, dtype=torch.uint8),
    }
    with ShardWriter(folder) as writer:
        writer.add("clip", ClipLabels("anna", "happy", 0.5, "clip", "train"), tensors)
    return folder / "shard-00000.safetensors"


def listed(folder: Path) -> Path:
    prepare_shards([], folder, lambda *_: iter(()), dataset="x" * 5000)
    return folder / "skipped.csv"


def checkpoint(folder: Path) -> Path:
    save_checkpoint(folder, 7, {"a": torch.zeros(1000)}, keep=1)
    return folder / "step-000000007"


def curves(folder: Path) -> Path:
    Curves(folder).add("train", 1, {f"loss {n}": 0.1 for n in range(1000)})
    return folder / "train.csv"


def pictures(folder: Path) -> Path:
    save_pictures(folder, {"map.png": (NOISE[0].movedim(0, -1).numpy() * 255).astype(np.uint8)})
    return folder / "map.png"


def latents(folder: Path) -> Path:
    store = LatentStore(folder, "vae")
    record = SimpleNamespace(id="clip")
    object.__setattr__(store, "_metadata", lambda record: {})
    store.write(record, {"latents": torch.zeros(5, 4, 8, 8).half()})
    return folder / "clip.safetensors"


WRITERS: dict[str, Callable[[Path], Path]] = {
    made.__name__: made
    for made in (
        *(video, film_with_alpha, frames, frames_with_alpha, emotion, prior, clip, listed, checkpoint, curves),
        *(pictures, latents),
    )
}


OLD_NAMES = {
    "video": "clip.mp4",
    "film_with_alpha": "clip.webm",
    "emotion": "calm.safetensors",
    "pictures": "map.png",
    "prior": "prior.safetensors",
}


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """No byte more fits into the files of `folder`: a disk that is full, or else a limit of the process."""
    with mounted(folder, "size=256k") as real:
        if real:
            yield
            return
    resource = pytest.importorskip("resource", reason="neither a small disk nor a limit of file sizes")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk(tmp_path: Path, writer: str) -> None:
    with full_disk(tmp_path / "disk"):
        folder = tmp_path / "disk"
        fill_up(folder)
        with pytest.raises((OutputError, CheckpointError), match=r"(?i)no space|disk is full|written"):
            WRITERS[writer](folder)
        assert not unfinished_in(folder)
        assert [p for p in folder.rglob("*") if p.is_file() and p.stat().st_size and p.name != "filler"] == []
        (folder / "filler").unlink()


@pytest.mark.parametrize("writer", OLD_NAMES)
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, writer: str) -> None:
    with full_disk(tmp_path / "disk"):
        folder = tmp_path / "disk"
        old = folder / OLD_NAMES[writer]
        old.write_bytes(b"old")
        fill_up(folder)
        with pytest.raises(OutputError):
            WRITERS[writer](folder)
        assert old.read_bytes() == b"old" and not unfinished_in(folder)


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ""])
def test_a_disk_that_fills_up_during_the_work(tmp_path: Path, suffix: str) -> None:
    """Frames come as a stream: there is room for the first ones."""
    many = (NOISE for _ in range(40))
    path = tmp_path / "disk" / f"long{suffix}"
    write = {"": write_png_folder, ".mp4": write_mp4, ".webm": write_webm}[suffix]
    with full_disk(tmp_path / "disk"), pytest.raises(OutputError, match="disk is full"):
        write(path, many, total=240, **({"fps": 25, "crf": 0} if suffix else {}))
    assert not unfinished_in(tmp_path / "disk")


def test_a_full_disk_leaves_no_half_model(released: Path, tmp_path: Path) -> None:
    with full_disk(tmp_path / "disk"):
        with pytest.raises(OutputError, match="disk is full"):
            convert_model(released, tmp_path / "disk" / "dicetalk.safetensors", config=SMALL)
        assert not unfinished_in(tmp_path / "disk") and not (tmp_path / "disk" / "dicetalk.safetensors").exists()


def test_a_training_goes_on_from_the_checkpoint_before_a_full_disk(tmp_path: Path) -> None:
    with full_disk(tmp_path / "disk"):
        folder = tmp_path / "disk"
        if os.path.ismount(folder):  # a limit of file sizes would not let the first one through
            save_checkpoint(folder, 1, {"a": torch.ones(3)}, keep=2)
            fill_up(folder)
            with pytest.raises(CheckpointError, match=r"(?i)space|written"):
                save_checkpoint(folder, 2, {"a": torch.zeros(3)}, keep=2)
            assert load_newest(folder)["a"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_read_only_disk(tmp_path: Path, writer: str) -> None:
    folder = tmp_path / "disk"
    with read_only_disk(folder):
        with pytest.raises((OutputError, CheckpointError), match=r"(?i)permission|read-only"):
            WRITERS[writer](folder)
        assert not list(folder.iterdir())


def test_a_name_that_is_taken_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match=r"taken is a folder. Give the name of a file"):
        check_file_target(tmp_path / "taken")
    for writer, name in OLD_NAMES.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_bytes(b"mine")
        with pytest.raises(OutputError, match=r"is a folder|could not be written"):
            WRITERS[writer](tmp_path)
        assert [path.name for path in (tmp_path / name).iterdir()] == ["mine"]
    assert not unfinished_in(tmp_path)


def test_a_folder_that_is_filled_while_the_frames_are_made(tmp_path: Path) -> None:
    def meanwhile() -> Iterator[torch.Tensor]:
        yield NOISE
        frames(tmp_path)  # another program was faster

    with pytest.raises(OutputError, match="put there meanwhile"):
        write_png_folder(tmp_path / "frames", meanwhile(), total=len(NOISE))
    assert len(list((tmp_path / "frames").iterdir())) == len(NOISE) and not unfinished_in(tmp_path)


def test_a_folder_with_something_in_it(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    check_folder_target(tmp_path / "frames")
    Image.new("RGB", (4, 4)).save(tmp_path / "frames" / "mine.png")
    with pytest.raises(OutputError, match="is not an empty folder"):
        check_folder_target(tmp_path / "frames")
    with pytest.raises(OutputError, match="is not an empty folder"):
        frames(tmp_path)
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(OutputError, match="is not an empty folder"):
        check_folder_target(tmp_path / "file")
