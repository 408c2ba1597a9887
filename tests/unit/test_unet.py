"""The UNet's contract with a host: injected layers, injected attention, small configs, gradients, half precision."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dicetalk.config import UNetConfig
from dicetalk.denoise.attention import AdapterContext, AttentionContext, mask_pyramid
from dicetalk.denoise.blocks import ROWS, FeedForward, temporal_convolution
from dicetalk.denoise.tokens import ProjectedRows, StoredRows
from dicetalk.denoise.unet import UNet
from dicetalk.layers import sdpa_attention

CONFIG = UNetConfig(
    block_out_channels=(32, 64),
    num_attention_heads=(2, 4),
    layers_per_block=1,
    cross_attention_dim=16,
    addition_time_embed_dim=8,
)
LAYERS = (nn.Linear, nn.Conv2d, nn.Conv3d, nn.GroupNorm, nn.LayerNorm)


def namespace() -> SimpleNamespace:
    """Layers that can be distinguished from torch's own."""
    return SimpleNamespace(**{layer.__name__: type(layer.__name__, (layer,), {"injected": True}) for layer in LAYERS})


def call(unet: UNet, batch: int = 2, frames: int = 3, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    parameter = next(unet.parameters())
    context_dim = unet.config.cross_attention_dim

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(parameter)

    index = torch.arange(batch * frames, device=parameter.device).reshape(batch, frames)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    pyramid = mask_pyramid(mask, (8, 8), len(unet.config.block_out_channels))
    adapters = tuple(
        AdapterContext(unet.project_adapter(i, random(batch * frames, 4, context_dim)), index, scale, pyramid)
        for i in range(unet.config.num_adapters)
    )
    context = AttentionContext(unet.project_clip(random(batch * frames, 1, context_dim)), index, adapters)
    ids = torch.tensor([[12.5, 8, 16]] * batch)
    return unet(random(batch, frames, 8, 8, 8), torch.tensor(0.3), ids, context, random(1, 32, 8, 8))[0]


def test_every_layer_comes_from_the_injected_namespace() -> None:
    unet = UNet(CONFIG, operations=namespace())
    layers = [m for m in unet.modules() if isinstance(m, LAYERS)]
    assert len(layers) > 50
    assert all(getattr(layer, "injected", False) for layer in layers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_convolutions_over_time_are_those_in_three_dimensions(dtype: torch.dtype) -> None:
    conv = temporal_convolution(nn.Conv3d)(8, 12, (3, 1, 1), padding=(1, 0, 0)).to(dtype)
    assert isinstance(conv, nn.Conv3d) and conv.weight.shape == (12, 8, 3, 1, 1)
    clip = torch.randn(2, 5, 8, 4, 6, dtype=dtype).transpose(1, 2)  # as the UNet has it, not contiguous
    expected = nn.functional.conv3d(clip, conv.weight, conv.bias, padding=(1, 0, 0))
    torch.testing.assert_close(conv(clip), expected, atol=1e-5, rtol=0)
    (expected - conv(clip)).abs().sum().backward()
    assert conv.weight.grad is not None


@pytest.mark.parametrize("rows", [1, 7, ROWS, 3 * ROWS + 5])
def test_a_feed_forward_in_parts_is_the_whole_one(rows: int) -> None:
    ff, hidden = FeedForward(16), torch.randn(1, rows, 16)
    whole = ff(hidden)  # with gradients it is not cut
    with torch.no_grad():
        parts = ff(hidden)
    assert parts.shape == whole.shape
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)


def test_attention_is_the_injected_function() -> None:
    calls = []

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
        calls.append((q.shape, k.shape, heads))
        return sdpa_attention(q, k, v, heads)

    unet = UNet(CONFIG, attention=attention)
    with torch.inference_mode():
        call(unet)
    blocks = len(unet._cross_attentions)
    assert len(calls) == 3 * blocks, "self, audio and emotion attention of every block"
    calls.clear()
    with torch.inference_mode():
        call(unet, scale=0.0)
    assert len(calls) == blocks, "an adapter of scale 0 is not computed"


def test_gradients_reach_everything_but_the_clip_key() -> None:
    unet = UNet(CONFIG)
    call(unet).square().mean().backward()
    without = {name for name, parameter in unet.named_parameters() if parameter.grad is None}
    assert without == {name for name, _ in unet.named_parameters() if name.endswith("attn2.to_k.weight")}
    assert without


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    unet = UNet(CONFIG).eval()
    with torch.inference_mode():
        exact = call(unet)
        rough = call(unet.to(dtype)).float()
    assert rough.isfinite().all()
    assert (rough - exact).norm() / exact.norm() < 0.05


def test_rows_beyond_the_budget_are_projected_by_window() -> None:
    unet = UNet(CONFIG)
    rows = StoredRows(torch.randn(50, 4, 16, generator=torch.Generator().manual_seed(0)))
    index = torch.tensor([[3, 3, 49], [0, 1, 2]])
    device, dtype = torch.device("cpu"), torch.float32
    needed = 50 * 4 * 2 * unet.key_value_channels * 4
    with torch.inference_mode():
        kept = ProjectedRows(unet, 1, rows, needed, device, dtype)
        fresh = ProjectedRows(unet, 1, rows, needed - 1, device, dtype)
        (kept_pairs, kept_index), (pairs, local) = kept(index), fresh(index)
    assert kept.kept is not None and fresh.kept is None
    assert kept_pairs[0][0].shape[0] == 50 and pairs[0][0].shape[0] == 5
    for (key, value), (key_all, value_all) in zip(pairs, kept_pairs, strict=True):
        assert torch.allclose(key[local], key_all[kept_index], atol=1e-6)
        assert torch.allclose(value[local], value_all[kept_index], atol=1e-6)
