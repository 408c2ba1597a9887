"""Extract Emotion Prior."""

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
from dicetalk.errors import EmotionError, NoFaceError, VideoError

SMILE = Path(__file__).parents[2] / "examples" / "portrait.jpg"


@pytest.fixture(scope="module")
def smile() -> torch.Tensor:
    """Half a second of a smiling face at 25 fps."""
    picture = torch.from_numpy(np.array(Image.open(SMILE).convert("RGB"))).float() / 255
    return picture[None].expand(12, -1, -1, -1)


def extracted(nodes: dict[str, Any], model: Any, **inputs: Any) -> Any:
    values = {"result": "one emotion", "strength": 1.0, "smoothing": 0.2, "window": 2.0, "fps": 25.0}
    return nodes["DICETalk_ExtractEmotionPrior"].execute(model, **values | inputs)


def test_a_smile_is_happy(nodes: dict[str, Any], model: Any, smile: torch.Tensor) -> None:
    out = extracted(nodes, model, images=smile)
    emotion, preview = out.result
    assert isinstance(emotion, EmotionPrior)
    weights = preset_weights(emotion.mu[None], model.dice.priors)[0]
    feelings = [name for name in PRESET_NAMES if name != "neutral"]
    assert feelings[int(weights.argmax())] == "happy"
    assert preview.shape[0] == 1 and preview.shape[-1] == 3 and out.ui.image is preview
    half = extracted(nodes, model, images=smile, strength=0.5).result[0]
    neutral = model.dice.priors["neutral"].mu
    assert torch.allclose(half.mu - neutral, 0.5 * (emotion.mu - neutral), atol=1e-4)


def test_a_video_brings_its_own_rate_and_may_follow_time(
    nodes: dict[str, Any], model: Any, smile: torch.Tensor, audio: dict[str, Any]
) -> None:
    parts = SimpleNamespace(images=smile, frame_rate=12, audio=audio)
    video = SimpleNamespace(get_components=lambda: parts)
    track = extracted(nodes, model, video=video, result="emotion over time").result[0]
    assert isinstance(track, EmotionTrack)
    assert track.end == pytest.approx(11 / 12.5)  # a second, seen 12.5 times a second


def test_what_cannot_be_read(nodes: dict[str, Any], model: Any, smile: torch.Tensor, audio: dict[str, Any]) -> None:
    with pytest.raises(EmotionError, match="connect images, a video or audio"):
        extracted(nodes, model)
    with pytest.raises(EmotionError, match="Disconnect one"):
        extracted(nodes, model, images=smile, video=SimpleNamespace())
    with pytest.raises(VideoError, match="no pictures"):
        extracted(nodes, model, audio=audio)
    with pytest.raises(NoFaceError, match="No face"):
        extracted(nodes, model, images=torch.rand(4, 128, 128, 3, generator=torch.Generator().manual_seed(0)))
