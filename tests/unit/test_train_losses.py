"""Training objectives against their equations, their gradients, and the random masks."""

import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dicetalk.config import EmotionConfig, TokenMLPConfig
from dicetalk.denoise.sampler import karras_sigmas, sample_clip, v_to_denoised
from dicetalk.denoise.windows import window_schedule
from dicetalk.drawn.train.vae import opponent
from dicetalk.emotion.bank import COMMITMENT_WEIGHT, EmotionModel
from dicetalk.train import bank as bank_care
from dicetalk.train import losses
from dicetalk.train.objective import Objective

CLIPS = 40_000  # a rate of 5 % has a standard error of 0.11 % over them


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed))


# Contrastive loss


def info_nce_by_pairs(priors: torch.Tensor, groups: list[int], temperature: float, constant: float) -> float:
    """Equations 7 and 8 one pair at a time, with a constant added to the similarity."""

    def omega(i: int, j: int) -> float:
        return math.exp((F.cosine_similarity(priors[i], priors[j], dim=0).item() + constant) / temperature)

    per_clip = []
    for i, group in enumerate(groups):
        negatives = sum(omega(i, j) for j, other in enumerate(groups) if other != group)
        pairs = [
            -math.log(omega(i, j) / (omega(i, j) + negatives))
            for j, other in enumerate(groups)
            if other == group and j != i
        ]
        if pairs:
            per_clip.append(sum(pairs) / len(pairs))
    return sum(per_clip) / len(per_clip) if per_clip else 0.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=10), st.floats(0.2, 2), st.integers(0, 1000))
def test_info_nce_is_equations_7_and_8(groups: list[int], temperature: float, seed: int) -> None:
    priors = normal(len(groups), 5, seed=seed)
    loss = losses.info_nce(priors, torch.tensor(groups), temperature).item()
    for constant in (0.0, 1.0):  # it cancels
        expected = info_nce_by_pairs(priors.double(), groups, temperature, constant)
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("groups", [[0, 1, 2, 3], [0, 0, 0, 0], [0]])
def test_info_nce_without_positives_or_negatives_is_zero(groups: list[int]) -> None:
    priors = normal(len(groups), 5).requires_grad_()
    loss = losses.info_nce(priors, torch.tensor(groups))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(priors.grad, torch.zeros_like(priors))


def test_info_nce_reaches_every_clip_with_a_positive_and_pulls_it_there() -> None:
    groups = torch.tensor([0, 0, 1, 1, 2])
    priors = normal(5, 8).requires_grad_()
    losses.info_nce(priors, groups).backward()
    assert (priors.grad.norm(dim=1) > 1e-4).all()  # clip 4 is nobody's positive, yet a negative
    before = losses.info_nce(priors, groups)
    assert losses.info_nce(priors - 0.5 * priors.grad, groups) < before
    clustered = F.one_hot(groups, 8).float()
    assert losses.info_nce(clustered, groups) < 1e-3
    assert losses.info_nce(clustered, groups) == losses.info_nce(100 * clustered, groups)


@given(st.floats(1e-3, 10), st.sampled_from([0.0, 1e-30, 1.0, 1e18]), st.sampled_from([torch.float32, torch.bfloat16]))
def test_info_nce_and_its_gradient_stay_finite(temperature: float, size: float, dtype: torch.dtype) -> None:
    priors = (size * normal(6, 4)).to(dtype).requires_grad_()
    loss = losses.info_nce(priors, torch.tensor([0, 0, 0, 1, 1, 2]), temperature)
    loss.backward()
    assert loss.isfinite() and priors.grad.isfinite().all()


def test_losses_are_exact_where_networks_are_not() -> None:
    """Autocast rounds matrix products to bfloat16, which has three digits."""
    priors, anchors = normal(8, 16), normal(2, 16, seed=1)
    groups = torch.tensor([0, 0, 0, 1, 1, 1, 0, 1])
    pictures = normal(1, 3, 4, 4)
    for loss in (
        lambda: losses.info_nce(priors, groups),
        lambda: losses.anchor_loss(priors, groups, anchors),
        lambda: opponent(pictures).square().sum(),
    ):
        exact = loss()
        with torch.autocast("cpu", torch.bfloat16):
            assert (priors @ priors.T).dtype == torch.bfloat16
            assert torch.equal(loss(), exact) and loss().dtype == torch.float32


def test_groups_follow_their_keys() -> None:
    ids = losses.group_ids([("M03", "happy"), "hdtf_1", ("M03", "happy"), ("M03", "sad"), ("W09", "happy"), "hdtf_1"])
    assert ids.tolist() == [0, 1, 0, 2, 3, 1]


# Anchors


def test_anchor_loss_is_the_distance_of_class_means() -> None:
    mu, anchors = normal(6, 3), normal(4, 3, seed=1)
    labels = torch.tensor([2, 0, 2, losses.UNLABELLED, 0, 2])
    expected = [
        (mu[[1, 4]].mean(dim=0) - anchors[0]).square().mean(),
        (mu[[0, 2, 5]].mean(dim=0) - anchors[2]).square().mean(),
    ]
    assert losses.anchor_loss(mu, labels, anchors) == pytest.approx(sum(expected).item() / 2)


def test_anchor_loss_moves_a_class_as_one_and_leaves_the_rest() -> None:
    mu = normal(5, 3).requires_grad_()
    labels = torch.tensor([1, 1, 0, losses.UNLABELLED, 1])
    losses.anchor_loss(mu, labels, normal(2, 3, seed=1)).backward()
    assert torch.allclose(mu.grad[0], mu.grad[1]) and torch.allclose(mu.grad[0], mu.grad[4])
    assert mu.grad[0].abs().min() > 0 and mu.grad[2].abs().min() > 0
    assert not mu.grad[3].any()


def test_anchor_loss_without_labels_is_zero() -> None:
    mu = normal(2, 3).requires_grad_()
    loss = losses.anchor_loss(mu, torch.full((2,), losses.UNLABELLED), normal(2, 3))
    loss.backward()
    assert loss == 0 and not mu.grad.any()


def test_close_anchors_and_contrast_agree_on_differences_to_their_mean() -> None:
    common = 13 * F.normalize(normal(1, 32), dim=1)
    anchors = common + 0.3 * normal(8, 32, seed=1)
    assert F.cosine_similarity(anchors[:1], anchors[1:]).min() > 0.9
    priors, groups = anchors.repeat(3, 1), torch.arange(8).repeat(3)
    assert losses.anchor_loss(priors, groups, anchors) < 1e-10
    assert losses.info_nce(priors, groups) > 2
    assert losses.info_nce(priors - anchors.mean(dim=0), groups) < 0.2


# Denoising


@settings(deadline=None)
@given(st.lists(st.floats(0.002, 700), min_size=1, max_size=4), st.integers(0, 1000))
def test_the_sampler_turns_the_target_back_into_the_latents(levels: list[float], seed: int) -> None:
    sigma = torch.tensor(levels, dtype=torch.float64)
    latents, noise = normal(len(levels), 2, 4, 3, 3, seed=seed).double(), normal(len(levels), 2, 4, 3, 3, seed=seed + 1)
    x = losses.add_noise(latents, noise, sigma)
    v = losses.v_target(latents, noise, sigma)
    denoised = v_to_denoised(v, x, sigma.reshape(-1, 1, 1, 1, 1))
    torch.testing.assert_close(denoised, latents, rtol=0, atol=1e-9)


def test_a_perfect_network_has_no_loss_and_samples_its_data() -> None:
    data = normal(3, 4, 2, 2)

    def perfect(scaled: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """The best prediction where there is one clip in the world: its noise follows from the noisy clip."""
        x = scaled * (sigma**2 + 1).sqrt()
        return ((x - data) / sigma - sigma * data) / (sigma**2 + 1).sqrt()

    for sigma in losses.sample_sigmas(20, seeded()).double():
        noise = normal(1, 3, 4, 2, 2, seed=1)
        x = losses.add_noise(data[None].double(), noise, sigma[None])
        v = perfect(x / (sigma**2 + 1).sqrt(), sigma)
        assert losses.denoising_loss(v, data[None], noise, sigma[None]) < 1e-10
        assert losses.denoising_loss(v + 0.1, data[None], noise, sigma[None]) == pytest.approx(0.01, rel=1e-3)

    sigmas = karras_sigmas(10)
    noisy = data + sigmas[0] * normal(3, 4, 2, 2, seed=2)
    sampled = sample_clip(
        lambda x, sigma, frames, step: perfect(x, sigma), noisy, sigmas, window_schedule("tight", 3, 3, 0, 0)
    )
    torch.testing.assert_close(sampled, data, rtol=0, atol=1e-3)


@given(st.floats(0.01, 100))
def test_v_has_weight_one_under_edm_weighting(level: float) -> None:
    sigma = torch.tensor([level], dtype=torch.float64)
    latents, noise, v = (normal(1, 4, 2, 2, seed=s).double() for s in range(3))
    denoised = v_to_denoised(v, losses.add_noise(latents, noise, sigma), sigma.reshape(1, 1, 1, 1))
    weighted = (sigma**2 + 1) / sigma**2 * (denoised - latents).square().mean()
    assert losses.denoising_loss(v, latents, noise, sigma).item() == pytest.approx(weighted.item(), rel=1e-4)


@settings(deadline=None)
@given(st.floats(0, 100), st.floats(0, 100), st.floats(8, 60), st.floats(8, 60))
def test_places_have_the_mean_weight_one(x: float, y: float, width: float, height: float) -> None:
    box = torch.tensor([x, y, width, height])
    weights = losses.place_weights(box, (96, 128), (12, 16), 3.0, 8.0)
    assert weights.shape == (1, 1, 12, 16) and weights.mean().item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(losses.place_weights(box, (96, 128), (12, 16), 1.0, 1.0), torch.ones(1, 1, 12, 16))


def test_the_mouth_counts_more_than_the_face_and_the_face_more_than_the_rest() -> None:
    weights = losses.place_weights(torch.tensor([32.0, 16, 64, 96]), (128, 128), (16, 16), 3.0, 8.0)[0, 0]
    outside, eye, mouth = weights[8, 2], weights[6, 6], weights[10, 8]
    assert (eye / outside).item() == pytest.approx(3) and (mouth / outside).item() == pytest.approx(8)
    v, latents, noise = (normal(2, 3, 4, 16, 16, seed=s) for s in range(3))
    sigma = torch.tensor([0.5, 2.0])
    plain = losses.denoising_loss(v, latents, noise, sigma)
    ones = torch.ones(2, 1, 1, 16, 16)
    assert losses.denoising_loss(v, latents, noise, sigma, ones).item() == pytest.approx(plain.item(), rel=1e-5)
    v[..., 10, 8] += 1
    assert losses.denoising_loss(v, latents, noise, sigma, weights) > losses.denoising_loss(v, latents, noise, sigma)


def test_noise_levels_are_log_normal() -> None:
    log_sigma = losses.sample_sigmas(CLIPS, seeded()).log()
    assert log_sigma.mean().item() == pytest.approx(losses.P_MEAN, abs=5 * losses.P_STD / CLIPS**0.5)
    assert log_sigma.std().item() == pytest.approx(losses.P_STD, rel=0.02)
    within = ((log_sigma - losses.P_MEAN).abs() < losses.P_STD).float().mean().item()
    assert within == pytest.approx(0.6827, abs=0.015)
    shifted = losses.sample_sigmas(CLIPS, seeded(), mean=-1.2, std=1.2).log()
    torch.testing.assert_close((shifted + 1.2) / 1.2, (log_sigma - 0.7) / 1.6, rtol=1e-3, atol=1e-5)


def test_half_precision_latents_keep_their_target_at_the_highest_noise() -> None:
    latents, noise, sigma = normal(2, 4, 2, 2), normal(2, 4, 2, 2, seed=1), torch.tensor([700.0, 0.01])
    target = losses.v_target(latents.half(), noise.half(), sigma)
    torch.testing.assert_close(target, losses.v_target(latents, noise, sigma), rtol=0, atol=5e-3)
    assert losses.denoising_loss(target.half(), latents.half(), noise.half(), sigma) < 1e-5


# Classification


def test_classification_loss_leaves_unlabelled_clips_out() -> None:
    logits = normal(4, 5).requires_grad_()
    labels = torch.tensor([3, losses.UNLABELLED, 0, losses.UNLABELLED])
    loss = losses.classification_loss(logits, labels)
    logp = logits.detach().softmax(dim=1).log()
    assert loss.item() == pytest.approx(-(logp[0, 3] + logp[2, 0]).item() / 2, rel=1e-5)
    loss.backward()
    assert logits.grad[[0, 2]].any() and not logits.grad[[1, 3]].any()

    nothing = losses.classification_loss(logits, torch.full((4,), losses.UNLABELLED))
    assert nothing == 0 and not torch.autograd.grad(nothing, logits)[0].any()


def test_features_are_pooled_over_one_clip() -> None:
    features = normal(6, 4, 2, 5)
    pooled = losses.pool_features(features, frames=3)
    torch.testing.assert_close(
        pooled, torch.stack([features[:3].mean(dim=(0, 2, 3)), features[3:].mean(dim=(0, 2, 3))])
    )


def test_objective_is_equation_15() -> None:
    terms = [torch.tensor(x, requires_grad=True) for x in (1.0, 2.0, 4.0)]
    total = Objective(*terms).total(classification_weight=0.1)
    assert total.item() == pytest.approx(5.2)
    assert [g.item() for g in torch.autograd.grad(total, terms)] == pytest.approx([1, 0.1, 1])


# Random masks


def test_one_clip_in_twenty_drops_each_condition_and_one_all() -> None:
    drops = losses.drop_conditions(CLIPS, seeded())
    assert drops.shape == (CLIPS, 3) and drops.dtype == torch.bool
    cases = Counter(map(tuple, drops.tolist()))
    alone = [(True, False, False), (False, True, False), (False, False, True), (True, True, True)]
    assert set(cases) == {*alone, (False, False, False)}
    for case in alone:
        assert cases[case] / CLIPS == pytest.approx(0.05, abs=0.005)


def test_some_clips_keep_nothing_but_the_portrait_where_that_is_asked_for() -> None:
    drops = losses.drop_conditions(CLIPS, seeded(), rate=0.05, portrait_only_rate=0.1)
    cases = Counter(map(tuple, drops.tolist()))
    assert cases[True, False, True] / CLIPS == pytest.approx(0.1, abs=0.008)
    assert cases[True, True, True] / CLIPS == pytest.approx(0.05, abs=0.005)
    assert cases[False, False, False] / CLIPS == pytest.approx(0.7, abs=0.01)


def test_a_rate_of_zero_drops_nothing() -> None:
    assert not losses.drop_conditions(1000, seeded(), rate=0).any()
    assert not losses.drop_modalities(1000, seeded(), rate=0).any()


def test_modalities_are_dropped_evenly_and_never_both() -> None:
    drops = losses.drop_modalities(CLIPS, seeded(), rate=0.3)
    assert not drops.all(dim=1).any()
    assert drops.float().mean(dim=0).tolist() == pytest.approx([0.15, 0.15], abs=0.01)
    assert losses.drop_modalities(100, seeded(), rate=1).any(dim=1).all()


def test_randomness_comes_from_the_generator_alone() -> None:
    state = torch.get_rng_state()
    draws = [
        lambda g: losses.sample_sigmas(50, g),
        lambda g: losses.drop_conditions(200, g),
        lambda g: losses.drop_modalities(50, g),
        lambda g: bank_care.revive(torch.zeros(9, 2), torch.zeros(9), torch.arange(40.0).reshape(20, 2), g)[0],
    ]
    for draw in draws:
        assert torch.equal(draw(seeded(3)), draw(seeded(3)))
        assert not torch.equal(draw(seeded(3)), draw(seeded(4)))
    assert torch.equal(torch.get_rng_state(), state)


# Emotion bank


@pytest.fixture
def model() -> EmotionModel:
    torch.manual_seed(0)
    return EmotionModel(
        EmotionConfig(
            query=TokenMLPConfig(6, 8, 8, 2),
            bank=TokenMLPConfig(10, 8, 8, 2),
            bank_size=12,
            attention_dim=8,
            num_heads=2,
            classifier_dims=(5, 4, 4, 3),
        )
    )


def test_each_side_of_the_bank_loss_moves_its_own(model: EmotionModel) -> None:
    bank = model.codebook
    priors = normal(4, 6).requires_grad_()
    nearest = bank.nearest(priors)
    Objective(torch.zeros(()), torch.zeros(()), nearest.vq_loss).total(1.0).backward()
    with torch.no_grad():
        projected = bank.fc(priors)
        gap = 2 * (projected - bank.codebook.weight[nearest.indices]) / projected.numel()
    rows = torch.zeros_like(bank.codebook.weight).index_add_(0, nearest.indices, -gap)
    torch.testing.assert_close(bank.codebook.weight.grad, rows)  # the bank term, at the chosen entries alone
    torch.testing.assert_close(priors.grad, COMMITMENT_WEIGHT * gap @ bank.fc.weight)  # the commitment term
    assert bank.fc.weight.grad.any()


def test_retrieved_tokens_train_the_prior_straight_through_but_not_the_bank(model: EmotionModel) -> None:
    priors = normal(4, 6).requires_grad_()
    nearest = model.codebook.nearest(priors)
    upstream = normal(4, 10, seed=1)
    (nearest.quantized * upstream).sum().backward()
    torch.testing.assert_close(priors.grad, upstream @ model.codebook.fc.weight)
    assert model.codebook.codebook.weight.grad is None

    tokens, _ = model.retrieved_tokens(priors.detach())
    (tokens * normal(*tokens.shape, seed=2)).sum().backward()
    untouched = {name for name, p in model.named_parameters() if p.grad is None}
    assert untouched == {"codebook.codebook.weight"} | {
        f"classifier.{n}" for n, _ in model.classifier.named_parameters()
    }


def test_usage_and_perplexity() -> None:
    usage = bank_care.bank_usage(torch.tensor([[0, 3], [3, 3]]), 5)
    assert usage.tolist() == [1, 0, 0, 3, 0]
    assert bank_care.perplexity(usage).item() == pytest.approx(math.exp(-0.25 * math.log(0.25) - 0.75 * math.log(0.75)))
    assert bank_care.perplexity(torch.ones(64)).item() == pytest.approx(64, rel=1e-4)
    assert bank_care.perplexity(torch.tensor([0.0, 7.0])).item() == pytest.approx(1)


@given(st.lists(st.integers(0, 7), min_size=1, max_size=40))
def test_perplexity_lies_between_one_and_the_entries_in_use(indices: list[int]) -> None:
    value = bank_care.perplexity(bank_care.bank_usage(torch.tensor(indices), 8)).item()
    assert 1 - 1e-5 <= value <= len(set(indices)) + 1e-4


def test_dead_entries_move_to_priors_and_live_ones_stay() -> None:
    entries, projected = normal(5, 3), normal(10, 3, seed=1).requires_grad_()
    revived, dead = bank_care.revive(entries, torch.tensor([0.0, 4, 0.5, 1, 0]), projected, seeded())
    assert dead.tolist() == [True, False, True, False, True]
    assert torch.equal(revived[~dead], entries[~dead])
    sources = [(projected == row).all(dim=1).nonzero().flatten().tolist() for row in revived[dead]]
    assert all(len(s) == 1 for s in sources) and len({s[0] for s in sources}) == 3  # three different priors
    assert not revived.requires_grad
    more, dead = bank_care.revive(entries, torch.zeros(5), projected[:2], seeded())
    assert dead.all() and len(more.unique(dim=0)) == 2


def test_reviving_brings_a_collapsed_bank_back_into_use(model: EmotionModel) -> None:
    bank = model.codebook
    priors = normal(200, 6, seed=5)
    with torch.no_grad():
        bank.codebook.weight += 50 * torch.arange(12)[:, None]  # all but the first are out of reach
    usage = bank_care.bank_usage(bank.nearest(priors).indices, 12)
    assert bank_care.perplexity(usage) < 1.5
    with torch.no_grad():
        weight, _ = bank_care.revive(bank.codebook.weight, usage, bank.fc(priors), seeded())
        bank.codebook.weight.copy_(weight)
    assert bank_care.perplexity(bank_care.bank_usage(bank.nearest(priors).indices, 12)) > 6
