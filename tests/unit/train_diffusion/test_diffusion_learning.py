"""Who learns from what in the diffusion model, the ablations, the bank."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.training_utils import EMAModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from training_runs import (
    CPU,
    LOOP,
    curve,
    diffusion_training,
    inputs_of,
    learners,
    seeded,
)

from dicetalk.checkpoints.convert import convert_model
from dicetalk.checkpoints.load import load_model
from dicetalk.checkpoints.single import load_embedder
from dicetalk.denoise.conditioning import Conditioning
from dicetalk.denoise.guided import GuidedUNet
from dicetalk.denoise.sampler import scale_input
from dicetalk.denoise.tokens import FrameTokens, StoredRows
from dicetalk.emotion.bank import PriorTokens
from dicetalk.emotion.compare import bank_attention
from dicetalk.emotion.embedder import PriorDistribution
from dicetalk.emotion.show import plot_bank_attention
from dicetalk.errors import CheckpointError
from dicetalk.hooks import Hooks
from dicetalk.settings import SamplerSettings
from dicetalk.train.bank import BankCare
from dicetalk.train.config import Ablations
from dicetalk.train.data import NumberedBatches
from dicetalk.train.diffusion import DiffusionTask, train_diffusion, usable_clips
from dicetalk.train.diffusion_data import emotion_mix
from dicetalk.train.export import export_model
from dicetalk.train.loop import Run, make_accelerator
from dicetalk.train.losses import UNLABELLED, add_noise
from dicetalk.train.objective import emotion_tokens
from dicetalk.train.shards import list_clips

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


def test_a_part_of_the_priors_is_mixed_as_in_inference(make_task: Callable[..., DiffusionTask]) -> None:
    presets = torch.randn(8, 256, generator=seeded())
    task, read = make_task(presets=presets, mixed_rate=0.5), make_task()
    rows = []
    for number in range(20):
        batch = NumberedBatches(task.batches["train"], (0,))[number]
        asked = batch["mix"][:, 0] @ presets
        priors, own = (each.inputs(batch, seeded(number))["priors"] for each in (task, read))
        mixed, kept = (torch.isclose(priors, other, atol=1e-5).all(dim=1) for other in (asked, own))
        assert (mixed ^ kept).all()
        rows.append(mixed)
    assert 0.25 < torch.cat(rows).float().mean() < 0.75


def test_an_emotion_that_changes_is_mixed_anew_in_every_frame(make_task: Callable[..., DiffusionTask]) -> None:
    presets = torch.randn(8, 256, generator=seeded())
    task = make_task(presets=presets, mixed_rate=0.1, whole_bank_rate=0.5, drop_rate=0.0)
    batch = NumberedBatches(task.batches["train"], (0,))[0]
    passing = (
        torch.tensor([1.0, 0.5, 0.0])[:, None] * torch.eye(8)[1]
        + torch.tensor([0.0, 0.5, 1.0])[:, None] * (torch.eye(8)[3])
    )
    batch["mix"], batch["changing"] = torch.stack([batch["mix"][0], passing]), torch.tensor([False, True])
    inputs = task.inputs(batch, seeded())
    assert inputs["of_prior"].tolist() == [[0, 0, 0], [1, 2, 3]] and inputs["whole_bank"].shape == (4,)
    torch.testing.assert_close(inputs["priors"][1:], passing @ presets)
    seen = []
    task.module.unet.register_forward_hook(lambda _m, _a, output: seen.append(output[0].detach()))
    output = task.module(**inputs)
    assert output["priors"].shape == (2, 256) and output["bank_indices"].shape == (2,)
    task.module(**(inputs | {"of_prior": torch.tensor([[0, 0, 0], [1, 1, 1]])}))
    assert torch.equal(seen[0][0], seen[1][0]) and not torch.equal(seen[0][1], seen[1][1])
    output["loss"].backward()
    assert all(p.grad.abs().sum() > 0 for p in task.module.emotion_model.emo_linear.parameters())


def test_clips_whose_emotion_changes_need_presets_to_mix(make_task: Callable[..., DiffusionTask], corpus: Path) -> None:
    config, notices = make_task().config, []
    records = list_clips(corpus / "shards")
    passing = replace(records[0], shapes=records[0].shapes | {"mix": (records[0].frames, 8)})
    embedder = load_embedder(config.embedder)
    mixed = [passing, *records[1:]]
    left = usable_clips(config, mixed, embedder, Hooks(notice=notices.append))
    assert passing not in left and "their emotion changes" in notices[-1]
    assert passing in usable_clips(replace(config, mixed_rate=0.5), mixed, embedder)


@pytest.mark.parametrize(
    ("emotion", "intensity", "weights"),
    [
        ("neutral", 0.0, {0: 1.0}),
        ("neutral", None, {0: 1.0}),
        ("sad", 1.0, {2: 1.0}),
        ("sad", 0.3, {0: 0.7, 2: 0.3}),
        ("sad", None, {}),
        (None, 0.5, {}),
    ],
)
def test_the_mix_that_asks_for_an_emotion(
    emotion: str | None, intensity: float | None, weights: dict[int, float]
) -> None:
    expected = torch.zeros(8)
    for place, weight in weights.items():
        expected[place] = weight
    torch.testing.assert_close(emotion_mix(emotion, intensity), expected)


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
            adapters={
                "audio": FrameTokens(StoredRows(module.audio_projection(windows)), 1 + frames, 0 * frames),
                "emotion": FrameTokens(StoredRows(module.emotion_model.tokens(priors)), 1 + 0 * frames, 0 * frames),
            },
            mask=mask,
            pose=module.pose_guider(mask.expand(-1, 3, -1, -1)),
            added_ids=torch.tensor([[12.5, 8.0, 16.0]]),
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
def test_ablations_train_and_export(corpus: Path, tmp_path: Path, ablations: Ablations) -> None:
    (path,) = train_diffusion(diffusion_training(corpus, tmp_path, steps=2, log_every=1, ablations=ablations))
    rows = curve(tmp_path / "curves" / "train.csv")
    assert np.isfinite(rows["loss"]).all()
    assert ("bank_perplexity" in rows) == (ablations.bank == "retrieve")
    with safe_open(path, "pt") as file:
        assert file.metadata()["bank"] == ablations.bank


@pytest.mark.parametrize("bank", ["retrieve", "learnable", "none"])
def test_a_loaded_model_makes_the_tokens_of_its_training(
    make_task: Callable[..., DiffusionTask], corpus: Path, tmp_path: Path, bank: str
) -> None:
    """Also after `convert`; a file that does not tell its bank retrieves."""
    config = diffusion_training(corpus, tmp_path, ablations=Ablations(bank=bank))
    module = make_task(ablations=config.ablations).module
    path, again = tmp_path / "dicetalk-a.safetensors", tmp_path / "b" / "dicetalk-b.safetensors"
    export_model(module, config, path, torch.float32)
    again.parent.mkdir()
    convert_model(path, again, dtype=torch.float32)
    priors = torch.randn(3, 256, generator=seeded())
    with torch.no_grad():
        expected, _ = emotion_tokens(module.emotion_model, priors, bank, torch.ones(3, dtype=torch.bool))
        for file in (path, again):
            loaded = load_model(file, dtype=torch.float32, shared=[corpus / "models"]).emotion_model
            found = loaded.tokens(torch.cat([torch.zeros(1, 256), priors]))
            torch.testing.assert_close(found, expected)
        assert isinstance(loaded, PriorTokens) == (bank == "none")
        if bank == "none":
            assert bank_attention(loaded, priors).shape == (3, 0)
            assert plot_bank_attention(["a", "b", "c"], bank_attention(loaded, priors)).shape[2] == 3
    with safe_open(path, "pt") as file:
        untold = {name: value for name, value in file.metadata().items() if name != "bank"}
    save_file(load_file(path), path, untold)
    assert not isinstance(load_model(path, shared=[corpus / "models"]).emotion_model, PriorTokens)
    save_file(load_file(path), path, untold | {"bank": "of England"})
    with pytest.raises(CheckpointError, match="bank 'of England'"):
        load_model(path, shared=[corpus / "models"])


# The bank


def test_dead_entries_move_to_priors_and_are_forgotten(make_task: Callable[..., DiffusionTask]) -> None:
    task = make_task()
    bank = task.module.emotion_model.codebook
    weight = bank.codebook.weight
    optimizer = torch.optim.AdamW([weight], 0.1)
    weight.sum().backward()
    optimizer.step()
    ema, accelerator = EMAModel([weight]), make_accelerator(LOOP)
    care = BankCare(bank, every=2, steps=5)
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
    before = weight.detach().clone()
    for step in (3, 4, 5):  # after step 4 one step is left, too few to learn in
        care.after_step(Run(accelerator, optimizer, ema, [weight], step, 0), [output])
    assert torch.equal(weight, before)
