"""MediaPipe's blendshapes of real faces, with a stand-in for MediaPipe."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from small_films import BrightSquare, moving

from dicetalk.emotion.embedder import EmbedderConfig, EmotionEmbedder
from dicetalk.emotion.reference.blendshapes import BlendshapeReader, MediaPipeBlendshapes
from dicetalk.emotion.reference.clip import reference_of
from dicetalk.emotion.reference.extract import Embedding, extract_emotion
from dicetalk.emotion.reference.face_track import watch
from dicetalk.errors import SettingError
from dicetalk.hooks import Hooks


class Landmarker:
    """Its 52 shapes are the redness of the picture's middle; it sees no face where that is dark."""

    closed = False

    def detect(self, image: SimpleNamespace) -> SimpleNamespace:
        assert image.data.shape == (256, 256, 3) and image.data.flags.c_contiguous
        red = image.data[128, 128, 0] / 255
        return SimpleNamespace(face_blendshapes=[[SimpleNamespace(score=red)] * 52] if red > 0.3 else [])

    def close(self) -> None:
        Landmarker.closed = True


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    module = ModuleType("mediapipe")
    module.__version__ = "0.10.33rc1"
    module.Image = lambda image_format, data: SimpleNamespace(data=data)
    module.ImageFormat = SimpleNamespace(SRGB="srgb")
    landmarker = SimpleNamespace(create_from_options=lambda options: Landmarker())
    vision = SimpleNamespace(FaceLandmarker=landmarker, FaceLandmarkerOptions=lambda **options: options)
    module.tasks = SimpleNamespace(vision=vision, BaseOptions=lambda **options: options)
    monkeypatch.setitem(sys.modules, "mediapipe", module)
    (tmp_path / "face_landmarker.task").write_bytes(b"model")
    return tmp_path / "face_landmarker.task"


def test_faces_are_read_and_those_that_mediapipe_misses_are_bridged(model: Path) -> None:
    frames = moving(12)
    frames[5:7, 20:60] = np.where(frames[5:7, 20:60, :, :1] > 100, [70, 60, 20], frames[5:7, 20:60])  # too dark

    class Remembering(BrightSquare):
        def detect(self, picture: np.ndarray) -> list:
            return super().detect(picture) or super().detect(moving(6)[5])

    notices: list[str] = []
    with MediaPipeBlendshapes(model) as blendshapes:
        readings = watch(
            reference_of(frames), BlendshapeReader(blendshapes), Remembering(), Hooks(notice=notices.append)
        )
    assert Landmarker.closed and readings.values.shape == (12, 52)
    assert readings.lost.tolist() == [number in (5, 6) for number in range(12)] and len(notices) == 1
    assert readings.values[:, 7] == pytest.approx((130 + np.arange(12)) / 255, abs=0.01)


def test_an_embedder_that_was_trained_on_them(model: Path) -> None:
    sizes = EmbedderConfig(visual_dim=52, audio_dim=6, dim=256, layers=1, heads=2, hidden_dim=16, visual_fps=12.5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = EmotionEmbedder(sizes).requires_grad_(False).eval()
    with MediaPipeBlendshapes(model) as blendshapes:
        way = Embedding(network, BlendshapeReader(blendshapes))
        found = extract_emotion(reference_of(moving(12)), way, detector=BrightSquare()).emotion
    read = torch.from_numpy(np.repeat((130 + np.arange(12))[:, None] / 255, 52, axis=1)).float()
    assert torch.allclose(found.mu, network(read[None]).mu[0], atol=0.02)


@pytest.mark.parametrize(("version", "refused"), [("0.10.33rc1", False), ("0.10.34rc1", True), ("0.11", True)])
def test_versions_that_use_the_network_are_refused(version: str, refused: bool, model: Path) -> None:
    sys.modules["mediapipe"].__version__ = version
    if refused:
        with pytest.raises(SettingError, match="calls out to the network"):
            MediaPipeBlendshapes(model)
    else:
        MediaPipeBlendshapes(model)
