"""The doctor's table: found, missing, and damaged in every way."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fake_hub import SmallDetector
from released_files import SMALL, write_svd_single_file

from dicetalk.checkpoints import files
from dicetalk.checkpoints.convert import convert_model
from dicetalk.checkpoints.doctor import ModelReport, format_report, inspect_model
from dicetalk.checkpoints.files import MODEL_FILES

VAE = files.VAE.name


def inspect(folder: Path, **options: Path) -> ModelReport:
    return inspect_model(folder, config=SMALL, **options)


def damage(report: ModelReport) -> dict[str, str]:
    return {r.file.name: r.damage for r in report.files if r.state == "damaged"}


def test_a_complete_model(released: Path) -> None:
    report = inspect(released)
    assert report.complete
    assert [r.file for r in report.files] == list(MODEL_FILES)
    for r in report.files:
        absent = r.file is files.DETECTOR
        assert r.state == ("missing" if absent else "found")
        assert r.bytes == (0 if absent else r.path.stat().st_size)
    text = format_report(report)
    assert text.endswith("The model is complete.")
    assert "  optional         -  yoloface_v5m.pt" in text
    assert re.search(r"^  found +12\.2 MB  RIFE/flownet\.pkl$", text, re.MULTILINE)


def test_an_empty_folder_and_none_at_all(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        report = inspect(folder)
        assert not report.complete
        assert {r.state for r in report.files} == {"missing"}
        text = format_report(report)
        assert "16 of 18 files are missing or damaged" in text
        assert f"`dicetalk download {folder}` fetches them (8.74 GB)" in text
        for file in MODEL_FILES:
            assert file.name in text and file.origin in text


def keep(size: int) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[:size])


def without_a_key(path: Path) -> None:
    tensors = torch.load(path, weights_only=True)
    tensors.pop(next(iter(tensors)))
    torch.save(tensors, path)


def write(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    ("name", "spoil", "reason"),
    [
        ("unet.pth", keep(0), "is empty"),
        ("unet.pth", keep(1000), "is cut off"),
        ("emo_model.pth", write("<!DOCTYPE html>"), "is a web page"),
        ("audio_linear.pth", write("version https://git-lfs.github.com/spec/v1\n"), "Git-LFS pointer"),
        ("pose_guider.pth", without_a_key, "1 of 16 tensors missing"),
        ("RIFE/flownet.pkl", keep(5_000_000), "is cut off"),
        ("RIFE/flownet.pkl", without_a_key, r"1 of 160 tensors missing"),
        (VAE, keep(100_000), "cut off"),
        (VAE, write("<html>"), "is a web page"),
        ("whisper-tiny/config.json", write("{}"), "not a Whisper config"),
        ("whisper-tiny/model.safetensors", keep(100_000), "cut off"),
        ("emotion/sad.npy", keep(900), "not an emotion prior"),
    ],
)
def test_damage_is_found_in_the_right_row(folder: Path, name: str, spoil: Callable[[Path], None], reason: str) -> None:
    spoil(folder / name)
    report = inspect(folder)
    assert not report.complete
    assert list(damage(report)) == [name]
    assert reason in damage(report)[name]
    text = format_report(report)
    assert f"  {damage(report)[name]}" in text
    assert "1 of 18 files are missing or damaged" in text


def test_a_damaged_detector_counts_though_it_is_optional(folder: Path) -> None:
    (folder / "yoloface_v5m.pt").write_bytes(b"not found")
    report = inspect(folder)
    assert damage(report)["yoloface_v5m.pt"].startswith("is no complete TorchScript archive")
    assert not report.complete


def test_a_detector_that_torch_jit_saved_is_sound(folder: Path) -> None:
    """Its code is deflated, which torch.save never does."""
    torch.jit.script(SmallDetector()).save(folder / "yoloface_v5m.pt")
    report = inspect(folder)
    assert report.complete and not damage(report)
    assert "CenterFace" not in format_report(report)


def test_a_detector_that_is_refused_is_no_damage(folder: Path) -> None:
    torch.jit.script(ReadsFiles()).save(folder / "yoloface_v5m.pt")
    report = inspect(folder)
    assert report.complete and not damage(report)
    text = format_report(report)
    assert "is not used, CenterFace finds faces instead: " in text and "operation torch.from_file" in text


@pytest.mark.parametrize("how", ["cut", "weights"])
def test_a_detector_that_is_no_whole_torchscript_archive_is_damaged(folder: Path, how: str) -> None:
    path = folder / "yoloface_v5m.pt"
    if how == "cut":
        torch.jit.script(SmallDetector()).save(path)
        keep(2000)(path)
    else:
        torch.save(SmallDetector().state_dict(), path)
    assert "TorchScript" in damage(inspect(folder))["yoloface_v5m.pt"]


class ReadsFiles(torch.nn.Module):
    """A program that could create files."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels + torch.from_file("x", False, 0, dtype=torch.float32).sum()


def test_the_wrong_size_of_everything_is_seen_without_reading_values(released: Path) -> None:
    report = inspect_model(released)
    assert {"unet.pth", "audio_linear.pth", "emo_model.pth", "pose_guider.pth", VAE} < set(damage(report))
    assert "says d_model = 32; the audio projection needs 384" in damage(report)["whisper-tiny/config.json"]


def test_svd_elsewhere(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / files.SVD_FOLDER)
    single = tmp_path / "svd_xt.safetensors"
    write_svd_single_file(single, SMALL)
    assert not inspect(folder).complete
    report = inspect(folder, svd=single)
    assert report.complete
    assert str(single) in format_report(report)


def test_a_converted_file_has_one_row(folder: Path) -> None:
    convert_model(folder, folder / "dicetalk-fp16.safetensors", config=SMALL)
    for file in files.DICE_FILES:
        (folder / file.name).unlink()
    report = inspect(folder)
    assert report.complete
    assert len(report.files) == len(MODEL_FILES) - 3
    keep(5000)(folder / "dicetalk-fp16.safetensors")
    report = inspect(folder)
    assert list(damage(report)) == [files.PACKED.name]
    assert "dicetalk-fp16.safetensors\n" in format_report(report)
