"""Real pictures and real speech through the bundled model, from the command line: an emotion is taken from a picture or
a voice, and somebody else says something with it. The model knows drawn faces only, so what is tested is the way there,
not beauty."""

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from plain_sampling import PlainSettings, plain_clip, plain_latents, ring

from dicetalk import pipeline
from dicetalk.checkpoints.find import tiny_folder
from dicetalk.checkpoints.load import load_model
from dicetalk.cli import main
from dicetalk.denoise.latents import Latents
from dicetalk.emotion.files import load_emotion
from dicetalk.emotion.mix import mix
from dicetalk.emotion.prior import PRESET_NAMES, space_of
from dicetalk.emotion.track import EmotionTrack

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


def test_the_command_samples_what_its_options_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every option off its default, against the method written out in `plain_sampling`."""
    calls = []
    real = pipeline.denoise

    def watched(*arguments: object, **options: object) -> Latents:
        calls.append((arguments, real(*arguments, **options)))
        return calls[-1][1]

    monkeypatch.setattr(pipeline, "denoise", watched)
    file = tmp_path / "track.json"
    keyframes = [{"time": 0.1, "emotion": "happy:1.5"}, {"time": 0.3, "emotion": "sad:0.5", "easing": "hold"}]
    file.write_text(json.dumps({"keyframes": keyframes}))
    options = {
        **{"--emotion-track": file, "--steps": 5, "--noise-strength": 0.6, "--portrait-guidance": "1.5:3"},
        **{"--expression-guidance": "4:2", "--audio-scale": 0.35, "--emotion-scale": 0.8, "--motion-bucket": 60},
        **{"--expression-bucket": 20, "--window": 4, "--overlap": 1, "--shift": 3, "--seed": 5, "--short-side": 64},
        **{"--image": SMILE, "--audio": ROOT / "examples" / "speech.wav", "--duration": 0.45, "--dtype": "fp32"},
    }
    run("generate", *(part for option in options.items() for part in option), "--out", tmp_path / "clip.mp4")

    ((arguments, made),) = calls
    model, portrait, features, track, settings = arguments
    first, last = mix({"happy": 1.5}, model.priors).mu, mix({"sad": 0.5}, model.priors).mu
    # 0, 0.08, 0.16, 0.24 and 0.32 s; the emotion changes from 0.1 to 0.3 s.
    means = torch.stack([first + way * (last - first) for way in (0.0, 0.0, 0.3, 0.7, 1.0)])
    generator = torch.Generator().manual_seed(5)
    torch.randn(1, 3, *portrait.mask.shape[-2:], generator=generator)  # the portrait's noise comes first
    noise = torch.randn(1, 9, *portrait.start_latents.shape, generator=generator)[0]
    plain = PlainSettings(
        steps=5,
        steps_run=3,
        windows=ring(9, 4, 1, 3),
        portrait_guidance=(1.5, 3.0),
        expression_guidance=(4.0, 2.0),
        audio_scale=0.35,
        emotion_scale=0.8,
        motion_bucket=60,
        expression_bucket=20,
        sigma_min=model.config.sampling.sigma_min,
        sigma_max=model.config.sampling.sigma_max,
    )
    clip = plain_clip(model, portrait, features, means, noise)
    expected = plain_latents(model.unet, clip, plain)
    assert made.frames == 5 and made.values.shape == expected.shape
    assert (made.values - expected).abs().max() < 1e-3
    # The model cares, or the comparison could not tell.
    late = EmotionTrack(tuple(replace(key, seconds=key.seconds + 0.08) for key in track.keyframes))
    swapped = replace(settings, audio_scale=0.8, emotion_scale=0.35)
    for changed in ((track, swapped), (late, settings)):
        assert (real(model, portrait, features, *changed).values - expected).abs().max() > 0.02


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
