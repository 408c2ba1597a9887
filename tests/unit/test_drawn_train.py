"""The small model's own trainings: what they draw, what they minimise, and all of them one after another."""

import contextlib
import csv
import itertools
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_films import listen
from training_runs import ONCE, reset_accelerate
from transformers import WhisperConfig

from dicetalk.audio.speech import Speech
from dicetalk.checkpoints import networks
from dicetalk.checkpoints.load import load_model
from dicetalk.config import TINY
from dicetalk.drawn.train.config import TinyTraining
from dicetalk.drawn.train.hearing import HearingObjective, HearingTask, VoiceBatches
from dicetalk.drawn.train.pictures import FaceBatches, draw_pool, draw_strip
from dicetalk.drawn.train.run import stages, train_tiny, whisper_sizes
from dicetalk.drawn.train.seeing import PEOPLE, PeopleBatches, SeeingObjective, SeeingTask
from dicetalk.drawn.train.vae import (
    AXIS_WEIGHTS,
    COARSE,
    GAINS,
    OPPONENT,
    QUARTERS,
    QUIET_LOGVAR,
    VAEObjective,
    VAETask,
    begin_evenly,
    coarse_code,
    decode_pictures,
    detail_weights,
    normalise,
    picture_loss,
    silence_time,
)
from dicetalk.drawn.voices import speak
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.emotion.track import EmotionTrack
from dicetalk.errors import SettingError, SpeechError
from dicetalk.hooks import Hooks
from dicetalk.layers import regroup
from dicetalk.pipeline import generate_latents, render
from dicetalk.portrait.prepare import prepare_portrait
from dicetalk.settings import SamplerSettings
from dicetalk.train.clip_record import DatasetError
from dicetalk.train.config import Ablations
from dicetalk.train.initial import seeded
from dicetalk.train.losses import UNLABELLED
from dicetalk.train.shards import list_clips
from dicetalk.video import collect


class Killed(BaseException):
    """Nothing in the library catches this."""


needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


@pytest.fixture(scope="module")
def vae() -> torch.nn.Module:
    return seeded(lambda: networks.vae(TINY.vae, "cpu"), 0)


def seeded_noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_single_pictures_are_decoded_as_by_the_whole_decoder_while_its_temporal_layers_do_nothing() -> None:
    vae = seeded(lambda: networks.vae(TINY.vae, "cpu"), 0)
    latents = seeded_noise(3, TINY.vae.latent_channels, 4, 4)
    whole = vae.decode(latents, num_frames=3).sample
    assert not torch.allclose(decode_pictures(vae.decoder, latents), whole, atol=1e-3)
    silence_time(vae.decoder)
    assert torch.allclose(decode_pictures(vae.decoder, latents), vae.decode(latents, num_frames=3).sample, atol=1e-5)


@torch.no_grad()
def test_normalised_latents_have_unit_deviation_and_decode_to_the_same_pictures(vae: torch.nn.Module) -> None:
    vae = seeded(lambda: networks.vae(TINY.vae, "cpu"), 0)
    pictures = seeded_noise(4, 3, 32, 32)
    before = vae.encode(pictures).latent_dist
    decoded = vae.decode(before.mode(), num_frames=4).sample
    normalise(vae, before.mode())
    after = vae.encode(pictures).latent_dist
    assert after.mode().std().item() == pytest.approx(1, abs=1e-4)
    assert torch.allclose(after.std / before.std, 1 / before.mode().std(), rtol=1e-4)
    assert torch.allclose(vae.decode(after.mode(), num_frames=4).sample, decoded, atol=1e-4)


def test_eyes_and_mouth_count_more_than_the_rest_and_the_mean_is_one() -> None:
    landmarks = torch.tensor([[[20.0, 20], [44, 20], [32, 32], [24, 46], [40, 46]]])
    weights = detail_weights(landmarks, torch.tensor([[10.0, 5, 44, 54]]), (64, 64))
    assert weights.shape == (1, 1, 64, 64) and weights.mean().item() == pytest.approx(1)
    at_mouth, at_eye, corner = weights[0, 0, 46, 32], weights[0, 0, 20, 20], weights[0, 0, 0, 0]
    assert at_mouth > 4 * corner and at_eye > 4 * corner


def test_a_wrong_hue_costs_more_than_a_wrong_brightness() -> None:
    truth, even = torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8)
    for axis, weight in zip(OPPONENT, AXIS_WEIGHTS, strict=True):
        wrong = truth + 0.2 * axis[:, None, None]
        assert picture_loss(wrong, truth, even).item() == pytest.approx(0.2 * weight / 3)
    assert list(AXIS_WEIGHTS) == sorted(AXIS_WEIGHTS)


def test_the_coarse_code_tells_colours_and_where_brightness_changes() -> None:
    assert torch.allclose(OPPONENT @ OPPONENT.T, torch.eye(3), atol=1e-6)
    picture = torch.zeros(1, 3, 16, 24)
    even = coarse_code(picture)
    assert even.shape == (1, COARSE, 2, 3) and not even[:, 3:].any()
    picture[:, 1, :8, :8] = 1  # greener
    picture[..., 8:, 12:16] += 1  # brighter in the right half of one place
    picture[..., 12:, 16:] += 1  # and in the lower half of another
    code = coarse_code(picture) - even
    assert code[0, 2, 0, 0] < -5 and code[0, 2, 1].abs().max() < 1e-4
    assert code[0, 3, 1].tolist() == pytest.approx([0, code[0, 0, 1, 1].item() * QUARTERS, 0], abs=1e-4)
    assert code[0, 4, 1].tolist() == pytest.approx([0, 0, code[0, 0, 1, 2].item() * QUARTERS], abs=1e-4)
    drawn = [draw_strip("train", 1, np.random.default_rng(n))[0].pixels for n in range(24)]
    code = coarse_code(torch.from_numpy(np.stack(drawn)).movedim(-1, 1) / 127.5 - 1)
    assert code.std(dim=(0, 2, 3)).tolist() == pytest.approx([0.7] * COARSE, abs=0.5)
    assert code.mean(dim=(0, 2, 3)).abs().max() < 0.7


def test_the_vae_begins_with_all_colours_and_little_noise() -> None:
    vae = seeded(lambda: networks.vae(TINY.vae, "cpu"), 0)
    begin_evenly(vae)
    posterior = vae.encode(seeded_noise(2, 3, 32, 32)).latent_dist
    assert posterior.logvar.unique().tolist() == [QUIET_LOGVAR]
    entry = torch.einsum("oihw,ci->cohw", vae.encoder.conv_in.weight, OPPONENT).flatten(1).norm(dim=1)
    assert (entry / entry[0]).tolist() == pytest.approx([gain / GAINS[0] for gain in GAINS], rel=1e-3)


def test_parts_of_faces_move_their_landmarks_with_them() -> None:
    batches = FaceBatches("train", 4, 64, 3, 5)
    batch = batches(np.random.default_rng(3), 0)
    again = batches(np.random.default_rng(3), 0)
    assert batch["frames"].shape == (4, 1, 64, 64, 3) and torch.equal(batch["frames"], again["frames"])
    assert batches(np.random.default_rng(3), 4)["frames"].shape == (1, 3, 128, 128, 3)
    pooled = FaceBatches("train", 12, 64, 3, 5, pool=2)(np.random.default_rng(3), 0)
    pictures = [frame.pixels for frame in draw_pool("train", 2, 128)]
    for part, landmarks in zip(pooled["frames"][:, 0].numpy(), pooled["landmarks"][:, 0].numpy(), strict=True):
        shift = [(whole.landmarks - landmarks).round().astype(int)[0] for whole in draw_pool("train", 2, 128)]
        found = [np.array_equal(p[y : y + 64, x : x + 64], part) for p, (x, y) in zip(pictures, shift, strict=True)]
        assert sum(found) == 1


def test_a_strip_shows_one_person_in_one_scene() -> None:
    frames = [frame.pixels.astype(int) for frame in draw_strip("train", 4, np.random.default_rng(5))]
    others = draw_strip("train", 1, np.random.default_rng(6))[0].pixels.astype(int)
    corners = [np.abs(frame[:20, :20] - frames[0][:20, :20]).mean() for frame in frames]
    assert max(corners) < 3 < np.abs(others[:20, :20] - frames[0][:20, :20]).mean()
    assert any(np.abs(frame - frames[0]).max() > 30 for frame in frames[1:])


def test_every_person_of_a_batch_is_seen_twice_and_differently() -> None:
    batch = PeopleBatches("train", 56)(np.random.default_rng(0), 0)
    assert batch["pixels"].shape == (2 * PEOPLE, 3, 56, 56)
    assert batch["people"].bincount().tolist() == [2] * PEOPLE
    assert (batch["pixels"][0] - batch["pixels"][1]).abs().mean() > 0.05


@needs_espeak
def test_what_is_heard_is_labelled_where_it_is_heard() -> None:
    batch = VoiceBatches("train", 1)(np.random.default_rng(0), 0)
    assert batch["mel"].shape == (1, 80, 3000) and batch["curves"].shape == (1, 1500, 2)
    inside = torch.zeros(1500, dtype=torch.bool)
    spoken = list(zip(batch["steps"][0].tolist(), batch["emotions"][0].tolist(), strict=True))
    assert len([emotion for _, emotion in spoken if emotion != UNLABELLED]) >= 2
    for (begin, end), emotion in spoken:
        assert (emotion == UNLABELLED) == (begin == end)
        inside[begin:end] = True
    mouth = batch["curves"][0, :, 0]
    assert mouth[~inside].abs().max() == 0 and mouth[inside].mean() > 0.1
    # Loud mel frames lie where somebody speaks.
    level = batch["mel"][0].mean(dim=0).unflatten(0, (1500, 2)).mean(dim=1)
    assert level[inside].mean() > level[~inside].mean() + 0.2


@needs_espeak
@pytest.mark.parametrize("what", ["hearing", "seeing", "vae"])
def test_every_weight_that_shall_learn_gets_a_gradient(what: str, tmp_path: Path) -> None:
    if what == "hearing":
        task = HearingTask(HearingObjective(networks.whisper_encoder(whisper_sizes(), "cpu")), tmp_path)
    elif what == "seeing":
        task = SeeingTask(SeeingObjective(networks.image_encoder(TINY.image_encoder, "cpu")), tmp_path)
    else:
        task = VAETask(VAEObjective(networks.vae(TINY.vae, "cpu")), tmp_path)
    draw = task.batches["train"]
    generator = torch.Generator().manual_seed(0)
    # The VAE's temporal layers learn from strips, which every tenth batch is; its residuals are silent in the first.
    for number in (0, 9):
        task.module(**task.inputs(draw(np.random.default_rng(number), number), generator))["loss"].backward()
    lacking = {name for name, p in task.module.named_parameters() if p.requires_grad and p.grad is None}
    if what == "hearing":
        assert not task.module.encoder.embed_positions.weight.requires_grad
    # With one layer in a block diffusers' decoder has this attention but never calls it.
    assert {name for name in lacking if not name.startswith("vae.decoder.mid_block.attentions.0.")} == set()


def test_groups_are_changed_only_where_channels_divide() -> None:
    layer = torch.nn.Sequential(torch.nn.GroupNorm(32, 64))
    assert regroup(layer, 8)[0].num_groups == 8
    with pytest.raises(ValueError, match="64 channels"):
        regroup(layer, 7)


@needs_espeak
def test_all_stages_make_a_model_that_speaks_and_a_second_run_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of every copy on its way, and of the one file that another library writes.

    A run elsewhere, without a kill and whatever the global generator was at, makes the same weights.
    """
    other = replace(ONCE, precision="bf16")  # each stage may have a precision of its own
    config = TinyTraining(
        out=tmp_path, hearing=other, seeing=ONCE, vae=ONCE, embedder=ONCE, stills=other, diffusion=ONCE,
        reader_faces=256, reader_epochs=1, people=2, cast=1, stills_batch_size=2, batch_size=1,
    )  # fmt: skip
    notices: list[str] = []
    killed: list[tuple[str, bytes]] = []
    whole_copy, whole_json = shutil.copyfile, WhisperConfig.to_json_file

    def dying(write: Callable[..., object], source: object, target: Path, content: bytes) -> None:
        name = (str(source), content)
        if (isinstance(source, Path) and source.suffix == ".csv") or name in killed:  # as many as there are loops
            write(source, target)
        else:
            killed.append(name)
            Path(target).write_bytes(content[: len(content) // 2])
            raise Killed

    monkeypatch.setattr(shutil, "copyfile", lambda a, b: dying(whole_copy, a, b, Path(a).read_bytes()))
    monkeypatch.setattr(
        WhisperConfig, "to_json_file", lambda a, b: dying(whole_json, a, b, a.to_json_string().encode())
    )
    reset_accelerate()
    written = None
    while written is None:
        with contextlib.suppress(Killed):
            written = train_tiny(config, Hooks(notice=notices.append))
    assert [Path(name).name for name, _ in killed[1:]] == [
        "embedder.safetensors",
        "dicetalk-trained.safetensors",
        "dicetalk-trained.safetensors",
    ]
    names = [stage.name for stage in stages(config, Hooks())]
    began = [line.removeprefix("Stage: ") for line in notices if line.startswith("Stage: ")]
    assert [name for name, _ in itertools.groupby(began)] == names
    assert {name for name in names if began.count(name) == 2} == {"hearing", "embedder", "stills", "diffusion"}
    with (tmp_path / "stages.csv").open() as file:
        times = list(csv.DictReader(file))
    assert [row["stage"] for row in times] == began and all(int(row["seconds"]) >= 0 for row in times)
    assert [row["stage"] for row in times if row["done"] == "1"] == names
    notices.clear()
    assert train_tiny(config, Hooks(notice=notices.append)) == written and not notices
    monkeypatch.undo()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1234)
        elsewhere = train_tiny(replace(config, out=tmp_path / "elsewhere"), Hooks(notice=notices.append))
    notices.clear()
    for one, other in zip(written, elsewhere, strict=True):
        assert one.relative_to(tmp_path) == other.relative_to(tmp_path / "elsewhere")
        if one.suffix == ".safetensors":  # whose metadata may stand in any order
            weights, others = load_file(one), load_file(other)
            assert weights.keys() == others.keys()
            assert [name for name in weights if not torch.equal(weights[name], others[name])] == [], one
        else:
            assert one.read_bytes() == other.read_bytes(), one

    model = load_model(tmp_path / "model", dtype=torch.float32)
    assert model.config == TINY and model.embedder is not None and model.expression_reader is not None
    assert set(model.priors) == set(PRESET_NAMES)
    apart = torch.stack([model.priors[name].mu for name in PRESET_NAMES])
    assert torch.pdist(apart).min() > 0
    sound = 0.1 * seeded_noise(1, 16000).numpy()
    speech = Speech(samples=sound[0], sound=sound, sound_sample_rate=16000)
    picture = draw_strip("test", 1, np.random.default_rng(0))[0]
    portrait = prepare_portrait(picture.pixels, box=tuple(picture.box), short_side=128, clip_size=56)
    track = EmotionTrack.constant(model.priors["happy"])
    latents = generate_latents(model, portrait, speech, track, replace(SamplerSettings(), steps=1))
    clip = render(model, latents, hooks=Hooks(notice=notices.append))
    assert collect(clip.chunks, clip.frames).shape == (12, 3, 128, 128) and clip.fps == 12.5
    assert any("12.5" in line for line in notices)


@needs_espeak
def test_a_clip_that_cannot_be_drawn_stops_the_run_which_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TinyTraining(tmp_path, *[ONCE] * 6, people=2)
    (clips,) = (stage for stage in stages(config, Hooks()) if stage.name == "clips")
    monkeypatch.setattr("dicetalk.drawn.train.run.speech_encoder", lambda model: None)
    monkeypatch.setattr("dicetalk.drawn.train.run.speech_features", lambda samples, encoder: listen(samples))
    spoken, fail = [], [3]

    def sometimes(*words: object) -> tuple[np.ndarray, int]:
        spoken.append(words)
        if len(spoken) in fail:
            raise SpeechError("espeak-ng did not finish within 30 s.")
        return speak(*words)

    monkeypatch.setattr("dicetalk.drawn.clips.speak", sometimes)
    with pytest.raises(DatasetError, match=r"1 of 60 clips could not be drawn, .* because: espeak-ng did not finish"):
        clips.run()
    assert not clips.result.exists()
    clips.run()
    assert clips.result.exists() and len(spoken) == 61
    assert len(list_clips(tmp_path / "shards")) == 60


def test_what_came_of_another_result_is_no_part_of_the_model(tmp_path: Path) -> None:
    config = TinyTraining(tmp_path, *[ONCE] * 6)
    for stage in stages(config, Hooks()):
        if stage.name not in ("vae", "diffusion"):
            stage.result.parent.mkdir(parents=True, exist_ok=True)
            stage.result.touch()
    with pytest.raises(
        SettingError, match=r"'vae' is not done, and 'expression reader'.*stills\.done to have"
    ) as refused:
        train_tiny(config)
    assert "diffusion.done" not in str(refused.value) and "image_encoder" not in str(refused.value)


def test_all_stages_have_one_device(tmp_path: Path) -> None:
    config = TinyTraining(tmp_path, *[ONCE] * 6)
    with pytest.raises(SettingError, match=r"on one device, and `device` differs.*'vae': 'auto'"):
        train_tiny(replace(config, vae=replace(ONCE, device="auto")))


def test_settings_that_contradict_each_other_are_refused_before_the_first_stage(tmp_path: Path) -> None:
    notices: list[str] = []
    config = TinyTraining(tmp_path, *[ONCE] * 6, ablations=Ablations(bank="none"))
    with pytest.raises(SettingError, match="whole_bank_rate is"):
        train_tiny(config, Hooks(notice=notices.append))
    assert not notices and not any(tmp_path.iterdir())
