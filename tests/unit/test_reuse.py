"""What is kept of each frame for later steps: entries by frame, and the network's deep features."""

from dataclasses import replace

import pytest
import torch
from released_files import SMALL

from dicetalk.config import UNetConfig
from dicetalk.denoise.attention import AttentionContext
from dicetalk.denoise.conditioning import Conditioning
from dicetalk.denoise.guided import GuidedUNet
from dicetalk.denoise.reuse import FrameMemory
from dicetalk.denoise.sampler import karras_sigmas, sample_clip
from dicetalk.denoise.tokens import FrameTokens, StoredRows
from dicetalk.denoise.unet import DeepFeatures, UNet
from dicetalk.denoise.windows import window_schedule
from dicetalk.settings import SamplerSettings

CPU = torch.device("cpu")
FRAMES = 11


def test_an_entry_is_the_mean_over_the_windows_of_the_latest_step() -> None:
    memory = FrameMemory(4)
    assert memory.get([0]) is None
    memory.put(0, [0, 1, 0], torch.tensor([[1.0], [2.0], [3.0]]))
    memory.put(0, [1, 2], torch.tensor([[4.0], [5.0]]))
    assert memory.get([2, 0, 1, 0]).tolist() == [[5.0], [2.0], [3.0], [2.0]]
    assert memory.get([0, 3]) is None, "frame 3 was in no window"
    memory.put(2, [3], torch.tensor([[7.0]]))
    assert memory.get([3]).tolist() == [[7.0]] and memory.get([0]) is None


def test_entries_of_a_clip_fit_the_budget_or_are_not_kept() -> None:
    values = torch.zeros(2, 8)
    for budget, kept in ((10 * 8 * 4, True), (10 * 8 * 4 - 1, False)):
        memory = FrameMemory(10, budget)
        assert memory.put(0, [0, 1], values) is kept
        assert (memory.get([0, 1]) is not None) is kept
        assert memory.nbytes == (10 * 8 * 4 if kept else 0)


@pytest.fixture(scope="module")
def unet() -> UNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet(replace(SMALL.unet, cross_attention_dim=32)).eval().requires_grad_(False)


def conditioning(config: UNetConfig) -> Conditioning:
    generator = torch.Generator().manual_seed(1)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    tokens = {
        name: FrameTokens(StoredRows(some(FRAMES + 1, 3, 32)), torch.arange(1, FRAMES + 1), torch.zeros(FRAMES).long())
        for name in ("audio", "emotion")
    }
    channels = config.block_out_channels[0]
    return Conditioning(
        some(1, 1, 32), some(4, 8, 8), some(4, 8, 8), tokens, torch.ones(1, 1, 64, 64), some(1, channels, 8, 8),
        torch.tensor([[12.5, 8.0, 16.0]]),
    )  # fmt: skip


def test_deep_features_of_the_same_input_give_the_same_output(unet: UNet) -> None:
    generator = torch.Generator().manual_seed(2)
    sample = torch.randn(2, 3, 8, 8, 8, generator=generator)
    clip = unet.project_clip(torch.randn(2, 1, 32, generator=generator))
    context = AttentionContext(clip, torch.tensor([[0, 0, 0], [1, 1, 1]]))
    given = sample, torch.tensor(0.3), torch.tensor([[12.5, 8.0, 16.0]]).expand(2, -1), context, None
    deep = DeepFeatures()
    whole, _ = unet(*given, deep)
    assert torch.equal(whole, unet(*given)[0])
    ran: list[str] = []
    hooks = [
        block.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, block in unet.named_modules()
        if (name.count(".") == 1 and "blocks" in name) or name == "mid_block"
    ]
    again, _ = unet(*given, DeepFeatures(deep.values))
    for hook in hooks:
        hook.remove()
    assert ran == ["down_blocks.0", f"up_blocks.{len(unet.up_blocks) - 1}"]
    torch.testing.assert_close(again, whole)
    other, _ = unet(*given, DeepFeatures(0 * deep.values))
    assert (other - whole).abs().max() > 1e-3


def watched(unet: UNet, settings: SamplerSettings, total: int = FRAMES) -> tuple[torch.Tensor, list[tuple[int, bool]]]:
    """The clip, and of each call of the network how many windows it had and whether its deep blocks ran."""
    calls: list[tuple[int, bool]] = []

    def count(module: torch.nn.Module, given: tuple) -> None:
        calls.append((len(given[0]), len(given) < 6 or given[5].values is None))

    hook = unet.register_forward_pre_hook(count)
    network = GuidedUNet(unet, conditioning(unet.config), settings, CPU, torch.float32)
    sigmas = karras_sigmas(settings.steps, 0.05, 30.0)
    x = sigmas[0] * torch.randn(total, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    schedule = window_schedule("tight", total, settings.window, settings.overlap, settings.shift)
    made = sample_clip(network, x, sigmas, schedule, solver=settings.solver)
    hook.remove()
    return made, calls


SETTINGS = SamplerSettings(steps=4, window=5, overlap=1, shift=2)


def test_deep_blocks_run_every_so_many_steps_with_features_of_the_frame(unet: UNet) -> None:
    exact, calls = watched(unet, SETTINGS)
    assert all(deep for _, deep in calls)
    close, calls = watched(unet, replace(SETTINGS, deep_every=2))
    schedule = window_schedule("tight", FRAMES, 5, 1, 2)
    assert [deep for _, deep in calls] == [step % 2 == 0 for step in range(4) for _ in schedule(step)]
    # Features of the wrong frames are farther off than those of the step before.
    assert 0 < (close - exact).square().mean() < (exact.roll(1, 0) - exact).square().mean()
    alone, calls = watched(unet, replace(SETTINGS, deep_every=2, batched_guidance=False))
    assert {batch for batch, _ in calls} == {1}
    assert (alone - close).abs().max() < 1e-4


def test_deep_features_that_do_not_fit_are_computed(unet: UNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicetalk.denoise.guided.DEEP_BYTES", 1000)
    made, calls = watched(unet, replace(SETTINGS, deep_every=2))
    assert all(deep for _, deep in calls)
    assert torch.equal(made, watched(unet, SETTINGS)[0])


@pytest.mark.parametrize(
    ("changes", "branches"),
    [
        ({}, [3, 3, 3, 3]),
        ({"guidance_every": 2}, [3, 1, 3, 1]),
        ({"guidance_high": 10.0}, [1, 3, 3, 3]),
        ({"guidance_high": 10.0, "guidance_every": 2}, [1, 3, 1, 3]),
        ({"guidance_low": 1.0}, [3, 3, 1, 1]),
        ({"expression_guidance": 1.0, "guidance_every": 4}, [3, 1, 1, 1]),
        ({"expression_guidance": 0.0, "guidance_every": 4}, [2, 2, 2, 2]),
        ({"portrait_guidance": 1.0, "expression_guidance": 1.0, "guidance_every": 4}, [1, 1, 1, 1]),
    ],
    ids=str,
)
def test_branches_of_each_step(unet: UNet, changes: dict, branches: list[int]) -> None:
    """Levels are 30, 7.4, 1.1 and 0.05."""
    _, calls = watched(unet, replace(SETTINGS, **changes))
    schedule = window_schedule("tight", FRAMES, 5, 1, 2)
    assert [batch for batch, _ in calls] == [branches[step] for step in range(4) for _ in schedule(step)]
