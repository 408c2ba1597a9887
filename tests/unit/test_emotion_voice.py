"""The intensity of a voice, and a classifier of voices."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from emotion_tracks import NEUTRAL, PRIORS, constant
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from dicetalk.audio.speech import SAMPLE_RATE, load_speech
from dicetalk.cli import main
from dicetalk.drawn.voices import PROGRAM, sample_voice, sentences, speak
from dicetalk.emotion.algebra import scale
from dicetalk.emotion.compare import FEELINGS, preset_weights
from dicetalk.emotion.files import load_emotion
from dicetalk.emotion.prior import PRESET_NAMES, save_prior, space_of
from dicetalk.emotion.recognise.recogniser import blend
from dicetalk.emotion.voice.classes import VoiceClassifier, load_voice_classifier, voice_scores
from dicetalk.emotion.voice.features import BLOCK_STEPS, HOP, VoiceFeatures, measure_voice
from dicetalk.emotion.voice.intensity import IntensityScale, describe_speaker, voice_intensity
from dicetalk.errors import Cancelled, CheckpointError, EmotionError, SpeechError
from dicetalk.hooks import Hooks

ROOT = Path(__file__).parents[2]
SPEECH = ROOT / "examples" / "speech.wav"
needs_espeak = pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="espeak-ng is not installed")


def tone(hertz: float, seconds: float, level: float = 0.2, harmonics: int = 8) -> np.ndarray:
    """A buzz with falling harmonics, as a voice has."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wave = sum(np.sin(2 * np.pi * hertz * k * t) / k**2 for k in range(1, harmonics + 1))
    return (level * wave / np.sqrt((wave**2).mean())).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


@pytest.fixture(scope="module")
def real() -> VoiceFeatures:
    return measure_voice(load_speech(SPEECH).samples)


# Features


@pytest.mark.parametrize("hertz", [90.0, 140.0, 220.0, 400.0])
def test_pitch_and_loudness_of_a_tone(hertz: float) -> None:
    features = measure_voice(np.concatenate([silence(1), tone(hertz, 1), silence(1)]))
    inside = slice(55, 95)
    assert features.voiced[inside].all() and not features.active[:45].any() and not features.active[105:].any()
    assert features.pitch[inside] == pytest.approx(12 * np.log2(hertz / 100), abs=0.2)
    assert features.loudness[inside] == pytest.approx(20 * np.log10(0.2), abs=0.5)


def test_tilt_and_flux() -> None:
    bright, dull = (measure_voice(tone(150, 1, harmonics=n)).tilt[20] for n in (40, 5))
    assert bright > dull + 20
    syllable = np.concatenate([tone(150, 0.08), silence(0.04)])
    slow = np.concatenate([tone(150, 0.3), silence(0.1)])
    pace = [measure_voice(np.tile(part, n)).flux.mean() for part, n in ((syllable, 25), (slow, 8))]
    assert pace[0] > 1.5 * pace[1]


def test_blocks_leave_no_trace() -> None:
    speech = load_speech(SPEECH).samples
    samples = np.tile(speech, int(70 * SAMPLE_RATE / len(speech)) + 1)[: 70 * SAMPLE_RATE]
    whole = measure_voice(samples)
    edge = BLOCK_STEPS
    alone = measure_voice(samples[(edge - 200) * HOP : (edge + 200) * HOP])
    for name in ("loudness", "tilt", "flux", "pitch"):
        np.testing.assert_allclose(
            getattr(whole, name)[edge - 100 : edge + 100], getattr(alone, name)[100:300], atol=0.2, err_msg=name
        )
    assert len(whole) == 70 * 50


def test_measuring_reports_and_stops() -> None:
    heard = []
    hooks = Hooks(progress=lambda stage, done, total, preview=None: heard.append((stage, done, total)))
    measure_voice(np.tile(silence(1), 61), hooks)
    assert heard == [("voice", 1, 2), ("voice", 2, 2)]
    with pytest.raises(Cancelled):
        measure_voice(silence(1), Hooks(cancelled=lambda: True))


# Intensity


@needs_espeak
@pytest.mark.parametrize("high", [True, False])
@pytest.mark.parametrize(("emotion", "direction"), [("angry", "louder"), ("sad", "softer"), ("surprised", "either")])
def test_more_emotion_is_heard_as_more(emotion: str, direction: str, high: bool) -> None:
    voice, lines = sample_voice(11, high), sentences("test")[:3]

    def mean(intensity: float) -> float:
        features = [features_of(line, intensity) for line in lines]
        return float(np.mean([voice_intensity(x, speaker, direction=direction).values.mean() for x in features]))

    def features_of(line: str, intensity: float) -> VoiceFeatures:
        return measure_voice(load_speech(speak(line, voice, emotion, intensity, seed=lines.index(line))).samples)

    speaker = describe_speaker([features_of(line, 0.0) for line in lines])
    ordinary, low, middle, high_ = (mean(intensity) for intensity in (0.0, 0.3, 0.6, 1.0))
    assert low < middle < high_
    assert high_ > ordinary + 0.2


@needs_espeak
def test_a_louder_half_is_more_intense() -> None:
    voice = sample_voice(5, False)
    calm, rate = speak(sentences("test")[0], voice)
    wild, _ = speak(sentences("test")[1], voice, "angry")
    gap = np.zeros(rate // 2, np.float32)
    curve = voice_intensity(measure_voice(load_speech((np.concatenate([calm, gap, wild]), rate)).samples))
    border = len(calm) / rate
    early, late = (curve.values[(curve.seconds < border)], curve.values[curve.seconds > border + 0.6])
    assert late.mean() > early.mean() + 0.2


def test_silence_and_no_clicks_in_real_speech(real: VoiceFeatures) -> None:
    into = IntensityScale()
    curve = voice_intensity(real, scale=into)
    assert len(curve.values) == -(-len(real) // 4)
    assert np.abs(np.diff(curve.values)).max() < 0.2, "no jump from frame to frame"
    assert into.silence - 1e-9 <= curve.values.min() and curve.values.max() <= into.highest
    spoken = real.active[::4]
    assert into.ordinary - 0.25 < curve.values[spoken].mean() < into.ordinary + 0.25
    pause = slice(round(0.98 * 50), round(1.12 * 50))
    assert 0.6 < real.active.mean() < 0.9 and not real.active[pause].any(), "somebody breathes after a second"


def recordings() -> list[Path]:
    """The package's example, and what lies beside the project."""
    return [SPEECH, *sorted((ROOT.parent / "shared" / "data" / "speech").glob("*.wav"))]


@pytest.mark.parametrize("path", recordings(), ids=lambda path: path.stem)
def test_neither_noise_nor_level_hides_the_pauses(path: Path) -> None:
    samples = load_speech(path).samples
    clean = measure_voice(samples)
    assert 0.5 < clean.active.mean() < 0.9
    peak = np.percentile(clean.loudness, 95)
    quiet = measure_voice(samples * 10 ** ((-56 - peak) / 20))
    assert (quiet.active == clean.active).mean() > 0.97
    noise = np.random.default_rng(0).normal(0, 10 ** ((peak - 25) / 20), len(samples)).astype(np.float32)
    assert (measure_voice(samples + noise).active == clean.active).mean() > 0.85


def test_silence_in_a_noisy_room_is_the_floor() -> None:
    into, rng = IntensityScale(), np.random.default_rng(0)
    sound = np.concatenate([silence(2), tone(150, 2), silence(2), tone(150, 1)])
    noisy = (sound + rng.normal(0, 0.2 * 10 ** (-25 / 20), len(sound))).astype(np.float32)
    curve = voice_intensity(measure_voice(noisy), scale=into)
    assert curve.at([0.5, 1.2, 5.0]) == pytest.approx(into.silence, abs=0.03) and curve.at([3.0]) > 0.6
    assert not measure_voice(rng.normal(0, 1e-3, 3 * SAMPLE_RATE).astype(np.float32)).active.any(), "noise alone"


def test_silence_is_the_floor() -> None:
    into = IntensityScale(silence=0.1)
    curve = voice_intensity(measure_voice(np.concatenate([silence(2), tone(150, 2), silence(2)])), scale=into)
    assert curve.at([0, 0.8, 5.2]) == pytest.approx(0.1, abs=0.02)
    assert curve.at([3.0]) > 0.6
    short = np.concatenate([tone(150, 1), silence(0.2), tone(150, 1)])
    assert voice_intensity(measure_voice(short), scale=into).values[5:-5].min() > 0.6, "a breath is no silence"
    quiet = voice_intensity(measure_voice(silence(3)), scale=into)
    assert quiet.values == pytest.approx(0.1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["louder", "softer", "either"]), st.integers(1, 150))
def test_any_voice_gives_a_curve_inside_its_scale(seed: int, direction: str, steps: int) -> None:
    rng = np.random.default_rng(seed)
    features = VoiceFeatures(
        rng.uniform(-100, 0, steps),
        np.where(rng.random(steps) < 0.5, np.nan, rng.uniform(-10, 30, steps)),
        rng.uniform(-60, 20, steps),
        rng.uniform(0, 30, steps),
    )
    values = voice_intensity(features, direction=direction).values
    assert np.isfinite(values).all() and values.min() >= 0.25 - 1e-9 and values.max() <= 1.4 + 1e-9


def test_multiplied_into_an_emotion(real: VoiceFeatures) -> None:
    curve = voice_intensity(real)
    track = scale(constant(angry=1.0), curve, NEUTRAL)
    distance = (track.at(curve.seconds.tolist()).mu - NEUTRAL.mu).norm(dim=1) / 2
    np.testing.assert_allclose(distance.numpy(), curve.values, atol=1e-5)


def test_intensity_errors(real: VoiceFeatures) -> None:
    with pytest.raises(EmotionError, match=r"'up'.*louder, softer, either"):
        voice_intensity(real, direction="up")
    for values in (
        {"silence": -1},
        {"silence": 1},
        {"ordinary": 1.5},
        {"highest": 2.1},
        {"smoothing": 0},
        {"silence": float("nan")},
    ):
        with pytest.raises(EmotionError):
            IntensityScale(**values)
    for recordings in ([], [measure_voice(silence(1))]):
        with pytest.raises(SpeechError, match="Nobody speaks"):
            describe_speaker(recordings)


# Classes


LABELS = ["ang", "hap", "neu", "other", "Sadness"]


@pytest.fixture(scope="module")
def classifier_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small wav2vec2 that hears "angry" in loud and "sad" in quiet speech, about."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForSequenceClassification

    folder = tmp_path_factory.mktemp("classifier")
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, classifier_proj_size=8,
        conv_dim=[16, 16], conv_kernel=[10, 8], conv_stride=[8, 8], num_feat_extract_layers=2,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, id2label=dict(enumerate(LABELS)),
        label2id={label: i for i, label in enumerate(LABELS)},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Wav2Vec2ForSequenceClassification(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(folder)
    return folder


def test_a_classifier_that_was_saved_in_half_precision_hears(classifier_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForAudioClassification

    folder = shutil.copytree(classifier_folder, tmp_path / "half")
    AutoModelForAudioClassification.from_pretrained(folder).half().save_pretrained(folder)
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    half, full = (voice_scores(samples, load_voice_classifier(each)) for each in (folder, classifier_folder))
    assert half == pytest.approx(full, abs=0.02)


class Loudness(torch.nn.Module):
    """Hears "ang" in loud and "Sadness" in quiet sound."""

    def forward(self, input_values: torch.Tensor) -> object:
        level = 20 * input_values.square().mean().sqrt().clamp(min=1e-5).log10()
        logits = torch.stack([level + 20, level * 0 - 9, level * 0 - 9, level * 0 - 9, -20 - level])
        return type("Output", (), {"logits": logits[None]})


def extractor(samples: np.ndarray, sampling_rate: int, return_tensors: str) -> "Inputs":
    assert sampling_rate == 8000 and return_tensors == "pt"
    return Inputs(input_values=torch.from_numpy(samples)[None])


class Inputs(dict):
    def to(self, device: torch.device) -> "Inputs":
        return self


extractor.sampling_rate = 8000


def test_classes_over_time() -> None:
    classifier = VoiceClassifier(Loudness(), extractor, ("angry", "happy", "neutral", None, "sad"))
    samples = np.concatenate([tone(150, 6, level=0.5), tone(150, 6, level=0.01)])
    scores = voice_scores(samples, classifier)
    assert scores.shape == (150, 8) and scores.sum(axis=1) == pytest.approx(1)
    angry, sad = (scores[:, PRESET_NAMES.index(name)] for name in ("angry", "sad"))
    assert angry[:40].min() > 0.95 and sad[110:].min() > 0.95
    assert abs(float(np.interp(0.5, sad[50:100], np.arange(50, 100)) / 12.5) - 6) < 2
    mus = blend(scores, PRIORS)
    torch.testing.assert_close(mus[0], PRIORS["angry"].mu, atol=0.1, rtol=0)


def test_a_real_folder(classifier_folder: Path) -> None:
    classifier = load_voice_classifier(classifier_folder)
    assert classifier.classes == ("angry", "happy", "neutral", None, "sad")
    assert voice_scores(tone(150, 0.9), classifier).shape == (12, 8)
    scores = voice_scores(tone(150, 2), classifier)
    assert scores.shape == (25, 8) and scores.sum(axis=1) == pytest.approx(1)
    with torch.no_grad():
        inputs = classifier.extractor(tone(150, 2)[::2], sampling_rate=8000, return_tensors="pt")
        expected = classifier.network(**inputs).logits[0].softmax(0)
    # Resampled well rather than by leaving out every second sample, so only about the same.
    assert scores[0][PRESET_NAMES.index("angry")] == pytest.approx(float(expected[0]), abs=0.05)
    assert scores[0][0] == pytest.approx(float(expected[2] + expected[3]), abs=0.05), "other counts as neutral"
    with pytest.raises(Cancelled):
        voice_scores(tone(150, 1), classifier, hooks=Hooks(cancelled=lambda: True))


def test_the_command_hears_classes(classifier_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "emotion").mkdir()
    for name, prior in PRIORS.items():
        save_prior(prior, tmp_path / "emotion" / f"{name}.safetensors")
    out = tmp_path / "heard.safetensors"
    options = ["--classifier", str(classifier_folder), "--models", str(tmp_path), "--device", "cpu", "--quiet"]
    assert main(["emotion", "voice", str(SPEECH), *options, "--strength", "2", "--out", str(out)]) == 0
    speech = load_speech(SPEECH)
    scores = voice_scores(speech.samples, load_voice_classifier(classifier_folder))
    heard = preset_weights(load_emotion(out, space_of(PRIORS)).track.at([speech.seconds / 2]).mu, PRIORS)[0]
    middle = scores[len(scores) // 2][[PRESET_NAMES.index(name) for name in FEELINGS]]
    assert heard.tolist() == pytest.approx((2 * middle).tolist(), abs=0.05) and heard.max() > 0.2


def test_folders_that_are_no_classifier(classifier_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"config\.json, preprocessor_config\.json, model\.safetensors is missing"
    ):
        load_voice_classifier(tmp_path)
    folder = shutil.copytree(classifier_folder, tmp_path / "copy")
    for length, message in ((100, "cut off"), (100_000, "cannot be loaded")):
        (folder / "model.safetensors").write_bytes(b"\xff" * length)
        with pytest.raises(CheckpointError, match=message):
            load_voice_classifier(folder)
    shutil.copy(classifier_folder / "model.safetensors", folder)
    config = json.loads((folder / "config.json").read_text())
    for changes in ({"id2label": {str(i): f"LABEL_{i}" for i in range(5)}}, {"model_type": "nonsense"}):
        (folder / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(CheckpointError, match="copy"):
            load_voice_classifier(folder)
    labels = {str(i): name for i, name in zip((0, 1, 2, 4, 7), LABELS, strict=True)}
    (folder / "config.json").write_text(json.dumps(config | {"id2label": labels}))
    with pytest.raises(CheckpointError, match=r"copy: config\.json numbers its labels \[0, 1, 2, 4, 7\]; .* 0 to 4"):
        load_voice_classifier(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        load_voice_classifier(folder)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("config.json", {"layerdrop": "a"}),
        ("config.json", {"conv_dim": "abc"}),
        ("config.json", {"id2label": [1, 2]}),
        ("config.json", {"hidden_size": 10**9}),
        ("config.json", {"hidden_size": 1 << 16}),
        ("config.json", {"num_hidden_layers": 10**6}),
        ("config.json", {"conv_stride": [1, 1]}),
        ("config.json", []),
        ("preprocessor_config.json", {"sampling_rate": 0}),
        ("preprocessor_config.json", {"sampling_rate": "fast"}),
        ("preprocessor_config.json", {"feature_extractor_type": 7}),
        ("preprocessor_config.json", None),
    ],
    ids=str,
)
def test_configs_that_make_transformers_stumble(
    name: str, changes: object, classifier_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(classifier_folder, tmp_path / "copy")
    table = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(table | changes if isinstance(changes, dict) else changes))
    with pytest.raises(CheckpointError, match="copy"):
        load_voice_classifier(folder)


def test_a_folder_without_a_trained_head_is_refused(classifier_folder: Path, tmp_path: Path) -> None:
    """A speech encoder alone, or one with the head of another task: transformers fills up with random numbers."""
    folder = shutil.copytree(classifier_folder, tmp_path / "copy")
    weights = load_file(folder / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "classifier" not in k}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(CheckpointError, match=r"copy: weights are missing.*classifier\.bias, classifier\.weight"):
        load_voice_classifier(folder)
    save_file(weights | {"classifier.weight": torch.zeros(3, 8)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"copy"):
        load_voice_classifier(folder)
    unmasked = {k: v for k, v in weights.items() if not k.endswith("masked_spec_embed")}
    save_file(unmasked, folder / "model.safetensors", {"format": "pt"})
    assert load_voice_classifier(folder).classes[0] == "angry", "what only training uses may be missing"


def test_code_in_the_folder_is_not_run(classifier_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(classifier_folder, tmp_path / "copy")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'made')!r}, 'w')\nclass Config: pass\n")
    config = json.loads((folder / "config.json").read_text())
    mapped = {"AutoConfig": "evil.Config", "AutoModelForAudioClassification": "evil.Config"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "evil", "auto_map": mapped}))
    with pytest.raises(CheckpointError):
        load_voice_classifier(folder)
    assert not (tmp_path / "made").exists()


# What a listener hears


@pytest.mark.parametrize(
    "name",
    ["offset", "very quiet", "mains hum", "rumble", "music 20 dB below", "music 12 dB below", "music 6 dB below"],
)
def test_intensity_follows_the_voice_and_not_what_lies_under_it(name: str) -> None:
    speech = load_speech(SPEECH).samples
    t = np.arange(len(speech)) / SAMPLE_RATE
    level = float(np.sqrt(np.square(speech).mean()))

    def hum(hertz: float, db: float) -> np.ndarray:
        return np.sqrt(2) * level * 10 ** (db / 20) * np.sin(2 * np.pi * hertz * t)

    def music(db: float) -> np.ndarray:
        """A new chord every half second, each dying away."""
        bed, notes = np.zeros(len(t)), np.random.default_rng(0)
        for start in np.arange(0, t[-1], 0.5):
            fading = (t >= start) * np.exp(-3 * (t - start).clip(0))
            root = 110 * 2 ** (notes.integers(12) / 12)
            bed += fading * sum(np.sin(2 * np.pi * root * part * t) / part for part in (1, 1.26, 1.5, 2, 3, 4))
        return bed / np.sqrt(np.square(bed).mean()) * level * 10 ** (db / 20)

    changed = {
        "offset": speech + 0.3,
        "very quiet": speech * 1e-3,
        "mains hum": speech + hum(50, -6),
        "rumble": speech + hum(20, 6),
        "music 20 dB below": speech + music(-20),
        "music 12 dB below": speech + music(-12),
        "music 6 dB below": speech + music(-6),
    }[name]
    clean, heard = (voice_intensity(measure_voice(x.astype(np.float32))).values for x in (speech, changed))
    assert np.corrcoef(clean, heard)[0, 1] > 0.88
    assert np.abs(clean - heard).max() < 0.12
    through = voice_intensity(measure_voice(load_speech((changed.astype(np.float32), SAMPLE_RATE)).samples)).values
    assert np.corrcoef(clean, through)[0, 1] > 0.88
