"""Extract Emotion Prior."""

import logging
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dicetalk.emotion.compare import preset_weights
from dicetalk.emotion.prior import PRESET_NAMES, EmotionPrior
from dicetalk.emotion.track import EmotionTrack
from dicetalk.errors import EmotionError, NoFaceError, NotEnoughMemoryError, VideoError
from dicetalk.video import write_mp4

SMILE = Path(__file__).parents[2] / "examples" / "portrait.jpg"


@pytest.fixture(scope="module")
def smile() -> torch.Tensor:
    """Half a second of a smiling face at 25 fps."""
    picture = torch.from_numpy(np.array(Image.open(SMILE).convert("RGB"))).float() / 255
    return picture[None].expand(12, -1, -1, -1)


def extracted(nodes: dict[str, Any], model: Any, **inputs: Any) -> Any:
    choice = {"result": "one emotion", "strength": 1.0}
    if inputs.get("result") == "emotion over time":
        choice |= {"smoothing": 0.2, "window": 2.0}
    choice |= {name: inputs.pop(name) for name in ("result", "strength", "window") if name in inputs}
    return nodes["DICETalk_ExtractEmotionPrior"].execute(model, **{"result": choice, "fps": 25.0} | inputs)


def feeling(model: Any, mu: torch.Tensor) -> str:
    """The preset beside neutral that a prior ``(1, 256)`` has most of."""
    names = [name for name in PRESET_NAMES if name != "neutral"]
    return names[int(preset_weights(mu, model.dice.priors)[0].argmax())]


def test_a_smile_is_happy(nodes: dict[str, Any], model: Any, smile: torch.Tensor) -> None:
    out = extracted(nodes, model, images=smile)
    saved, preview = out.result
    emotion = saved.emotion
    assert saved.space == model.space
    assert isinstance(emotion, EmotionPrior)
    assert feeling(model, emotion.mu[None]) == "happy"
    assert preview.shape[0] == 1 and preview.shape[-1] == 3 and out.ui["images"] is preview
    half = extracted(nodes, model, images=smile, strength=0.5).result[0].emotion
    neutral = model.dice.priors["neutral"].mu
    assert torch.allclose(half.mu - neutral, 0.5 * (emotion.mu - neutral), atol=1e-4)


def test_a_video_brings_its_own_rate_and_may_follow_time(
    nodes: dict[str, Any], model: Any, smile: torch.Tensor, audio: dict[str, Any]
) -> None:
    parts = SimpleNamespace(images=smile, frame_rate=12, audio=audio)
    video = SimpleNamespace(get_components=lambda: parts)
    track = extracted(nodes, model, video=video, result="emotion over time").result[0].emotion
    assert isinstance(track, EmotionTrack)
    assert track.end == pytest.approx(11 / 12.5)  # a second, seen 12.5 times a second


def test_what_cannot_be_read(nodes: dict[str, Any], model: Any, smile: torch.Tensor, audio: dict[str, Any]) -> None:
    with pytest.raises(EmotionError, match="connect images, a video or audio"):
        extracted(nodes, model)
    with pytest.raises(EmotionError, match="Disconnect one"):
        extracted(nodes, model, images=smile, video=SimpleNamespace())
    with pytest.raises(EmotionError, match=r"audio: this model has no emotion embedder.*Connect images or a video"):
        extracted(nodes, model, audio=audio)
    with pytest.raises(NoFaceError, match="No face"):
        extracted(nodes, model, images=torch.rand(4, 128, 128, 3, generator=torch.Generator().manual_seed(0)))


def test_sound_that_the_model_does_not_hear_is_not_converted_but_reported(
    nodes: dict[str, Any], model: Any, smile: torch.Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    broken = {"waveform": torch.zeros(7), "sample_rate": -1}
    with caplog.at_level(logging.WARNING, "dicetalk"):
        seen = extracted(nodes, model, images=smile, audio=broken).result[0]
    assert "audio has no part" in caplog.text
    assert torch.equal(seen.emotion.mu, extracted(nodes, model, images=smile).result[0].emotion.mu)


def test_a_model_with_an_embedder_hears(
    nodes: dict[str, Any], other_model: Any, audio: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert other_model.dice.embedder is not None
    emotion = extracted(nodes, other_model, audio=audio).result[0]
    assert emotion.space == other_model.space and "no part" not in caplog.text


@pytest.fixture(scope="module")
def smiling_file(smile: torch.Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smile as a video with a hum."""
    path = tmp_path_factory.mktemp("reference") / "smile.mp4"
    hum = 0.2 * np.sin(np.arange(7_680, dtype=np.float32) / 20)[None]
    write_mp4(path, iter([smile.movedim(-1, 1)]), fps=Fraction(25), sound=(hum, 16_000), total=len(smile))
    return path


def test_a_video_file_is_read_bit_by_bit(
    nodes: dict[str, Any], model: Any, smile: torch.Tensor, smiling_file: Path
) -> None:
    from comfy_api.latest import InputImpl

    track = extracted(nodes, model, video=InputImpl.VideoFromFile(str(smiling_file)), result="emotion over time")
    assert track.result[0].emotion.end == pytest.approx(5 / 12.5)
    assert feeling(model, track.result[0].track.at([0.2]).mu) == "happy"


def test_a_video_files_own_sound_and_another_in_its_place(
    nodes: dict[str, Any], other_model: Any, smiling_file: Path, audio: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from comfy_api.latest import InputImpl

    module = sys.modules[nodes["DICETalk_ExtractEmotionPrior"].__module__]
    heard = []

    def listen(samples: np.ndarray, *rest: Any, **how: Any) -> Any:
        heard.append(samples)
        return listen_really(samples, *rest, **how)

    listen_really = module.speech_features
    monkeypatch.setattr(module, "speech_features", listen)
    file = InputImpl.VideoFromFile(str(smiling_file))
    extracted(nodes, other_model, video=file)
    extracted(nodes, other_model, video=file, audio=audio)
    own, given = heard
    assert len(own) == 6 * 1280 and len(given) == 0.4 * 16_000  # as long as the pictures; as long as there is sound
    # A period of the file's hum has 126 samples, one of the other 89.
    assert [int(np.abs(np.fft.rfft(sound)).argmax() * 16_000 / len(sound) / 10) for sound in (own, given)] == [12, 18]


def test_a_part_of_a_video_is_decoded_only_where_memory_suffices(
    nodes: dict[str, Any], model: Any, smiling_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.model_management
    from comfy_api.latest import InputImpl

    part = InputImpl.VideoFromFile(str(smiling_file), start_time=0.1, duration=0.2)
    with pytest.raises(AssertionError, match="decoded"):  # as the stand-in says it
        extracted(nodes, model, video=part)
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device=None: 1000)
    with pytest.raises(NotEnoughMemoryError, match=r"5 frames of 512 x 512.*shorter or smaller video"):
        extracted(nodes, model, video=part)


def test_a_damaged_video_file(nodes: dict[str, Any], model: Any, tmp_path: Path) -> None:
    from comfy_api.latest import InputImpl

    (tmp_path / "broken.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(VideoError, match=r"broken\.mp4 is damaged"):
        extracted(nodes, model, video=InputImpl.VideoFromFile(str(tmp_path / "broken.mp4")))
