"""The released weights as downloaded, and as two older packs lay them out, through Load DICE Model."""

import logging
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_hub import point_clients_at, published, serving
from small_models import SMALL_MODEL

from dicetalk.checkpoints import files
from dicetalk.checkpoints.download import download_model
from dicetalk.checkpoints.load import load_model


class ReadsFiles(torch.nn.Module):
    """A detector whose program is refused."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels + torch.from_file("x", False, 0, dtype=torch.float32).sum()


@pytest.fixture
def comfyui(nodes: dict[str, Any], node_module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ComfyUI of its own, with the released files downloaded into its model folder."""
    import folder_paths

    base = tmp_path / "ComfyUI"
    models = base / "models"
    known = folder_paths.folder_names_and_paths
    monkeypatch.setattr(folder_paths, "models_dir", str(models))
    monkeypatch.setitem(known, "dice_talk", ([str(models / "dice_talk")], known["dice_talk"][1]))
    monkeypatch.setitem(known, "checkpoints", ([str(models / "checkpoints")], {".safetensors"}))
    monkeypatch.setitem(known, "custom_nodes", ([str(base / "custom_nodes")], set()))
    monkeypatch.setattr(node_module("load_model"), "load_model", partial(load_model, config=SMALL_MODEL))
    hub = published(tmp_path / "published", SMALL_MODEL)
    with serving(hub):
        point_clients_at(hub, monkeypatch)
        download_model(models / "dice_talk", config=SMALL_MODEL)
    return base


def load(nodes: dict[str, Any]) -> Any:
    return nodes["DICETalk_LoadModel"].execute("unet.pth", "auto", "fp32").result[0]


def test_downloaded_files_load_and_find_a_face(
    nodes: dict[str, Any], comfyui: Path, image: torch.Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    model = load(nodes)
    assert model.dice.detector_path == comfyui / "models" / "dice_talk" / "yoloface_v5m.pt"
    with caplog.at_level(logging.WARNING, "dicetalk"):
        (face,) = model.detector.detect((image[0] * 255).byte().numpy())
    assert (face.x + face.width / 2, face.y + face.height / 2) == pytest.approx((48, 40), abs=1)
    assert not caplog.messages


def test_a_refused_detector_gives_way_with_one_warning(
    nodes: dict[str, Any], comfyui: Path, image: torch.Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    torch.jit.script(ReadsFiles()).save(comfyui / "models" / "dice_talk" / "yoloface_v5m.pt")
    model = load(nodes)
    with caplog.at_level(logging.WARNING, "dicetalk"):
        for _ in range(2):
            assert model.detector.detect((image[0] * 255).byte().numpy()) == []
    (message,) = caplog.messages
    assert "CenterFace" in message and "torch.from_file" in message


def test_the_older_packs_files_serve(nodes: dict[str, Any], comfyui: Path) -> None:
    """The folders in the READMEs of ComfyUI_DICE_Talk and ComfyUI_Sonic; priors come with the former."""
    own, sonic = comfyui / "models" / "dice_talk", comfyui / "models" / "sonic"
    sonic.mkdir()
    for name in ("yoloface_v5m.pt", "whisper-tiny", "RIFE"):
        shutil.move(own / name, sonic / name)
    (sonic / "unet.pth").write_bytes(b"of another network")
    examples = comfyui / "custom_nodes" / "ComfyUI_DICE_Talk" / "examples"
    examples.mkdir(parents=True)
    shutil.move(own / "emotion", examples / "emo")
    model = load(nodes)
    assert len(model.dice.priors) == 8 and model.dice.flownet is not None
    assert model.dice.detector_path == sonic / "yoloface_v5m.pt"
    changed = nodes["DICETalk_LoadModel"].fingerprint_inputs("unet.pth", "auto", "fp32")
    assert str(examples / "emo" / "sad.npy") in {path for path, _, _ in changed}
    assert files.UNET.name in {Path(path).name for path, _, _ in changed}
