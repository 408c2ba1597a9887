"""What the sampler says it needs is what it needs."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from dicetalk.bench.sizes import SIZES
from dicetalk.config import UNetConfig
from dicetalk.denoise import blocks
from dicetalk.denoise.attention import AdapterContext, AttentionContext, mask_pyramid
from dicetalk.denoise.guided import sampling_bytes
from dicetalk.denoise.tokens import ProjectedRows
from dicetalk.denoise.unet import UNet
from dicetalk.settings import SamplerSettings

SIZE = 16
FRAMES = 6


def peak_bytes(unet: UNet, branches: int) -> int:
    """Most bytes that lived at once in a pass, its inputs left out."""
    context_dim = unet.config.cross_attention_dim
    clip_values = unet.project_clip(torch.randn(2, 1, context_dim))
    key_values = [unet.project_adapter(i, torch.randn(2, 4, context_dim)) for i in range(2)]
    mask = mask_pyramid(torch.ones(1, 1, 8 * SIZE, 8 * SIZE), (SIZE, SIZE), len(unet.config.block_out_channels))
    index = torch.zeros(branches, FRAMES, dtype=torch.long)
    adapters = tuple(AdapterContext(these, index, 1.0, mask) for these in key_values)
    context = AttentionContext(clip_values, index, adapters)
    sample = torch.randn(branches, FRAMES, unet.config.in_channels, SIZE, SIZE)
    pose = torch.randn(1, unet.config.block_out_channels[0], SIZE, SIZE)
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        unet(sample, torch.tensor(1.0), torch.randn(branches, 3), context, pose)
    living = peak = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            living += event.nbytes()
            peak = max(peak, living)
    return peak


@pytest.mark.parametrize(("batched", "branches"), [(True, 3), (False, 1)])
def test_the_bound_holds_and_is_not_far_off(batched: bool, branches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    unet = UNet(
        UNetConfig(
            block_out_channels=(32, 64, 128, 128),
            num_attention_heads=(2, 4, 8, 8),
            cross_attention_dim=32,
            addition_time_embed_dim=16,
        )
    )
    unet.requires_grad_(False)
    settings = SamplerSettings(batched_guidance=batched, key_value_budget=0)
    bound = sampling_bytes(unet, settings, FRAMES, (SIZE, SIZE), [(10, 4), (2, 4)], torch.float32)
    in_parts = peak_bytes(unet, branches)
    monkeypatch.setattr(blocks, "ROWS", 1 << 40)  # feed-forwards whole, as everywhere but on a CPU
    whole = peak_bytes(unet, branches)
    assert in_parts <= whole
    assert 0.7 * bound < whole < bound


def test_the_budget_bounds_projected_tokens_and_a_short_window_needs_less() -> None:
    unet = UNet(
        UNetConfig(
            block_out_channels=(32, 64),
            num_attention_heads=(2, 4),
            layers_per_block=1,
            cross_attention_dim=32,
            addition_time_embed_dim=16,
        )
    )

    def needed(window: int, rows: int, **settings: int) -> int:
        return sampling_bytes(unet, SamplerSettings(**settings), window, (8, 8), [(rows, 4)], torch.float16)

    assert 2.5 * needed(10, 0) == needed(25, 0)
    one_row = needed(25, 1) - needed(25, 0)
    assert one_row == 4 * 2 * unet.key_value_channels * 2
    assert needed(25, 1000, key_value_budget=10 * one_row) == needed(25, 10)


class Silence:
    """Token rows of a long clip, made on demand."""

    tokens = 32

    def __init__(self, rows: int):
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def __call__(self, rows: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros(len(rows), self.tokens, 64, device=device, dtype=dtype)


def test_what_is_kept_of_the_tokens_does_not_grow_with_the_speech() -> None:
    """It did, up to a gigabyte each of speech and emotion: 835 MB for four minutes at the small size."""
    unet = UNet(SIZES["small"].config.unet).requires_grad_(False)
    budget = SamplerSettings().key_value_budget
    assert budget == 64 << 20
    kept = {}
    for seconds in (4, 10, 60, 600):
        rows = round(12.5 * seconds)
        projected = ProjectedRows(unet, 0, Silence(rows), budget, torch.device("cpu"), torch.float32)
        kept[seconds] = sum(k.nbytes + v.nbytes for k, v in projected.kept or ())
        window, index = projected(torch.arange(rows - 25, rows)[None])
        assert window[0][0].shape[0] == (rows if projected.kept else 25) and index.shape == (1, 25)
    assert 10 << 20 < kept[4] < kept[10] <= budget
    assert kept[60] == kept[600] == 0
