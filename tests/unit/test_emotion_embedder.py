"""The emotion embedder: its equations, masks and gradients, and what a small one learns from synthetic clips."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dicetalk.emotion.embedder import EmbedderConfig, EmotionEmbedder, PriorDistribution, attention_pool
from dicetalk.emotion.prior import EmotionPrior
from dicetalk.errors import EmotionError, SettingError
from dicetalk.evaluate.clustering import clustering_strength, nearest_mean_accuracy
from dicetalk.train.losses import drop_modalities, info_nce

SMALL = EmbedderConfig(visual_dim=6, audio_dim=10, dim=16, layers=2, heads=2, hidden_dim=32)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed))


def build(config: EmbedderConfig = SMALL) -> EmotionEmbedder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return EmotionEmbedder(config)


def assert_same(actual: PriorDistribution, expected: PriorDistribution, atol: float = 1e-5) -> None:
    torch.testing.assert_close(actual.mu, expected.mu, rtol=0, atol=atol)
    torch.testing.assert_close(actual.sigma, expected.sigma, rtol=0, atol=atol)


# Pooling and sampling


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 5), st.integers(0, 1000))
def test_pooling_is_equations_4_and_5(batch: int, steps: int, dim: int, seed: int) -> None:
    hidden, scores = normal(batch, steps, dim, seed=seed), 3 * normal(batch, steps, seed=seed + 1)
    lengths = torch.randint(1, steps + 1, (batch,), generator=seeded(seed))
    pooled = attention_pool(hidden, scores, torch.arange(steps) < lengths[:, None])
    for b, length in enumerate(lengths.tolist()):
        weights = [w / sum(scores[b, :length].exp()) for w in scores[b, :length].exp()]
        mu = sum(w * hidden[b, t] for t, w in enumerate(weights))
        variance = sum(w * (hidden[b, t] - mu) ** 2 for t, w in enumerate(weights))
        torch.testing.assert_close(pooled.mu[b], mu, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(pooled.sigma[b], variance.sqrt(), rtol=1e-3, atol=2e-4)


def test_pooling_has_no_order_and_no_scale_of_scores() -> None:
    hidden, scores = normal(2, 7, 3), normal(2, 7, seed=1)
    mask = torch.arange(7) < torch.tensor([7, 4])[:, None]
    order = torch.randperm(7, generator=seeded(2))
    pooled = attention_pool(hidden, scores, mask)
    assert_same(attention_pool(hidden[:, order], scores[:, order], mask[:, order]), pooled, 1e-6)
    assert_same(attention_pool(hidden, scores + 5, mask), pooled, 1e-6)


def test_samples_have_the_given_mean_and_deviation() -> None:
    prior = PriorDistribution(
        torch.tensor([[3.0, -1.0]]).expand(40_000, 2), torch.tensor([[0.5, 2.0]]).expand(40_000, 2)
    )
    drawn = prior.sample(seeded())
    torch.testing.assert_close(drawn.mean(dim=0), prior.mu[0], rtol=0, atol=0.05)
    torch.testing.assert_close(drawn.std(dim=0), prior.sigma[0], rtol=0.02, atol=0)


def test_sampling_is_the_generator_s_alone() -> None:
    prior = build()(normal(3, 5, 6), normal(3, 10, 10))
    state = torch.get_rng_state()
    first = prior.sample(seeded(1))
    assert torch.equal(first, prior.sample(seeded(1)))
    assert not torch.equal(first, prior.sample(seeded(2)))
    assert torch.equal(torch.get_rng_state(), state)

    mu, sigma = (x.detach().requires_grad_() for x in prior)
    mu_grad, eps = torch.autograd.grad(PriorDistribution(mu, sigma).sample(seeded(1)).sum(), [mu, sigma])
    assert (mu_grad == 1).all()
    torch.testing.assert_close(mu + sigma * eps, first)


# Sequences, lengths and masks


def test_a_padded_batch_equals_single_clips() -> None:
    embedder = build()
    visual, audio = normal(4, 9, 6), normal(4, 17, 10, seed=1)
    frames, steps = torch.tensor([9, 1, 5, 8]), torch.tensor([12, 17, 1, 3])
    for b in range(4):  # what pads must not matter, whatever it is
        visual[b, frames[b] :] = torch.nan
        audio[b, steps[b] :] = 1e30
    for given_visual, given_audio in ((visual, audio), (visual, None), (None, audio)):
        together = embedder(given_visual, given_audio, frames, steps)
        for b in range(4):
            single = embedder(
                None if given_visual is None else visual[b : b + 1, : frames[b]],
                None if given_audio is None else audio[b : b + 1, : steps[b]],
            )
            assert_same(PriorDistribution(*(x[b : b + 1] for x in together)), single)


def test_padding_gets_no_gradient() -> None:
    visual, audio = normal(2, 6, 6).requires_grad_(), normal(2, 8, 10).requires_grad_()
    prior = build()(visual, audio, torch.tensor([6, 2]), torch.tensor([3, 8]))
    prior.sample(seeded()).square().sum().backward()
    for x, lengths in ((visual, (6, 2)), (audio, (3, 8))):
        for b, length in enumerate(lengths):
            assert (x.grad[b, :length].norm(dim=1) > 0).all()
            assert not x.grad[b, length:].any()


def test_clips_of_a_batch_do_not_meet() -> None:
    embedder = build()
    visual, audio, order = normal(5, 7, 6), normal(5, 14, 10), torch.tensor([3, 0, 4, 2, 1])
    whole = embedder(visual, audio)
    assert_same(embedder(visual[order], audio[order]), PriorDistribution(whole.mu[order], whole.sigma[order]))


def test_order_in_time_matters() -> None:
    embedder = build()
    visual, audio = normal(1, 8, 6), normal(1, 16, 10)
    mu = embedder(visual, audio).mu
    assert (embedder(visual.flip(1), audio).mu - mu).abs().max() > 1e-3
    assert (embedder(visual, audio.flip(1)).mu - mu).abs().max() > 1e-3


def test_a_missing_sequence_is_zeros_of_the_other_s_duration() -> None:
    visual, audio = normal(2, 10, 6), normal(2, 21, 10)
    for fps, steps, frames in ((25.0, 20, 10), (12.5, 40, 5), (60.0, 8, 25)):
        embedder = build(replace(SMALL, visual_fps=fps))
        assert_same(embedder(visual), embedder(visual, torch.zeros(2, steps, 10)), 0)
        assert_same(embedder(audio=audio), embedder(torch.zeros(2, frames, 6), audio), 0)
    assert_same(build()(audio=audio[:, :1]), build()(torch.zeros(2, 1, 6), audio[:, :1]), 0)  # less than a frame is one


def test_layers_of_whisper_may_be_given_apart() -> None:
    audio = normal(2, 8, 5, 2)
    assert_same(build()(audio=audio), build()(audio=audio.reshape(2, 8, 10)), 0)


def test_fusion_weight_is_lambda() -> None:
    visual, other, audio = normal(2, 5, 6), normal(2, 5, 6, seed=1), normal(2, 10, 10)

    def influence(weight: float) -> float:
        embedder = build(replace(SMALL, fusion_weight=weight))
        return (embedder(visual, audio).mu - embedder(other, audio).mu).abs().max().item()

    assert influence(0.0) == 0 < influence(0.1) < influence(1.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "neither"),
        ({"visual": torch.zeros(2, 0, 6)}, "face video"),
        ({"visual": torch.zeros(2, 3, 6), "visual_lengths": torch.tensor([3, 0])}, r"\[3, 0\]; expected 1 to 3"),
        ({"audio": torch.zeros(2, 3, 10), "audio_lengths": torch.tensor([4, 1])}, "speech"),
    ],
)
def test_clips_without_content_are_refused(arguments: dict[str, torch.Tensor], words: str) -> None:
    with pytest.raises(EmotionError, match=words):
        build()(**arguments)


@pytest.mark.parametrize("values", [{"dim": 30}, {"dim": 9, "heads": 3}, {"visual_fps": 0.0}])
def test_impossible_sizes_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(SettingError, match=r"The embedder's \w+ is"):
        replace(EmbedderConfig(heads=8), **values)


def test_the_default_makes_a_prior_of_the_release_s_size() -> None:
    prior = EmotionEmbedder(EmbedderConfig(layers=1))(normal(1, 3, 64), normal(1, 6, 5, 384))
    EmotionPrior(prior.mu[0], prior.sigma[0])  # refuses any other size


def test_every_layer_comes_from_operations() -> None:
    class Linear(nn.Linear):
        pass

    class LayerNorm(nn.LayerNorm):
        pass

    embedder = EmotionEmbedder(SMALL, SimpleNamespace(Linear=Linear, LayerNorm=LayerNorm))
    owners = {type(m) for m in embedder.modules() if list(m.parameters(recurse=False))}
    assert owners == {Linear, LayerNorm}


# Gradients and numbers


@pytest.mark.parametrize("of", ["mu", "sigma", "sample"])
def test_gradients_reach_every_parameter(of: str) -> None:
    embedder = build()
    prior = embedder(normal(3, 5, 6), normal(3, 9, 10))
    value = prior.sample(seeded()) if of == "sample" else getattr(prior, of)
    (value * normal(3, 16, seed=1)).sum().backward()
    without = {name for name, p in embedder.named_parameters() if not p.grad.any()}
    assert not without


def test_one_modality_trains_no_weights_of_the_other_s_input() -> None:
    for absent, present, clip in (
        ("audio_in", "visual_in", {"visual": normal(2, 5, 6)}),
        ("visual_in", "audio_in", {"audio": normal(2, 10, 10)}),
    ):
        embedder = build()
        embedder(**clip).mu.square().sum().backward()
        assert not getattr(embedder, absent).weight.grad.any()
        assert getattr(embedder, absent).bias.grad.any()
        assert getattr(embedder, present).weight.grad.any()


def test_one_step_has_hardly_any_deviation_and_a_finite_gradient() -> None:
    embedder = build()
    visual, audio = normal(2, 1, 6).requires_grad_(), normal(2, 1, 10).requires_grad_()
    prior = embedder(visual, audio)
    assert prior.sigma.max() <= 1.001e-4
    prior.sigma.sum().backward(retain_graph=True)
    assert all(not p.grad.any() for p in embedder.parameters())
    prior.sample(seeded()).square().sum().backward()
    assert visual.grad.isfinite().all() and visual.grad.any()
    assert all(p.grad.isfinite().all() for p in embedder.parameters())


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(1, 12)),
    st.sampled_from([0.0, 1e-20, 1.0, 1e4]),
    st.sampled_from(["both", "visual", "audio"]),
    st.integers(0, 1000),
)
def test_priors_and_gradients_are_finite(shape: tuple[int, int, int], size: float, given: str, seed: int) -> None:
    batch, frames, steps = shape
    embedder = build()
    prior = embedder(
        None if given == "audio" else size * normal(batch, frames, 6, seed=seed),
        None if given == "visual" else size * normal(batch, steps, 10, seed=seed + 1),
    )
    assert prior.mu.shape == prior.sigma.shape == (batch, 16)
    assert prior.mu.isfinite().all() and prior.sigma.isfinite().all() and (prior.sigma > 0).all()
    info_nce(prior.sample(seeded(seed)), torch.arange(batch) // 2).backward()
    assert all(p.grad.isfinite().all() for p in embedder.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_close(dtype: torch.dtype) -> None:
    embedder = build()
    visual, audio, lengths = normal(3, 9, 6), normal(3, 18, 10), torch.tensor([9, 2, 5])
    full = embedder(visual, audio, lengths)
    half = embedder.to(dtype)(visual.to(dtype), audio.to(dtype), lengths)
    assert half.mu.dtype == half.sigma.dtype == torch.float32
    assert_same(half, full, 0.1 if dtype == torch.bfloat16 else 0.02)


# Learning

EMOTIONS, FRAMES, STEPS = 4, 20, 40
VISUAL, AUDIO = 16, 12


class Speakers:
    """Synthetic speakers whose face and voice show four emotions.

    Expression: the face at rest, the emotion (a direction that all share plus half as much of the speaker's own way),
    of random strength, and the mouth. Speech: the voice, a cue of the emotion, and syllables. Both vary from clip to
    clip and from frame to frame by noise. `cue` sets how much speech knows of emotion beside the face's 1.
    """

    def __init__(self, count: int, generator: torch.Generator, world: dict[str, torch.Tensor], cue: float = 0.7):
        self.count, self.generator, self.world, self.cue = count, generator, world, cue
        self.face, self.voice = self.normal(count, 1, VISUAL), self.normal(count, 1, AUDIO)
        self.manner = 0.5 * self.normal(count, EMOTIONS, 1, VISUAL)

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator)

    def record(self, who: torch.Tensor, emotion: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        n = len(who)
        strength = 0.5 + 0.5 * torch.rand(n, 1, 1, generator=self.generator)
        phase = torch.rand(n, 1, 1, generator=self.generator)
        syllables = (2 * torch.pi * (3 * torch.arange(STEPS)[:, None] / 50 + phase)).sin().clamp(min=0)
        face = self.face[who] + strength * (self.world["emotion"][emotion] + self.manner[who, emotion])
        face = face + syllables[:, ::2] * self.world["mouth"] + 0.5 * self.normal(n, 1, VISUAL)
        voice = self.voice[who] + self.cue * strength * self.world["tone"][emotion]
        voice = voice + syllables * self.world["syllable"] + 0.5 * self.normal(n, 1, AUDIO)
        return face + 0.7 * self.normal(n, FRAMES, VISUAL), voice + 0.7 * self.normal(n, STEPS, AUDIO)

    def every_emotion(self, each: int) -> tuple[torch.Tensor, torch.Tensor]:
        who = torch.arange(self.count).repeat_interleave(EMOTIONS * each)
        return who, torch.arange(EMOTIONS).repeat_interleave(each).repeat(self.count)


def train(embedder: EmotionEmbedder, speakers: Speakers, steps: int, generator: torch.Generator) -> list[float]:
    """Train as the paper does; each batch has 16 pairs of a speaker and an emotion with 4 clips."""
    optimizer = torch.optim.AdamW(embedder.parameters(), 1e-3)
    curve = []
    for _ in range(steps):
        who = torch.randint(speakers.count, (16,), generator=generator).repeat_interleave(4)
        emotion = torch.randint(EMOTIONS, (16,), generator=generator).repeat_interleave(4)
        face, voice = speakers.record(who, emotion)
        drop = drop_modalities(len(who), generator)
        prior = embedder(face.masked_fill(drop[:, :1, None], 0), voice.masked_fill(drop[:, 1:, None], 0))
        loss = info_nce(prior.sample(generator), who * EMOTIONS + emotion)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    return curve


@pytest.fixture(scope="module")
def learnt() -> dict[str, object]:
    """A small embedder trained on 24 speakers, and what it makes of 8 others."""
    generator = seeded(0)
    shapes = {"emotion": (EMOTIONS, 1, VISUAL), "mouth": (VISUAL,), "tone": (EMOTIONS, 1, AUDIO), "syllable": (AUDIO,)}
    world = {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}
    known, unseen = Speakers(24, generator, world), Speakers(8, generator, world)
    embedder = build(EmbedderConfig(VISUAL, AUDIO, dim=32, layers=2, heads=4, hidden_dim=64))
    curve = train(embedder, known, 300, generator)
    accuracy, strength = {}, {}
    (who, emotion), (known_who, known_emotion) = unseen.every_emotion(8), known.every_emotion(4)
    (face, voice), (known_face, known_voice) = unseen.record(who, emotion), known.record(known_who, known_emotion)
    clips = {
        "audio": ((None, voice), (None, known_voice)),
        "video": ((face, None), (known_face, None)),
        "both": ((face, voice), (known_face, known_voice)),
    }
    with torch.no_grad():
        for name, (of_unseen, of_known) in clips.items():
            mu, reference = embedder(*of_unseen).mu, embedder(*of_known).mu
            accuracy[name] = nearest_mean_accuracy(mu, emotion, reference, known_emotion)
            strengths = clustering_strength(mu, emotion, who)
            strength[name] = sum(strengths.values()) / len(strengths)
    return {"curve": curve, "accuracy": accuracy, "strength": strength}


def test_contrastive_loss_falls(learnt: dict) -> None:
    curve = learnt["curve"]
    assert sum(curve[-20:]) < 0.5 * sum(curve[:20])


def test_unseen_speakers_cluster_by_emotion(learnt: dict) -> None:
    """Chance is 1/4; the emotions' means are those of the speakers in training."""
    assert learnt["accuracy"]["both"] > 0.7
    assert learnt["accuracy"]["video"] > 0.7
    assert learnt["accuracy"]["audio"] > 0.4


def test_clustering_strength_is_ordered_as_in_table_5(learnt: dict) -> None:
    """Holds where speech tells something that the face does not; with a cue of 0.4, both are no better than video."""
    assert 1.1 < learnt["strength"]["audio"] < learnt["strength"]["video"] < learnt["strength"]["both"], learnt
