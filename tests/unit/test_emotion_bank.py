"""The emotion model beyond the fixtures: precision, injected parts, gradients of the bank."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dicetalk.config import EmotionConfig, TokenMLPConfig
from dicetalk.emotion.bank import COMMITMENT_WEIGHT, EmotionModel
from dicetalk.layers import sdpa_attention

SMALL = EmotionConfig(
    query=TokenMLPConfig(256, 16, 24, 4),
    bank=TokenMLPConfig(12, 16, 20, 3),
    bank_size=7,
    attention_dim=32,
    num_heads=4,
    classifier_dims=(10, 8, 6, 5),
)


@pytest.fixture
def model() -> EmotionModel:
    torch.manual_seed(0)
    return EmotionModel(SMALL).eval()


def priors(rows: int) -> torch.Tensor:
    return torch.randn(rows, 256, generator=torch.Generator().manual_seed(1))


def test_attention_is_softmax_over_each_head() -> None:
    q, k, v = (torch.randn(2, n, 12, generator=torch.Generator().manual_seed(n)) for n in (5, 7, 9))
    k, v = k[:, :7], v[:, :7]
    expected = torch.empty_like(q)
    for start in range(0, 12, 4):
        part = slice(start, start + 4)
        weights = (q[..., part] @ k[..., part].mT / 4**0.5).softmax(-1)
        expected[..., part] = weights @ v[..., part]
    torch.testing.assert_close(sdpa_attention(q, k, v, 3), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision(model: EmotionModel, dtype: torch.dtype) -> None:
    exact = model.tokens(priors(3))
    exact_retrieved, exact_nearest = model.retrieved_tokens(priors(3))
    model.to(dtype)
    rounded = model.tokens(priors(3).to(dtype))
    retrieved, nearest = model.retrieved_tokens(priors(3).to(dtype))
    assert rounded.dtype == retrieved.dtype == nearest.quantized.dtype == dtype
    assert (rounded - exact).abs().max() < 0.05
    assert torch.equal(nearest.indices, exact_nearest.indices)
    assert (retrieved - exact_retrieved).abs().max() < 0.05


@torch.no_grad()
def test_rows_do_not_meet(model: EmotionModel) -> None:
    bank = model.bank_context(priors(1))
    together = model.tokens(priors(3), bank)
    assert together.shape == (3, 4, 32)
    for row, prior in zip(together, priors(3), strict=True):
        torch.testing.assert_close(row, model.tokens(prior[None], bank)[0])


def test_every_layer_and_the_attention_are_injected() -> None:
    made = []

    def recorded(kind: type[nn.Module]) -> object:
        def make(*args: object, **kwargs: object) -> nn.Module:
            made.append(kind(*args, **kwargs))
            return made[-1]

        return make

    calls = []

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
        calls.append((q.shape, k.shape, v.shape, heads))
        return sdpa_attention(q, k, v, heads)

    operations = SimpleNamespace(**{name: recorded(getattr(nn, name)) for name in ("Linear", "LayerNorm", "Embedding")})
    model = EmotionModel(SMALL, operations, attention)
    leaves = [module for module in model.modules() if not list(module.children())]
    assert {id(module) for module in leaves} == {id(module) for module in made}
    model.tokens(priors(2))
    assert calls == [((2, 4, 32), (2, 21, 32), (2, 21, 32), 4)]


def test_nearest_entry_and_two_sided_loss(model: EmotionModel) -> None:
    rows = priors(4)
    projected = model.codebook.fc(rows)
    entries = model.codebook.codebook.weight
    expected = (projected[:, None] - entries[None]).square().sum(-1).argmin(-1)
    nearest = model.codebook.nearest(rows)
    assert torch.equal(nearest.indices, expected)
    assert (nearest.quantized - entries[expected]).abs().max() < 1e-5
    distance = F.mse_loss(projected, entries[expected])
    assert nearest.vq_loss.item() == pytest.approx((1 + COMMITMENT_WEIGHT) * distance.item(), rel=1e-5)

    # Entries are pulled with weight 1, projections with the commitment weight, by opposite differences.
    at_entries, at_bias = torch.autograd.grad(nearest.vq_loss, (entries, model.codebook.fc.bias))
    difference = 2 * (projected - entries[expected]).detach() / projected.numel()
    torch.testing.assert_close(at_bias, COMMITMENT_WEIGHT * difference.sum(0))
    torch.testing.assert_close(at_entries, torch.zeros_like(entries).index_add(0, expected, -difference))


def test_gradient_goes_straight_through_to_the_prior(model: EmotionModel) -> None:
    rows = priors(2).requires_grad_()
    quantized = model.codebook.nearest(rows).quantized
    (gradient,) = torch.autograd.grad(quantized.sum(), rows)
    expected = model.codebook.fc.weight.sum(0).expand(2, -1)
    torch.testing.assert_close(gradient, expected)


def test_classifier(model: EmotionModel) -> None:
    assert model.classifier(torch.randn(3, 10)).shape == (3, 5)
