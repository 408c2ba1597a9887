"""Training the diffusion model: its batches, who learns from what, the ablations, the start, the export."""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.training_utils import EMAModel
from released_files import SMALL
from safetensors import safe_open
from torch import nn
from training_room import (
    CLIPS,
    EMBEDDER,
    FRAMES,
    LOOP,
    TINY,
    curve,
    diffusion_training,
    make_room,
    reset_accelerate,
    write_clips,
)

from dicetalk.checkpoints.load import load_model
from dicetalk.cli.train import train as train_command
from dicetalk.denoise.context import AdapterContext, AttentionContext
from dicetalk.denoise.guided import Conditioning, GuidedUNet
from dicetalk.denoise.schedule import scale_input
from dicetalk.denoise.tokens import FrameTokens, StoredRows
from dicetalk.emotion.embedder import PriorDistribution
from dicetalk.emotion.embedder_file import load_embedder
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.errors import CheckpointError, DiceTalkError, SettingError
from dicetalk.hooks import Hooks
from dicetalk.portrait.prepare import to_clip_pixels
from dicetalk.settings import SamplerSettings
from dicetalk.train.bank import BankCare
from dicetalk.train.config import Ablations, DiffusionTraining
from dicetalk.train.data import DiffusionBatches, NumberedBatches, emotion_class, emotion_levels
from dicetalk.train.diffusion import DiffusionTask, even_weights, start_networks, train_diffusion, usable_clips
from dicetalk.train.latents import LatentStore, encode_clips, encoder_fingerprint
from dicetalk.train.loop import Run, make_accelerator, train
from dicetalk.train.losses import UNLABELLED, add_noise
from dicetalk.train.objective import PriorTokens, emotion_tokens
from dicetalk.train.shards import DatasetError, list_clips, read_clip, splits
from dicetalk.train.start import (
    NOISY_PART,
    begin_with_portrait,
    dice_networks,
    frozen_networks,
    random_networks,
    svd_networks,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_room(tmp_path_factory.mktemp("room"))


@pytest.fixture(autouse=True)
def _accelerate() -> None:
    reset_accelerate()


@pytest.fixture(scope="module")
def frozen(room: Path) -> tuple[nn.Module, nn.Module]:
    return frozen_networks(TINY, room / "models")


@pytest.fixture(scope="module")
def store(room: Path, frozen: tuple[nn.Module, nn.Module]) -> LatentStore:
    store = LatentStore(room / "latents", encoder_fingerprint(frozen[0]))
    encode_clips(store, frozen[0], list_clips(room / "shards"), CPU)
    return store


@pytest.fixture
def make_task(room: Path, frozen: tuple[nn.Module, nn.Module], store: LatentStore) -> Callable[..., DiffusionTask]:
    def make(only: tuple[str, ...] = (), **changes: object) -> DiffusionTask:
        config = diffusion_training(room, room / "nowhere", **changes)
        records = [r for r in list_clips(room / "shards") if not only or r.id in only]
        networks = random_networks(config.model, 0)
        embedder = load_embedder(config.embedder)
        return DiffusionTask(config, networks, frozen[1], embedder, frozen[0].config.scaling_factor, store, records)

    return make


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inputs_of(task: DiffusionTask, number: int = 0) -> dict[str, torch.Tensor]:
    return task.inputs(NumberedBatches(task.batches["train"], (0,))[number], seeded(number))


def learners(task: DiffusionTask, inputs: dict[str, torch.Tensor], loss: str = "loss") -> set[str]:
    """Parameters with a gradient that is not zero."""
    task.module.zero_grad()
    task.module(**inputs)[loss].backward()
    return {name for name, p in task.module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


# Batches


def test_emotional_and_ordinary_clips_take_turns(make_task: Callable[..., DiffusionTask]) -> None:
    """Three of four emotional clips have their class for sure; Carl's emotion nobody has told."""
    task = make_task(batch_size=3)
    classes = torch.cat([NumberedBatches(task.batches["train"], (0,))[n]["classes"] for n in range(40)])
    emotional = classes > 0
    assert emotional[::2].all() and not emotional[1::2].any()
    levels = {"anna-happy-1": ("happy", 1.0), "anna-happy-2": ("happy", 1.0), "bert-sad": ("sad", 0.6)}
    expected = {emotion_class(*kind, 3) for kind in levels.values()} | {emotion_class("angry", 1.0, 3)}
    assert set(classes[emotional].tolist()) == expected
    assert set(classes[~emotional].tolist()) == {0, UNLABELLED}


def test_strong_emotions_may_be_learned_alone(make_task: Callable[..., DiffusionTask]) -> None:
    """Of the clips for training two people are happy and angry at full intensity; another is sad at 0.6."""
    strong, strong_or_ordinary = make_task(emotional_only=True, weakest=0.9), make_task(weakest=0.9)
    found = [
        {int(c) for n in range(30) for c in NumberedBatches(task.batches["train"], (0,))[n]["classes"]}
        for task in (strong, strong_or_ordinary)
    ]
    full = {emotion_class("happy", 1.0, 3), emotion_class("angry", 1.0, 3)}
    assert found == [full, full | {0, UNLABELLED}]
    for changes in ({"emotional_only": True}, {"weakest": 0.9}):
        with pytest.raises(SettingError, match="no clip for training"):
            make_task(only=("anna-neutral", "bert-neutral"), **changes)


def test_classes_are_emotions_at_levels() -> None:
    assert (emotion_levels(22), emotion_levels(8)) == (3, 1)
    for classes in (1, 7, 20):
        with pytest.raises(SettingError, match=f"{classes} classes"):
            emotion_levels(classes)
    every = [emotion_class(name, level / 3, 3) for name in PRESET_NAMES[1:] for level in (1, 2, 3)]
    assert every == list(range(1, 22))
    assert [emotion_class("happy", intensity, 3) for intensity in (0.0, 0.3, 0.6, 1.0)] == [1, 1, 2, 3]
    assert emotion_class("neutral", None, 3) == 0
    assert emotion_class("sad", None, 3) == emotion_class(None, 1.0, 3) == UNLABELLED
    assert [emotion_class(name, None, 1) for name in PRESET_NAMES] == list(range(8))


def test_a_batch_is_a_part_of_its_clip(room: Path, store: LatentStore, frozen: tuple[nn.Module, nn.Module]) -> None:
    record = next(r for r in list_clips(room / "shards") if r.id == "bert-sad")
    draw = DiffusionBatches([record], store, 1, 3, 6, 6, 28, 22)
    batch = NumberedBatches(draw, (0,))[0]
    whole = read_clip(record)
    images = whole["frames"].permute(0, 3, 1, 2).float() / 255 * 2 - 1
    with torch.no_grad():
        latents = torch.cat([frozen[0].encode(image[None]).latent_dist.mode() for image in images])
    starts = [i for i in range(FRAMES - 2) if torch.allclose(latents[i : i + 3], batch["latents"][0], atol=1e-2)]
    assert len(starts) == 1
    assert sum(torch.allclose(frame, batch["image_latents"][0], atol=1e-2) for frame in latents) == 1
    for place in range(3):
        first = 4 * (starts[0] + place)
        assert torch.equal(batch["windows"][0, place], whole["whisper"][first : first + 10].float())
    assert batch["mask"].shape == (1, 1, 32, 32)
    assert batch["mask"][0, 0, 10, 16] == 1 and batch["mask"][0, 0, 10, 2] == 0
    assert batch["clip_pixels"].shape == (1, 3, 28, 28)
    assert batch["visual_lengths"].tolist() == [6]


def test_the_portrait_of_a_clip_that_has_one_is_what_the_network_sees(
    room: Path, store: LatentStore, frozen: tuple[nn.Module, nn.Module]
) -> None:
    record = next(r for r in list_clips(room / "shards") if r.id == "bert-angry")
    clip = read_clip(record)
    image = clip["portrait"][None].permute(0, 3, 1, 2).float() / 255 * 2 - 1
    with torch.no_grad():
        latents = frozen[0].encode(image).latent_dist.mode()
    draw = DiffusionBatches([record], store, 1, 3, 6, 6, 28, 22)
    for number in range(3):
        batch = NumberedBatches(draw, (0,))[number]
        torch.testing.assert_close(batch["image_latents"], latents, atol=1e-2, rtol=0)
        assert torch.equal(batch["clip_pixels"][0], to_clip_pixels(clip["portrait"].numpy(), 28))
    assert not any(torch.equal(clip["portrait"], frame) for frame in clip["frames"])


def test_latents_without_the_portrait_are_made_again(
    room: Path, frozen: tuple[nn.Module, nn.Module], tmp_path: Path
) -> None:
    record = next(r for r in list_clips(room / "shards") if r.id == "bert-angry")
    store = LatentStore(tmp_path, encoder_fingerprint(frozen[0]))
    before = replace(record, shapes={name: shape for name, shape in record.shapes.items() if name != "portrait"})
    encode_clips(store, frozen[0], [before], CPU)
    assert store.holds(before) and not store.holds(record)
    with pytest.raises(DatasetError, match="portrait"):
        store.read_portrait(record)
    encode_clips(store, frozen[0], [record], CPU)
    assert store.holds(record) and store.read_portrait(record).shape == (4, 4, 4)


def test_places_count_as_the_config_says(make_task: Callable[..., DiffusionTask]) -> None:
    plain, weighed = (make_task(("bert-sad",), mouth_weight=weight) for weight in (1.0, 1e6))
    inputs = inputs_of(plain), inputs_of(weighed)
    assert torch.equal(inputs[0]["weights"], torch.ones(2, 1, 1, 4, 4))
    # The box is 8 to 24 across and 6 to 26 down, so that the lower middle of 32 pixels has the mouth.
    at_mouth = inputs[1]["weights"][0, 0, 0] > 1
    assert at_mouth.nonzero().tolist() == [[2, 1], [2, 2]]
    even, uneven = (plain.module(**given)["denoising"] for given in inputs)
    assert not torch.allclose(even, uneven)


def test_channels_count_against_their_deviation(make_task: Callable[..., DiffusionTask], store: LatentStore) -> None:
    task = make_task(even_channels=True)
    records = list_clips(task.config.data)
    deviations = torch.cat([store.read(record, 0, 1) for record in records]).std(dim=(0, 2, 3))
    weights = even_weights(store, records)
    assert weights.shape == (1, 1, 4, 1, 1) and weights.mean().item() == pytest.approx(1)
    torch.testing.assert_close(weights.flatten() * deviations, (1 / (1 / deviations).mean()).expand(4))
    torch.testing.assert_close(inputs_of(task)["weights"], inputs_of(make_task())["weights"] * weights)


def test_the_emotion_model_may_learn_slower(
    make_task: Callable[..., DiffusionTask], room: Path, tmp_path: Path
) -> None:
    moved = {}
    for rate in (1.0, 1e-6):
        task = make_task(emotion_rate=rate, steps=1, warmup_steps=0)
        before = {name: p.detach().clone() for name, p in task.module.named_parameters()}
        train(task, replace(task.config.loop, ema_decay=0), tmp_path / str(rate), make_accelerator(task.config.loop))
        for part in ("emotion_model.emo_linear", "unet.conv_out"):
            changes = [(p - before[n]).abs().max() for n, p in task.module.named_parameters() if n.startswith(part)]
            moved[rate, part] = max(changes).item()
    assert moved[1.0, "unet.conv_out"] == pytest.approx(moved[1e-6, "unet.conv_out"], rel=0.1)
    assert moved[1e-6, "emotion_model.emo_linear"] < 1e-5 < 1e-4 < moved[1.0, "emotion_model.emo_linear"]


@torch.no_grad()
def test_an_untrained_network_predicts_the_portrait(room: Path, tmp_path: Path) -> None:
    networks, sizes = start_networks(diffusion_training(room, tmp_path))
    noisy, portrait = torch.randn(2, 1, 3, 4, 16, 16, generator=seeded())
    portrait = portrait[:, :1].expand_as(portrait)
    clip, tokens = torch.zeros(1, 1, 16), torch.randn(1, 2, 16, generator=seeded(1))
    zeros = torch.zeros(1, 3, dtype=torch.long)
    adapters = tuple(AdapterContext(networks.unet.project_adapter(i, tokens), zeros) for i in range(2))
    context = AttentionContext(networks.unet.project_clip(clip), zeros, adapters)
    mask = torch.ones(1, 3, 128, 128)
    v, _ = networks.unet(
        torch.cat([noisy, portrait], dim=2), torch.zeros(1), torch.zeros(1, 3), context, networks.pose_guider(mask)
    )
    # Not exactly: the last norm divides by what the deviation is, not by what it is of unit variances.
    assert (v - (NOISY_PART * noisy - portrait)).square().mean() < 0.02 * v.square().mean()

    wide = replace(sizes, unet=replace(sizes.unet, in_channels=40, out_channels=20))
    with pytest.raises(SettingError, match="40 channels or more"):
        begin_with_portrait(random_networks(wide, 0))


def test_latents_are_made_once_and_again_for_another_vae(
    room: Path, frozen: tuple[nn.Module, nn.Module], tmp_path: Path
) -> None:
    records = list_clips(room / "shards")[:2]
    store = LatentStore(tmp_path / "latents", encoder_fingerprint(frozen[0]))
    encode_clips(store, frozen[0], records, CPU)
    before = {r.id: store.path(r).read_bytes() for r in records}
    store.path(records[1]).write_bytes(before[records[1].id][:-1])  # cut off: made again
    kept = store.path(records[0]).stat().st_mtime_ns
    encode_clips(store, frozen[0], records, CPU)
    assert {r.id: store.path(r).read_bytes() for r in records} == before
    assert store.path(records[0]).stat().st_mtime_ns == kept
    other = frozen_networks(TINY, room / "models")[0]
    with torch.no_grad():
        other.quant_conv.bias.add_(1)
    other_store = replace(store, vae=encoder_fingerprint(other))
    assert not other_store.holds(records[0])
    encode_clips(other_store, other, records, CPU)
    change = other_store.read(records[0], 0, 2) - LatentStore(room / "latents", store.vae).read(records[0], 0, 2)
    torch.testing.assert_close(change, torch.ones_like(change), atol=1e-2, rtol=0)


def test_damaged_clips_are_left_out(room: Path, tmp_path: Path) -> None:
    write_clips(tmp_path / "shards", clips_per_shard=4)
    notices = []
    shard = sorted((tmp_path / "shards").glob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:-10])
    config = replace(diffusion_training(room, tmp_path / "out", steps=2), data=tmp_path / "shards", latents=None)
    train_diffusion(config, Hooks(notice=notices.append))
    assert str(shard) in notices[0]
    assert len(list((tmp_path / "out" / "latents").iterdir())) == len(CLIPS) - 4


# Who learns from what


def test_only_what_can_learn_has_a_gradient(make_task: Callable[..., DiffusionTask]) -> None:
    task = make_task(drop_rate=0.0)
    found = learners(task, inputs_of(task))
    for name, parameter in task.module.named_parameters():
        idle = name.endswith("attn2.to_k.weight")
        assert parameter.requires_grad != idle, name
        assert (name in found) != idle, name
    assert sum(name.endswith("attn2.to_k.weight") for name, _ in task.module.named_parameters()) > 2
    for network in (task.image_encoder, task.embedder):
        assert all(not p.requires_grad and p.grad is None for p in network.parameters())


def test_the_bank_learns_from_eq_17_alone(make_task: Callable[..., DiffusionTask]) -> None:
    task = make_task()
    codebook = "emotion_model.codebook.codebook.weight"
    inputs = inputs_of(task) | {"dropped": torch.tensor([[False, False, True], [False, False, False]])}
    assert codebook not in learners(task, inputs, "denoising")
    assert learners(task, inputs, "vq") == {
        codebook,
        "emotion_model.codebook.fc.weight",
        "emotion_model.codebook.fc.bias",
    }
    used = task.module(**inputs)["bank_indices"]
    rows = dict(task.module.named_parameters())[codebook].grad.abs().sum(dim=1) > 0
    assert set(rows.nonzero().flatten().tolist()) == set(used.tolist())


def test_the_classifier_and_the_unet_below_it_learn_from_eq_16(make_task: Callable[..., DiffusionTask]) -> None:
    task = make_task(drop_rate=0.0)
    inputs = inputs_of(task) | {"classes": torch.tensor([3, 0])}
    found = learners(task, inputs, "classification")
    assert "emotion_model.classifier.fc1.weight" in found and "unet.conv_in.weight" in found
    assert not any(name.startswith(("unet.up_blocks", "unet.conv_out")) for name in found)
    without = inputs | {"classes": torch.tensor([UNLABELLED, UNLABELLED])}
    assert learners(task, without, "classification") == set()
    dropped = inputs | {"dropped": torch.tensor([[False, False, True]] * 2)}
    assert learners(task, dropped, "classification") == set()


def test_training_adapters_leaves_svd_s_layers_alone(make_task: Callable[..., DiffusionTask]) -> None:
    task = make_task(trained="adapters", drop_rate=0.0)
    found = learners(task, inputs_of(task))
    of_unet = {name for name, p in task.module.named_parameters() if name.startswith("unet.") and p.requires_grad}
    assert of_unet and all(".attn2.processor.to_" in name for name in of_unet)
    assert of_unet <= found and "pose_guider.conv_in.weight" in found


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_dropped_condition_changes_nothing(make_task: Callable[..., DiffusionTask], place: int) -> None:
    """Dropped: whatever the condition is, v is the same. Kept: it is not."""
    task = make_task()
    inputs = inputs_of(task)
    changes = ({"windows"}, {"clip_token", "image_latents"}, {"priors"})[place]
    changed = inputs | {name: inputs[name] + 1 for name in changes}
    for dropped in (False, True):
        none = torch.zeros(2, 3, dtype=torch.bool)
        none[:, place] = dropped
        with torch.no_grad():
            one, other = (task.module(**(x | {"dropped": none}))["denoising"] for x in (inputs, changed))
        assert torch.equal(one, other) == dropped


def test_inputs_are_the_generator_s_alone(make_task: Callable[..., DiffusionTask]) -> None:
    task = make_task()
    batch = NumberedBatches(task.batches["train"], (0,))[0]
    state = torch.get_rng_state()
    one, same, other = (task.inputs(batch, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert all(not torch.equal(one[name], other[name]) for name in ("noise", "sigma", "priors"))


def test_the_config_s_numbers_arrive(make_task: Callable[..., DiffusionTask]) -> None:
    task = make_task(drop_rate=0.25, sigma_mean=2.0, sigma_std=1e-6, motion_bucket=3.0, expression_bucket=4.0)
    inputs = inputs_of(task)
    assert inputs["dropped"].any(dim=1).all()
    torch.testing.assert_close(inputs["sigma"].log(), torch.full((2,), 2.0), rtol=0, atol=1e-4)
    assert task.module.added_ids.tolist() == [12.5, 3.0, 4.0]
    assert not any(inputs_of(make_task(drop_rate=0.0), n)["dropped"].any() for n in range(20))
    assert inputs["latents"].shape == (2, 3, 4, 4, 4) and inputs["windows"].shape == (2, 3, 10, 2, 4)


@torch.no_grad()
def test_a_prior_may_attend_to_the_whole_bank_as_in_inference(make_task: Callable[..., DiffusionTask]) -> None:
    model = make_task().module.emotion_model
    priors = torch.randn(3, 256, generator=torch.Generator().manual_seed(0))
    nearest_alone, found = emotion_tokens(model, priors, "retrieve")
    mixed, found_again = emotion_tokens(model, priors, "retrieve", torch.tensor([True, False, True]))
    expected = model.tokens(torch.cat([torch.zeros(1, 256), priors]))
    torch.testing.assert_close(mixed[[0, 1, 3]], expected[[0, 1, 3]])
    torch.testing.assert_close(mixed[2], nearest_alone[2])
    assert not torch.allclose(mixed[1], nearest_alone[1], atol=1e-4)
    assert torch.equal(found.indices, found_again.indices)


def test_half_of_the_clips_attend_to_the_whole_bank_if_the_config_says_so(
    make_task: Callable[..., DiffusionTask],
) -> None:
    drawn = torch.cat([inputs_of(make_task(whole_bank_rate=0.5), n)["whole_bank"] for n in range(30)])
    assert 0.25 < drawn.float().mean() < 0.75
    assert "whole_bank" not in inputs_of(make_task())


def test_the_network_sees_in_training_what_it_sees_in_inference(make_task: Callable[..., DiffusionTask]) -> None:
    """One clip of a batch, through training's call of the UNet and through the sampler's; here with the whole bank,
    which is where training and inference mean the same."""
    task = make_task(ablations=Ablations(bank="learnable"), drop_rate=0.0)
    inputs = inputs_of(task)
    inputs["mask"][0] = 0  # the other clip's face is elsewhere
    seen = []
    task.module.unet.register_forward_hook(lambda _m, _a, output: seen.append(output[0]))
    with torch.no_grad():
        task.module(**inputs)
        module, which = task.module, 1
        priors = torch.cat([torch.zeros(1, 256), inputs["priors"][which : which + 1]])
        windows = torch.cat([torch.zeros_like(inputs["windows"][which, :1]), inputs["windows"][which]])
        frames = torch.arange(3)
        mask = inputs["mask"][which : which + 1]
        conditioning = Conditioning(
            clip_token=inputs["clip_token"][which : which + 1],
            image_latents=inputs["image_latents"][which],
            start_latents=inputs["image_latents"][which],
            audio=FrameTokens(StoredRows(module.audio_projection(windows)), 1 + frames, 0 * frames),
            emotion=FrameTokens(StoredRows(module.emotion_model.tokens(priors)), 1 + 0 * frames, 0 * frames),
            mask=mask,
            pose=module.pose_guider(mask.expand(-1, 3, -1, -1)),
        )
        settings = SamplerSettings(portrait_guidance=1.0, expression_guidance=1.0)
        guided = GuidedUNet(module.unet, conditioning, settings, CPU, torch.float32)
        sigma = inputs["sigma"][which]
        noisy = add_noise(inputs["latents"][which : which + 1], inputs["noise"][which : which + 1], sigma[None])
        v = guided(scale_input(noisy[0], sigma), sigma, [0, 1, 2], 0)
    torch.testing.assert_close(seen[0][which], v, rtol=1e-4, atol=1e-5)


# Ablations


def test_the_prior_is_sampled_or_its_mean(make_task: Callable[..., DiffusionTask]) -> None:
    sampled, mean = make_task(), make_task(ablations=Ablations(sampled_prior=False))
    batch = NumberedBatches(sampled.batches["train"], (0,))[0]
    with torch.no_grad():
        prior: PriorDistribution = sampled.embedder(
            batch["visual"], batch["audio"], batch["visual_lengths"], batch["audio_lengths"]
        )
    assert torch.equal(mean.inputs(batch, seeded(1))["priors"], prior.mu)
    drawn = torch.stack([sampled.inputs(batch, seeded(seed))["priors"] for seed in range(200)])
    torch.testing.assert_close(drawn.std(dim=0), prior.sigma, rtol=0.3, atol=0)
    torch.testing.assert_close(drawn.mean(dim=0), prior.mu, rtol=0, atol=0.3 * prior.sigma.max().item())


def test_the_bank_s_three_ways_make_three_kinds_of_tokens(make_task: Callable[..., DiffusionTask]) -> None:
    model = make_task().module.emotion_model
    priors = torch.randn(3, 256, generator=seeded())
    everything = torch.cat([torch.zeros(1, 256), priors])
    with torch.no_grad():
        retrieved, nearest = emotion_tokens(model, priors, "retrieve")
        learnable, plain = (emotion_tokens(model, priors, bank) for bank in ("learnable", "none"))
        whole = model.tokens(everything)
        torch.testing.assert_close(retrieved[0], whole[0])
        torch.testing.assert_close(retrieved[1:], model.retrieved_tokens(priors)[0])
        torch.testing.assert_close(learnable[0], whole)
        assert torch.equal(plain[0], model.emo_linear(everything))
        assert torch.equal(PriorTokens(model).tokens(everything), plain[0])
    assert nearest is not None and learnable[1] is None and plain[1] is None
    for one, other in ((retrieved, learnable[0]), (retrieved, plain[0]), (learnable[0], plain[0])):
        assert (one[1:] - other[1:]).abs().mean() > 0.01


def test_what_an_ablation_switches_off_neither_counts_nor_learns(make_task: Callable[..., DiffusionTask]) -> None:
    model = "emotion_model."
    expected = {
        Ablations(bank="none"): {"codebook.codebook", "codebook.fc", "kv_tokens_linear", "attention"},
        Ablations(bank="learnable"): {"codebook.fc"},
        Ablations(classifier=False): {"classifier"},
    }
    for ablations, idle in expected.items():
        task = make_task(ablations=ablations, drop_rate=0.0)
        inputs = inputs_of(task) | {"classes": torch.tensor([3, 0])}
        output = task.module(**inputs)
        found = learners(task, inputs)
        for name, parameter in task.module.named_parameters():
            if name.startswith(model):
                off = any(name.startswith(f"{model}{part}") for part in idle)
                assert parameter.requires_grad != off and (name in found) != off, (ablations, name)
        assert (output["vq"] == 0) == (ablations.bank != "retrieve")
        assert (output["classification"] == 0) == (not ablations.classifier)
        weighted = output["denoising"] + 0.1 * output["classification"] + output["vq"]
        torch.testing.assert_close(output["loss"], weighted)


@pytest.mark.parametrize(
    "ablations",
    [Ablations(bank="none"), Ablations(bank="learnable"), Ablations(classifier=False, sampled_prior=False)],
)
def test_ablations_train_and_export(room: Path, tmp_path: Path, ablations: Ablations) -> None:
    (path,) = train_diffusion(diffusion_training(room, tmp_path, steps=2, log_every=1, ablations=ablations))
    rows = curve(tmp_path / "curves" / "train.csv")
    assert np.isfinite(rows["loss"]).all()
    assert ("bank_perplexity" in rows) == (ablations.bank == "retrieve")
    with safe_open(path, "pt") as file:
        assert f"bank {ablations.bank}" in file.metadata()["source"]


# The bank


def test_dead_entries_move_to_priors_and_are_forgotten(make_task: Callable[..., DiffusionTask]) -> None:
    task = make_task()
    bank = task.module.emotion_model.codebook
    weight = bank.codebook.weight
    optimizer = torch.optim.AdamW([weight], 0.1)
    weight.sum().backward()
    optimizer.step()
    ema, accelerator = EMAModel([weight]), make_accelerator(LOOP)
    care = BankCare(bank, every=2)
    priors = torch.randn(6, 256, generator=seeded())
    output = {"bank_indices": torch.tensor([1, 1, 3, 3, 3, 1]), "priors": priors}
    before = weight.detach().clone()
    care.after_step(Run(accelerator, optimizer, ema, [weight], 1, 0), [output])
    assert torch.equal(weight, before)
    assert care.measures()["bank_perplexity"] == pytest.approx(2.0)
    care.after_step(Run(accelerator, optimizer, ema, [weight], 2, 0), [output])
    projected = bank.fc(priors).detach()
    for row in range(5):
        distance = (projected - weight[row]).abs().amax(dim=1).min()
        alive = row in (1, 3)
        assert torch.equal(weight[row], before[row]) == alive
        assert (distance < 1e-5) == (not alive)
        assert (optimizer.state[weight]["exp_avg"][row].abs().sum() > 0) == alive
        assert torch.equal(ema.shadow_params[0][row], weight[row])
    assert care.usage.sum() == 0


# Memory and precision


def test_gradient_checkpointing_keeps_less_and_computes_the_same(make_task: Callable[..., DiffusionTask]) -> None:
    kept, gradients = {}, {}
    for on in (False, True):
        task = make_task(gradient_checkpointing=on)
        sizes: list[int] = []
        inputs = inputs_of(task)

        def pack(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = task.module(**inputs)["loss"]
            kept[on] = sum(sizes)
        loss.backward()
        gradients[on] = {name: p.grad for name, p in task.module.named_parameters() if p.grad is not None}
    assert kept[True] < 0.5 * kept[False]
    assert gradients[True].keys() == gradients[False].keys()
    for name, gradient in gradients[True].items():
        torch.testing.assert_close(gradient, gradients[False][name], rtol=1e-4, atol=1e-7)


def test_bfloat16_is_close(room: Path, tmp_path: Path) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        reset_accelerate()
        out = tmp_path / precision
        train_diffusion(diffusion_training(room, out, steps=3, log_every=1, precision=precision, learning_rate=1e-4))
        losses[precision] = curve(out / "curves" / "train.csv")["loss"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.03)
    assert not (losses["bf16"] == losses["fp32"]).all()


# Learning


def test_two_clips_can_be_learnt_by_heart(make_task: Callable[..., DiffusionTask], tmp_path: Path) -> None:
    task = make_task(
        ("anna-happy-1", "bert-neutral"), steps=60, learning_rate=3e-3, drop_rate=0.0, sigma_mean=2.0, validate_every=0
    )

    def loss() -> float:
        with torch.no_grad():
            return float(np.mean([task.module(**inputs_of(task, 1000 + n))["denoising"] for n in range(8)]))

    before = loss()
    train(task, replace(task.config.loop, ema_decay=0.9), tmp_path, make_accelerator(task.config.loop))
    after = loss()
    assert after < 0.7 * before, (before, after)


# Starting and writing


def test_what_is_exported_is_loaded_and_generates(room: Path, tmp_path: Path) -> None:
    (path,) = train_diffusion(diffusion_training(room, tmp_path / "run", steps=3))
    models = tmp_path / "models"
    models.mkdir()
    for entry in (room / "models").iterdir():
        if entry.suffix != ".pth":
            (models / entry.name).symlink_to(entry)
    path.rename(models / path.name)
    model = load_model(models, dtype=torch.float32)
    assert model.config == TINY
    state = torch.load(tmp_path / "run" / "checkpoints" / "step-000000003" / "state.pt")
    names = [n for n in state["module"] if not n.endswith("attn2.to_k.weight")]
    averages = dict(zip(names, state["ema"]["shadow_params"], strict=True))
    for name, tensor in model.emotion_model.state_dict().items():
        torch.testing.assert_close(tensor, averages[f"emotion_model.{name}"], rtol=1e-3, atol=1e-3)
    for name, tensor in model.unet.state_dict().items():
        wanted = averages.get(f"unet.{name}", state["module"][f"unet.{name}"])
        torch.testing.assert_close(tensor, wanted, rtol=1e-3, atol=1e-3)
    again, config = dice_networks(SMALL, models, 0)
    assert config == TINY
    assert all(p.requires_grad for p in again.unet.parameters())


def test_svd_s_own_unet_starts_with_adapters_that_do_nothing(tmp_path: Path) -> None:
    """Read from a folder that diffusers itself wrote."""
    sizes = TINY.unet
    with torch.random.fork_rng():
        torch.manual_seed(0)
        svd = UNetSpatioTemporalConditionModel(
            in_channels=sizes.in_channels,
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            block_out_channels=sizes.block_out_channels,
            addition_time_embed_dim=sizes.addition_time_embed_dim,
            projection_class_embeddings_input_dim=3 * sizes.addition_time_embed_dim,
            layers_per_block=sizes.layers_per_block,
            cross_attention_dim=sizes.cross_attention_dim,
            num_attention_heads=sizes.num_attention_heads,
        )
    svd.save_pretrained(tmp_path / "unet")
    networks = svd_networks(TINY, tmp_path, 0)
    own = networks.unet.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in svd.state_dict().items())
    rest = {name for name in own if name not in svd.state_dict()}
    assert rest and all(".attn2.processor." in name for name in rest)
    assert all(own[name].abs().sum() == 0 for name in rest if "to_v_ip" in name)
    assert all(own[name].abs().sum() > 0 for name in rest if "to_k_ip" in name)
    assert networks.pose_guider(torch.rand(1, 3, 32, 32, generator=seeded())).abs().sum() == 0
    with pytest.raises(CheckpointError, match="does not fit"):
        svd_networks(SMALL, tmp_path, 0)
    with pytest.raises(CheckpointError, match="no SVD UNet"):
        svd_networks(TINY, tmp_path / "unet", 0)


def test_adapters_that_do_nothing_learn_to_do_something(make_task: Callable[..., DiffusionTask]) -> None:
    task = make_task(drop_rate=0.0)
    for name, parameter in task.module.named_parameters():
        if "to_v_ip" in name or name.startswith("pose_guider.conv_out"):
            nn.init.zeros_(parameter)
    inputs = inputs_of(task)
    with torch.no_grad():
        plain = task.module(**inputs)["denoising"]
        none = task.module(**(inputs | {"dropped": torch.tensor([[True, False, True]] * 2)}))["denoising"]
    assert torch.equal(plain, none)
    found = learners(task, inputs)
    assert all(name in found for name, _ in task.module.named_parameters() if "to_v_ip" in name)
    assert "pose_guider.conv_out.weight" in found


def test_released_networks_can_be_trained_on(room: Path) -> None:
    networks, config = dice_networks(TINY, room / "models", 0)
    assert config == TINY
    for network in vars(networks).values():
        for parameter in network.parameters():
            assert parameter.requires_grad and parameter.dtype == torch.float32
            parameter.data.add_(1)  # not a view of the file


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"window": FRAMES + 1}, "no clip for training with 10 frames"),
        ({"model": replace(TINY, unet=replace(TINY.unet, block_out_channels=(32,) * 4))}, "multiples of 64"),
        ({"model": replace(TINY, audio=replace(TINY.audio, layers=3))}, "3 x 4"),
        (
            {"model": replace(TINY, emotion=replace(TINY.emotion, query=replace(TINY.emotion.query, input_dim=128)))},
            "priors of 256",
        ),
    ],
)
def test_shards_and_networks_that_do_not_fit_are_refused(room: Path, changes: dict, named: str) -> None:
    config: DiffusionTraining = diffusion_training(room, room, **changes)
    with pytest.raises(SettingError, match=named):
        usable_clips(config, list_clips(room / "shards"), load_embedder(config.embedder))


def test_the_command_trains_both_from_yaml(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loop = {"steps": 2, "warmup_steps": 0, "log_every": 1, "device": "cpu", "workers": 0}
    embedder = asdict(EMBEDDER)
    first = {"data": f"{room}/shards", "out": "runs/e", "embedder": embedder, "loop": loop, "shortest": 4, "longest": 9}
    second = {
        "data": f"{room}/shards",
        "out": "runs/d",
        "models": f"{room}/models",
        "embedder": "runs/e/embedder.safetensors",
        "model": json.loads(json.dumps(TINY.to_dict())),
        "loop": loop,
        "start": "dice",
        "window": 3,
    }
    for what, content in (("embedder", first), ("diffusion", second)):
        reset_accelerate()
        Path(f"{what}.yaml").write_text(yaml.safe_dump(content))
        assert train_command(argparse.Namespace(what=what, config=Path(f"{what}.yaml"), quiet=True)) == 0
    written = capsys.readouterr().out.split()
    assert written == ["runs/e/embedder.safetensors", "runs/d/dicetalk-trained.safetensors"]
    assert all(Path(path).is_file() for path in written)
    assert curve(Path("runs/d/curves/train.csv"))["step"].tolist() == [1, 2]


def test_missing_frozen_networks_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="vae, image encoder"):
        frozen_networks(TINY, tmp_path)


def test_too_few_classes_are_refused(make_task: Callable[..., DiffusionTask]) -> None:
    model = replace(TINY, emotion=replace(TINY.emotion, classifier_dims=(32, 16, 16, 5)))
    with pytest.raises(DiceTalkError, match="5 classes"):
        make_task(model=model)


def test_splits_do_not_mix(make_task: Callable[..., DiffusionTask], room: Path) -> None:
    task = make_task()
    parts = splits(list_clips(room / "shards"))
    assert {r.id for r in task.batches["train"].records} == {r.id for r in parts["train"]}
    assert {r.id for r in task.batches["validation"].records} == {"dora-happy", "dora-sad"}
