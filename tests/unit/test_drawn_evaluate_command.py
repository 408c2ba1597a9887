"""`dicetalk evaluate` and `dicetalk demo` from files to files, on a small model with random weights."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from released_files import write_released
from safetensors.torch import load_file, save_file
from small_models import SMALL_MODEL

from dicetalk.audio.speech import SAMPLE_RATE, load_speech
from dicetalk.checkpoints.convert import convert_model
from dicetalk.checkpoints.load import load_model
from dicetalk.checkpoints.packed import packed_metadata
from dicetalk.checkpoints.single import save_embedder
from dicetalk.cli import main
from dicetalk.cli.demo import bundled
from dicetalk.config import ModelConfig, SamplingConfig
from dicetalk.drawn.evaluate.ablations import load_ablation
from dicetalk.drawn.evaluate.embedding import (
    Embedded,
    clustering,
    clustering_rows,
    embed_people,
    person_identified,
    person_rows,
)
from dicetalk.drawn.evaluate.generate import Maker
from dicetalk.drawn.evaluate.plan import Plan, full_plan, quick_plan, unseen_people
from dicetalk.drawn.evaluate.takes import Shot, Sound, Take, change_moments, drawn_shot, spoken
from dicetalk.emotion.bank import EmotionModel, PriorTokens
from dicetalk.emotion.embedder import EmbedderConfig, PriorDistribution
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.emotion.track import EmotionTrack
from dicetalk.errors import CheckpointError
from dicetalk.hooks import Hooks
from dicetalk.pipeline import generate_latents
from dicetalk.portrait.centerface import CenterFace
from dicetalk.portrait.prepare import prepare_portrait
from dicetalk.settings import FPS, SamplerSettings
from dicetalk.train.embedder import build_embedder

JUDGES = Path(__file__).parent / "data" / "judges.safetensors"
CONFIG = replace(SMALL_MODEL, sampling=SamplingConfig(64, 2, 1.5, 2.0))
ON_CPU = ["--device", "cpu", "--quiet"]

speaks = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete model folder that recommends 64 pixels and two steps, with an embedder."""
    folder = tmp_path_factory.mktemp("models")
    write_released(folder, CONFIG)
    convert_model(folder, folder / "dicetalk.safetensors", config=CONFIG)
    for released in folder.glob("*.pth"):
        released.unlink()
    audio = CONFIG.audio.layers * CONFIG.audio.channels
    sizes = EmbedderConfig(17, audio, layers=1, heads=2, hidden_dim=32, visual_fps=12.5)
    save_embedder(build_embedder(sizes, 0), folder / "embedder.safetensors")
    return folder


@speaks
def test_evaluate_writes_a_table_numbers_and_pictures(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shutil.copy(JUDGES, tmp_path)
    status = main(["evaluate", str(models), "--out", str(tmp_path), "--quick", *ON_CPU])
    assert status == 1, "random weights reach no bar"
    table = capsys.readouterr().out
    assert "MISSED" in table and (tmp_path / "table.txt").read_text() in table
    values = json.loads((tmp_path / "evaluation.json").read_text())
    assert len(values["clips"]) == 9 and values["settings"]["steps"] == 2
    assert values["rows"][0]["measure"] == "mouth: correlation with the speech"
    assert abs(values["rows"][0]["generated"]) < 0.5 < values["rows"][0]["drawn"]
    for name in ("emotions", "mouth"):
        picture = np.asarray(Image.open(tmp_path / f"{name}.png"))
        assert picture.shape[0] > 300 and picture.std() > 20


def test_evaluate_explains_what_it_cannot_do(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for options, message in (
        (["--clips", "0"], "--clips 0"),
        (["--clips", "0", "--quick"], "--clips 0"),
        (["--against", str(tmp_path / "none")], "none"),
    ):
        assert main(["evaluate", str(models), "--out", str(tmp_path / "out"), *options, *ON_CPU]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error
    deaf = tmp_path / "deaf"
    shutil.copytree(models, deaf)
    (deaf / "embedder.safetensors").unlink()
    assert main(["evaluate", str(deaf), "--out", str(tmp_path / "out"), "--against", str(models), *ON_CPU]) == 1
    assert "deaf has no embedder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@speaks
def test_trainings_are_compared_by_presets_and_by_priors_of_others_clips(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def shorter(per_emotion: int, videos: bool) -> Plan:
        plan = quick_plan(per_emotion, videos)
        return replace(plan, presets=plan.presets[:2], videos=plan.videos[:2])

    monkeypatch.setattr("dicetalk.cli.evaluate.quick_plan", shorter)
    shutil.copy(JUDGES, tmp_path)
    same, other = (tmp_path / name / "trained.safetensors" for name in ("same", "other"))
    for path in (same, other):
        path.parent.mkdir()
        shutil.copy(models / "dicetalk.safetensors", path)
    _shift(other, 1.0)
    options = ["--quick", "--against", str(same), "--against", str(other)]
    assert main(["evaluate", str(models), "--out", str(tmp_path), *options, *ON_CPU]) == 1
    assert str(other) in capsys.readouterr().out
    values = json.loads((tmp_path / "evaluation.json").read_text())
    assert len(values["clips"]) == 5, "presets, priors of clips, silence"
    mine, again, changed = values["ablations"]
    assert again == mine | {"model": str(same)}, "the same networks score the same"
    assert changed["model"] == str(other)
    assert changed["score"] != mine["score"] and changed["mouth"] != mine["mouth"]
    assert mine["score"] == pytest.approx((mine["neutral"] + mine["emotional"]) / 2), "as many clips of both"
    assert all((tmp_path / f"{name}.png").is_file() for name in ("emotions", "videos"))
    assert not (tmp_path / "change.png").exists()


@speaks
def test_a_full_evaluation_tells_of_priors_changes_and_clusters(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shorter(per_emotion: int, videos: bool) -> Plan:
        plan = full_plan(per_emotion, videos)
        return Plan(plan.presets[:2], videos=plan.videos[:2], changes=plan.changes[::2])

    monkeypatch.setattr("dicetalk.cli.evaluate.full_plan", shorter)
    monkeypatch.setattr("dicetalk.cli.evaluate.CLUSTERED_PEOPLE", 2)
    monkeypatch.setattr("dicetalk.cli.evaluate.CLUSTERED_TAKES", 2)
    shutil.copy(JUDGES, tmp_path)
    assert main(["evaluate", str(models), "--out", str(tmp_path), "--clips", "1", *ON_CPU]) == 1
    values = json.loads((tmp_path / "evaluation.json").read_text())
    measures = [row["measure"] for row in values["rows"]]
    for part in ("happy to sad, ", "happy to neutral to sad, ", "leak", "clustering", "person"):
        assert any(part in measure for measure in measures), part
    assert [len(change["asked"]) == len(change["shown"]) > 40 for change in values["changes"]] == [True, True]
    assert (tmp_path / "change.png").is_file()


@speaks
def test_a_model_that_reaches_every_bar_gives_exit_status_zero(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def perfect(model: object, settings: SamplerSettings, size: int, **rest: object) -> Callable[[Take, Sound], Shot]:
        return lambda take, sound: drawn_shot(take, sound, size)

    monkeypatch.setattr("dicetalk.cli.evaluate.Maker", perfect)
    monkeypatch.setattr("dicetalk.cli.evaluate.recommended", lambda model: (SamplerSettings(), 128))
    monkeypatch.setattr("dicetalk.drawn.evaluate.run.last_borders", lambda *_: [])  # what is drawn has no windows
    shutil.copy(JUDGES, tmp_path)
    assert main(["evaluate", str(models), "--out", str(tmp_path), "--quick", *ON_CPU]) == 0
    assert "MISSED" not in (tmp_path / "table.txt").read_text()


def test_demo_writes_eight_videos_and_a_picture(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("dicetalk.checkpoints.find.tiny_folder", lambda: models)
    assert main(["demo", "--out", str(tmp_path / "demo"), *ON_CPU]) == 0
    written = capsys.readouterr().out.split()
    assert sorted(Path(path).name for path in written) == sorted(p.name for p in (tmp_path / "demo").iterdir())
    assert [Path(path).stem for path in written] == [*PRESET_NAMES, "side-by-side"]
    _, speech = bundled()
    with av.open(written[0]) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert video.width == 64 and float(video.average_rate) == 25
        assert abs(sum(1 for _ in container.decode(video)) / 25 - speech.seconds) < 0.05
        assert abs(float(sound.duration * sound.time_base) - speech.seconds) < 0.05
    sheet = np.asarray(Image.open(written[-1]))
    assert sheet.shape[0] == pytest.approx(sheet.shape[1], rel=0.2), "three rows of three"


def test_the_bundled_portrait_and_speech_are_fit_for_use() -> None:
    picture, speech = bundled()
    (face,) = CenterFace().detect(picture)
    assert picture.shape == (256, 256, 3) and 100 < face.width < 160
    assert 2 < speech.seconds < 5 and speech.samples.std() > 0.02


def test_an_ablation_takes_its_networks_from_its_file_and_the_rest_from_the_model(models: Path, tmp_path: Path) -> None:
    model = load_model(models, dtype=torch.float32)
    for bank, kind in (("none", PriorTokens), ("retrieve", EmotionModel)):
        path = tmp_path / f"{bank}.safetensors"
        shutil.copy(models / "dicetalk.safetensors", path)
        _shift(path, 1.0, bank)
        other = load_ablation(path, model, models)
        assert type(other.emotion_model) is kind
        assert other.embedder is model.embedder
        difference = other.unet.conv_in.weight - model.unet.conv_in.weight
        assert torch.allclose(difference, torch.ones(()), atol=1e-2)
    folder = shutil.copytree(models, tmp_path / "whole")
    assert load_ablation(folder, model, models).embedder is not model.embedder, "a whole folder brings its own"


def _shift(path: Path, by: float, bank: str = "retrieve") -> None:
    """Add a number to a weight of the UNet in a converted file."""
    weights = load_file(path)
    name = next(name for name in weights if name.endswith("conv_in.weight"))
    weights[name] = weights[name] + by
    save_file(weights, path, packed_metadata(CONFIG, "a test", bank))


def test_a_model_says_between_which_noise_levels_it_works(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(models, dtype=torch.float32)
    picture, speech = bundled()
    portrait = prepare_portrait(picture, short_side=64, clip_size=model.config.image_encoder.image_size)
    seen: list[torch.Tensor] = []

    def sample(network: object, x: torch.Tensor, sigmas: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(sigmas)
        return x

    monkeypatch.setattr("dicetalk.pipeline.sample_clip", sample)
    track = EmotionTrack.constant(model.priors["happy"])
    narrow = replace(model.config, sampling=replace(model.config.sampling, sigma_min=0.05, sigma_max=20.0))
    for config in (model.config, narrow):
        generate_latents(replace(model, config=config), portrait, speech, track, SamplerSettings(steps=4))
    assert [(round(s[0].item(), 3), round(s[-2].item(), 3), s[-1].item()) for s in seen] == [
        (700, 0.002, 0),
        (20, 0.05, 0),
    ]
    for low, high in ((0.0, 1.0), (2.0, 1.0), (1.0, float("inf"))):
        with pytest.raises(CheckpointError, match="no range"):
            SamplingConfig(sigma_min=low, sigma_max=high)
    older = asdict(model.config)
    del older["sampling"]["sigma_min"], older["sampling"]["sigma_max"]
    assert ModelConfig.from_dict(older) == model.config


@speaks
def test_priors_of_videos_are_generated_with(models: Path) -> None:
    model = load_model(models, dtype=torch.float32)
    make = Maker(model, SamplerSettings(steps=1, window=8), 64)
    take = Take(unseen_people()[0], ("happy",), 1.0, ("Wait until the music stops.",), seed=3)
    by_other = replace(take, source=unseen_people()[1])
    prior = make.prior_of(by_other)
    assert not torch.equal(prior.mu, model.priors["happy"].mu) and (prior.sigma > 0).any()
    sound = spoken(take)
    shots = [make(each, sound) for each in (take, by_other)]
    assert shots[0].frames.shape == shots[1].frames.shape == (len(shots[0].mouth), 64, 64, 3)
    assert shots[0].frames.dtype == np.uint8 and shots[0].weights.shape == (len(shots[0].mouth), 8)


def test_a_change_is_made_of_keyframes_by_way_of_neutral(models: Path) -> None:
    model = load_model(models, dtype=torch.float32)
    take = next(take for take in full_plan(1, videos=False).changes if "neutral" in take.emotions)
    speech = load_speech((np.zeros(4 * SAMPLE_RATE, np.float32), SAMPLE_RATE), hooks=Hooks(notice=lambda _: None))
    track = Maker(model, SamplerSettings(), 64).track(take, speech)
    shown = track.at([0.0, *change_moments(take, speech.frames / FPS), 4.0]).mu
    for row, name in zip(shown, ("happy", "happy", "neutral", "sad", "sad"), strict=True):
        torch.testing.assert_close(row, model.priors[name].mu)


@speaks
def test_clustering_is_measured_by_modality(models: Path) -> None:
    model = load_model(models, dtype=torch.float32)
    clips = embed_people(model, unseen_people()[:1], 2)
    assert clips.takes.tolist() == [0, 1] * 8 and set(clips.identities.tolist()) == set(unseen_people()[:1])
    assert person_identified(clips) == (1.0, 1.0), "nobody else there"
    strengths = clustering(clips)
    assert list(strengths) == ["audio", "video", "video and audio"] and min(strengths.values()) > 0
    rows = clustering_rows({"audio": 1.0, "video": 2.0, "video and audio": 1.5})
    assert [row.passed for row in rows] == [None, True, False]


def test_a_prior_shows_whose_it_is_unless_a_sample_hides_it() -> None:
    emotions, people, takes = (
        label.flatten() for label in torch.meshgrid(*map(torch.arange, (3, 4, 2)), indexing="ij")
    )
    generator = torch.Generator().manual_seed(0)
    person = torch.randn(4, 16, generator=generator)[people]
    mu = 9 * torch.randn(3, 16, generator=generator)[emotions] + person + 0.1 * torch.randn(24, 16, generator=generator)
    accuracy = {
        spread: person_identified(
            Embedded({"video and audio": PriorDistribution(mu, torch.full_like(mu, spread))}, emotions, people, takes)
        )
        for spread in (0.0, 9.0)
    }
    assert accuracy[0.0] == (1.0, 1.0)
    assert accuracy[9.0][0] == 1.0 and accuracy[9.0][1] < 0.6
    assert [row.generated for row in person_rows(accuracy[9.0])] == list(accuracy[9.0])
