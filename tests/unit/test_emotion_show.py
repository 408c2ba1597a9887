"""Comparing emotions with the presets, and pictures of them."""

import itertools

import numpy as np
import pytest
import torch
from emotion_tracks import BENT, PRIORS, STEP, constant
from hypothesis import given, settings
from hypothesis import strategies as st

from dicetalk.bench.random_model import random_model
from dicetalk.bench.sizes import SIZES
from dicetalk.emotion.bank import EmotionModel
from dicetalk.emotion.compare import FEELINGS, bank_attention, compare, entropy_bits, preset_weights
from dicetalk.emotion.mix import mix
from dicetalk.emotion.prior import PRESET_NAMES, EmotionPrior
from dicetalk.emotion.show import plot_bank_attention, plot_priors, plot_track
from dicetalk.emotion.track import EmotionTrack
from dicetalk.errors import EmotionError, SettingError

pytest.importorskip("matplotlib", reason="the extra 'plots' is not installed")


def related(seed: int = 3) -> dict[str, EmotionPrior]:
    """Presets that lie close together and at all angles, as the released ones."""
    generator = torch.Generator().manual_seed(seed)
    neutral, common = torch.randn(2, 256, generator=generator)
    rows = {name: neutral + 0.2 * (common + torch.randn(256, generator=generator)) for name in FEELINGS}
    return {name: EmotionPrior(mu, name=name) for name, mu in ({"neutral": neutral} | rows).items()}


# Comparing


def test_distances_and_cosines() -> None:
    mu = torch.stack([constant(happy=0.5).at([0]).mu[0], PRIORS["neutral"].mu, constant(sad=1, fear=1).at([0]).mu[0]])
    found = compare(mu, PRIORS)
    assert found.distances.tolist() == pytest.approx([STEP / 2, 0, STEP * 2**0.5], abs=1e-5)
    assert found.directions[0].tolist() == pytest.approx([1, 0, 0, 0, 0, 0, 0], abs=1e-5)
    assert found.directions[1].abs().max() == 0
    assert found.directions[2, 1] == pytest.approx(2**-0.5) and found.directions[2, 4] == pytest.approx(2**-0.5)
    expected = torch.nn.functional.cosine_similarity(
        mu[:, None], torch.stack([PRIORS[n].mu for n in PRESET_NAMES]), dim=2
    )
    torch.testing.assert_close(found.cosines, expected)
    with pytest.raises(EmotionError, match="fear"):
        compare(mu, {name: prior for name, prior in PRIORS.items() if name != "fear"})


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.just(0.0), st.floats(0, 2)), min_size=7, max_size=7))
def test_a_mixture_gives_its_weights_back(weights: list[float]) -> None:
    priors = related()
    mu = mix(dict(zip(FEELINGS, weights, strict=True)), priors).mu
    assert preset_weights(mu[None], priors)[0].tolist() == pytest.approx(weights, abs=2e-3)


def test_weights_of_what_is_no_mixture_are_the_best_there_are() -> None:
    priors = related()
    mu = priors["neutral"].mu + torch.randn(256, generator=torch.Generator().manual_seed(1))
    differences = torch.stack([priors[name].mu for name in FEELINGS]) - priors["neutral"].mu

    def error(weights: torch.Tensor) -> float:
        return float((priors["neutral"].mu + weights @ differences - mu).norm())

    best = preset_weights(mu[None], priors)[0]
    assert best.min() >= 0
    for i, step in itertools.product(range(7), (-0.02, 0.02)):
        other = best.clone()
        other[i] = max(other[i] + step, 0)
        assert error(other) >= error(best) - 1e-5


# The bank


@pytest.fixture(scope="module")
def emotion_model() -> EmotionModel:
    return random_model(SIZES["small"], torch.float32).emotion_model


def test_bank_attention_is_the_models_own(emotion_model: EmotionModel) -> None:
    mu = torch.randn(3, 256, generator=torch.Generator().manual_seed(0))
    weights = bank_attention(emotion_model, mu)
    bank_size = emotion_model.codebook.bank_size
    assert weights.shape == (3, bank_size)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))
    # If a prototype's values are 1 and all others 0, the model's own output is the attention to that prototype.
    with torch.no_grad():
        context = emotion_model.bank_context(mu)
        tokens = context.values.shape[1] // bank_size
        values = torch.zeros_like(context.values)
        values[:, 2 * tokens : 3 * tokens] = 1
        out = emotion_model.tokens(mu, context._replace(values=values))
    torch.testing.assert_close(weights[:, 2], out.mean(dim=(1, 2)), atol=1e-5, rtol=0)


def test_entropy() -> None:
    rows = torch.tensor([[1.0, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0]])
    assert entropy_bits(rows).tolist() == pytest.approx([0, 2, 1])


# Pictures


def inked(picture: np.ndarray, colour: tuple[int, int, int], tolerance: int = 40) -> np.ndarray:
    return (np.abs(picture.astype(int) - colour).max(axis=2) < tolerance).nonzero()


def is_picture(picture: np.ndarray, height: int, width: int) -> None:
    assert picture.shape == (height, width, 3) and picture.dtype == np.uint8
    assert picture[0, 0].tolist() == [255, 255, 255] and 0.005 < (picture < 200).any(axis=2).mean() < 0.9


def test_track_over_the_waveform() -> None:
    loud = np.sin(np.arange(32_000) / 5).astype(np.float32)
    loud[:16_000] *= 0.02
    picture = plot_track(BENT, PRIORS, (loud, 16_000), width=800, height=400)
    is_picture(picture, 400, 800)
    happy = inked(picture, (0xE6, 0x9F, 0x00))[1].mean()
    angry = inked(picture, (0xD6, 0x27, 0x28))[1].mean()
    assert happy < angry, "happy comes before angry"
    ink = (picture[260:345] < 150).all(axis=2).sum(axis=0)
    assert ink[370:600].sum() > 3 * ink[80:300].sum(), "the second half is loud"


def test_tracks_without_speech_and_constants() -> None:
    is_picture(plot_track(BENT, PRIORS, title="mine"), 480, 1000)
    is_picture(plot_track(constant(happy=0.5), PRIORS, seconds=3), 480, 1000)
    is_picture(plot_track(EmotionTrack.constant(PRIORS["neutral"]), PRIORS), 480, 1000)
    for seconds in (0, -1, float("nan"), 1e6):
        with pytest.raises(EmotionError, match="length of the picture"):
            plot_track(BENT, PRIORS, seconds=seconds)


def test_map() -> None:
    pytest.importorskip("sklearn", reason="the extra 'plots' is not installed")
    picture = plot_priors({"mine": constant(happy=0.5).keyframes[0].prior, "track": BENT}, related() | PRIORS)
    is_picture(picture, 560, 1120)
    alone = plot_priors({}, related(), ["pca"])
    is_picture(alone, 560, 560)
    again = plot_priors({}, related(), ["pca"])
    assert np.array_equal(alone, again)
    for methods in ([], ["umap"]):
        with pytest.raises(SettingError, match="Known: pca, tsne"):
            plot_priors({}, PRIORS, methods)


def test_bank_picture() -> None:
    weights = torch.rand(8, 64).softmax(dim=1)
    is_picture(plot_bank_attention(PRESET_NAMES, weights), 150 + 26 * 8, 1000)
    with pytest.raises(EmotionError, match="2 names and 8 rows"):
        plot_bank_attention(["a", "b"], weights)


def test_pictures_leave_no_global_state() -> None:
    import sys

    plot_track(BENT, PRIORS)
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
