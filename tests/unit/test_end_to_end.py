"""Real pictures and real speech through the bundled model, from the command line: an emotion is taken from a picture or
a voice, and somebody else says something with it. The model knows drawn faces only, so what is tested is the way there,
not beauty."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from dicetalk.checkpoints.load import load_model
from dicetalk.checkpoints.tiny import tiny_folder
from dicetalk.cli import main
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.emotion.saved import load_emotion
from dicetalk.emotion.space import space_of

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
SMILE = ROOT / "examples" / "portrait.jpg"
SECONDS = 1.6


def pairs() -> list[tuple[Path, Path]]:
    """Portraits and speech: the package's examples, and what lies beside the project."""
    shared = zip(sorted(SHARED.glob("portraits/*")), sorted(SHARED.glob("speech/*")), strict=False)
    return [(SMILE, ROOT / "examples" / "speech.wav"), *shared]


def run(*arguments: object) -> None:
    assert main([*map(str, arguments), "--models", "tiny", "--quiet"]) == 0


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)


@pytest.mark.parametrize(("portrait", "speech"), pairs(), ids=lambda path: path.stem)
def test_a_smile_on_a_picture_is_worn_by_another_face(portrait: Path, speech: Path, tmp_path: Path) -> None:
    smile = tmp_path / "smile.safetensors"
    run("emotion", "extract", SMILE, "--by", "recogniser", "--out", smile)
    priors = load_model(tiny_folder()).priors
    read = load_emotion(smile, space_of(priors)).emotion
    distances = {name: (read.mu - priors[name].mu).norm().item() for name in PRESET_NAMES}
    assert min(distances, key=distances.get) == "happy"

    files = ("generate", "--image", portrait, "--audio", speech, "--duration", SECONDS, "--steps", 4)
    videos = {}
    for name, emotion in {"smile": smile, "again": smile, "neutral": "neutral"}.items():
        videos[name] = tmp_path / f"{name}.mp4"
        run(*files, "--emotion", emotion, "--out", videos[name])
    with av.open(str(videos["smile"])) as container:
        sound = container.streams.audio[0]
        assert float(sound.duration * sound.time_base) == pytest.approx(SECONDS, abs=0.04)
    shown, again, neutral = (frames_of(path) for path in videos.values())
    fps = 25 if len(shown) > SECONDS * 20 else 12.5  # without RIFE as many as the model makes
    assert abs(len(shown) / fps - SECONDS) <= 1 / fps
    assert np.array_equal(shown, again)
    assert shown.std() > 10 and np.abs(np.diff(shown, axis=0)).mean() > 0.2  # a picture, and it moves
    assert np.abs(shown - neutral).mean() > 0.5


@pytest.mark.parametrize("speech", [speech for _, speech in pairs()], ids=lambda path: path.stem)
def test_an_emotion_is_taken_from_a_voice(speech: Path, tmp_path: Path) -> None:
    run("emotion", "extract", speech, "--track", "--out", tmp_path / "voice.safetensors")
    priors = load_model(tiny_folder()).priors
    track = load_emotion(tmp_path / "voice.safetensors", space_of(priors)).track
    spread = max((priors[name].mu - priors["neutral"].mu).norm().item() for name in PRESET_NAMES)
    means = torch.stack([key.prior.mu for key in track.keyframes]).flatten(1)
    far = (means - priors["neutral"].mu).norm(dim=1)
    assert means.isfinite().all() and means.diff(dim=0).norm(dim=1).max() > 0
    assert far.max() < 2 * spread
