"""Windows, noise schedule, guidance and the sampling loop on their own."""

import itertools
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from diffusers import EulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from dicetalk.denoise.guided import combine, guidance_branches
from dicetalk.denoise.latents import draw_noise
from dicetalk.denoise.sampler import karras_sigmas, sample_clip, scale_input, sigma_to_timestep, v_to_denoised
from dicetalk.denoise.tokens import NOT_KEPT, ProjectedRows, StoredRows
from dicetalk.denoise.windows import WINDOWS, padding, window_schedule
from dicetalk.errors import Cancelled, SettingError, VideoError
from dicetalk.hooks import Hooks
from dicetalk.layers import sdpa_attention
from dicetalk.settings import SCHEDULES, SamplerSettings, ramp_values

clips = st.tuples(st.integers(1, 120), st.integers(1, 30), st.integers(0, 29), st.integers(0, 40), st.integers(0, 60))


def test_every_named_schedule_has_its_windows() -> None:
    assert tuple(WINDOWS) == SCHEDULES


@given(clips)
def test_every_frame_is_in_a_window_of_every_step(clip: tuple[int, int, int, int, int]) -> None:
    frames, window, overlap, shift, step = clip
    overlap = min(overlap, window - 1)
    for name in ("reference", "tight"):
        total = frames + padding(name, window)
        windows = window_schedule(name, total, window, overlap, shift)(step)
        seen = Counter(frame for w in windows for frame in w)
        assert set(seen) == set(range(total))
        assert all(len(w) == min(window, total) == len(set(w)) for w in windows)


@given(clips)
def test_ring_windows_lie_on_the_clip_alone(clip: tuple[int, int, int, int, int]) -> None:
    """Each is `window` frames of the endless repeated clip; they start side by side and turn by the whole shift."""
    frames, window, overlap, shift, step = clip
    overlap = min(overlap, window - 1)
    assert padding("ring", window) == 0
    windows = window_schedule("ring", frames, window, overlap, shift)(step)
    assert len(windows) == -(-frames // (window - overlap))
    first = (frames - step * shift % frames) % frames
    for number, places in enumerate(windows):
        start = (first + number * (window - overlap)) % frames
        assert places == [*range(start, frames), *(list(range(frames)) * window)][:window]
    assert {frame for places in windows for frame in places} == set(range(frames))


@given(clips)
def test_tight_windows_are_in_order_and_never_more(clip: tuple[int, int, int, int, int]) -> None:
    frames, window, overlap, shift, step = clip
    overlap = min(overlap, window - 1)
    tight = window_schedule("tight", frames, window, overlap, shift)(step)
    reference = window_schedule("reference", frames + window, window, overlap, shift)(step)
    assert len(tight) <= len(reference)
    for windows in tight:
        assert windows == list(range(windows[0], windows[0] + len(windows)))
    assert sorted(w[0] for w in tight) == [w[0] for w in tight]


@given(clips)
def test_tight_windows_overlap_by_what_is_asked_for(clip: tuple[int, int, int, int, int]) -> None:
    frames, window, overlap, shift, step = clip
    overlap = min(overlap, window - 1)
    starts = [w[0] for w in window_schedule("tight", frames, window, overlap, shift)(step)]
    distances = [after - before for before, after in itertools.pairwise(starts)]
    assert all(distance <= window - overlap for distance in distances)
    # Only beside an outer window, which was moved inside, may they lie closer together.
    assert all(distance == window - overlap for distance in distances[2:-2])


@pytest.mark.parametrize("window", range(1, 9))
def test_no_tight_window_is_one_too_many(window: int) -> None:
    """Without any of the windows between the outer two, its neighbours would overlap by less than is asked for."""
    for frames, overlap, step in itertools.product(range(1, 30), range(window), range(window)):
        starts = [w[0] for w in window_schedule("tight", frames, window, overlap, 1)(step)]
        assert len(set(starts)) == len(starts)
        for before, after in zip(starts, starts[2:], strict=False):
            assert after - before > window - overlap, (frames, overlap, step, starts)


def test_more_overlap_is_more_windows() -> None:
    counts = [len(window_schedule("tight", 100, 25, overlap, 7)(0)) for overlap in (0, 12, 13, 20, 24)]
    assert counts == sorted(set(counts)), counts


def test_tight_windows_of_a_short_clip_are_one_call() -> None:
    for step in range(30):
        assert window_schedule("tight", 20, 25, 0, 7)(step) == [list(range(20))]
        assert len(window_schedule("reference", 45, 25, 0, 7)(step)) == 2


def test_schedule_is_the_released_scheduler() -> None:
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        sigma_min=0.002,
        sigma_max=700.0,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
        steps_offset=1,
    )
    for steps in (1, 2, 5, 25):
        scheduler.set_timesteps(steps)
        sigmas = karras_sigmas(steps)
        assert torch.allclose(sigmas, scheduler.sigmas, rtol=1e-5)
        assert torch.allclose(sigma_to_timestep(sigmas[:-1]), scheduler.timesteps, atol=1e-5)
    x, v = torch.randn(2, 4, 2, 2, generator=torch.Generator().manual_seed(0)).split(1)
    scheduler.set_timesteps(5)
    scaled = scheduler.scale_model_input(x, scheduler.timesteps[0])
    step = scheduler.step(v, scheduler.timesteps[0], x)
    sigma, sigma_next = karras_sigmas(5)[:2]
    assert torch.allclose(scale_input(x, sigma), scaled, rtol=1e-5)
    denoised = v_to_denoised(v, x, sigma)
    assert torch.allclose(denoised, step.pred_original_sample, rtol=1e-4)
    assert torch.allclose(x + (x - denoised) / sigma * (sigma_next - sigma), step.prev_sample, rtol=1e-4)


def ideal_v(x: torch.Tensor, sigma: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The v of a network that always knows the answer; `x` is scaled."""
    noisy = x * (sigma**2 + 1).sqrt()
    return (noisy / (sigma**2 + 1) - target) * (sigma**2 + 1).sqrt() / sigma


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_perfect_network_gives_the_clip(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(40, 4, 2, 3, generator=generator)
    sigmas = karras_sigmas(6)
    x = target + sigmas[0] * torch.randn(target.shape, generator=generator)
    out = sample_clip(
        lambda x, sigma, frames, step: ideal_v(x, sigma, target[frames]),
        x,
        sigmas,
        window_schedule(name, 40, 7, 2, 3),
    )
    assert (out - target).abs().max() < 1e-3


def test_overlapping_predictions_are_averaged() -> None:
    x = torch.zeros(3, 1, 1, 1)
    sigmas = torch.tensor([1.0, 0.0])

    def predict(x: torch.Tensor, sigma: torch.Tensor, frames: list[int], step: int) -> torch.Tensor:
        return torch.full((len(frames), 1, 1, 1), float(frames[0]))

    out = sample_clip(predict, x, sigmas, lambda step: [[0, 1], [1, 2]])
    assert out is x
    # Denoised is c_out * v = -v / sqrt(2); the last Euler step lands on it.
    assert torch.allclose(out.flatten() * -(2**0.5), torch.tensor([0.0, 0.5, 1.0]))


def test_every_occurrence_of_a_frame_counts() -> None:
    """A frame that stands in a window several times has the mean of all its predictions, as one in several windows."""
    x = torch.zeros(2, 1, 1, 1)

    def predict(x: torch.Tensor, sigma: torch.Tensor, frames: list[int], step: int) -> torch.Tensor:
        return torch.arange(1.0, 1 + len(frames)).reshape(-1, 1, 1, 1)  # another one in each place

    out = sample_clip(predict, x, torch.tensor([1.0, 0.0]), lambda step: [[0, 1, 0, 0], [1, 0]])
    assert torch.allclose(out.flatten() * -(2**0.5), torch.tensor([(1 + 3 + 4 + 2) / 4, (2 + 1) / 2]))


def test_progress_counts_windows_and_cancel_stops_before_the_next_call() -> None:
    reports, previews, calls = [], [], []

    def predict(x: torch.Tensor, sigma: torch.Tensor, frames: list[int], step: int) -> torch.Tensor:
        calls.append(step)
        return torch.zeros_like(x)

    schedule = window_schedule("tight", 10, 4, 0, 1)
    total = sum(len(schedule(step)) for step in range(3))

    def listen(stage: str, done: int, total: int, preview: torch.Tensor | None) -> None:
        reports.append((stage, done, total))
        if preview is not None:
            previews.append(preview.clone())

    sample_clip(predict, torch.ones(10, 1, 1, 1), karras_sigmas(3), schedule, Hooks(progress=listen))
    assert reports == [("sample", i + 1, total) for i in range(total)]
    assert len(previews) == 3
    c_skip = 1 / (700.0**2 + 1)
    assert torch.allclose(previews[0], torch.full((10, 1, 1, 1), c_skip)), "v is zero: denoised is c_skip * x"

    calls.clear()
    hooks = Hooks(cancelled=lambda: len(calls) == 2)
    with pytest.raises(Cancelled):
        sample_clip(predict, torch.zeros(10, 1, 1, 1), karras_sigmas(3), schedule, hooks)
    assert len(calls) == 2


@given(st.floats(-5, 10), st.floats(-5, 10))
def test_guidance_is_the_released_formula(p: float, e: float) -> None:
    v0, v1, v2 = torch.randn(3, 5, generator=torch.Generator().manual_seed(2))
    branches = guidance_branches(p, e)
    seen = {(False, False): v0, (True, False): v1, (True, True): v2}
    if not branches:
        return
    result = combine(torch.stack([seen[b.portrait, b.expression] for b in branches]), branches)
    assert torch.allclose(result, v0 + p * (v1 - v0) + e * (v2 - v1), atol=1e-4)


def test_guidance_scales_may_be_whole_numbers() -> None:
    (only,) = torch.randn(1, 5)
    assert torch.equal(combine(only[None], guidance_branches(1, 1)), only)


def test_branches_of_weight_zero_are_left_out() -> None:
    assert len(guidance_branches(3.0, 6.0)) == 3
    assert [b.weight for b in guidance_branches(1.0, 6.0)] == [-5.0, 6.0]
    assert [(b.portrait, b.expression, b.weight) for b in guidance_branches(1.0, 1.0)] == [(True, True, 1.0)]


def test_noise_is_local_and_repeats() -> None:
    before = torch.get_rng_state()
    first, again, other = (draw_noise(seed, 5, (64, 72)) for seed in (7, 7, 8))
    assert torch.equal(before, torch.get_rng_state())
    assert first.portrait.shape == (1, 3, 64, 72) and first.latents.shape == (5, 4, 8, 9)
    assert torch.equal(first.latents, again.latents) and torch.equal(first.portrait, again.portrait)
    assert not torch.equal(first.latents, other.latents)


def test_ramp_is_linear_over_the_steps() -> None:
    assert ramp_values((1.0, 3.0), 5) == [1.0, 1.5, 2.0, 2.5, 3.0]
    assert ramp_values(2.0, 3) == [2.0] * 3
    assert ramp_values((1.0, 3.0), 1) == [1.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 2.5}, "whole number"),
        ({"steps": True}, "steps is True"),
        ({"overlap": 25}, "smaller than the window of 25"),
        ({"portrait_guidance": float("nan")}, "portrait_guidance is nan"),
        ({"expression_guidance": (1.0, float("inf"))}, "expression_guidance is inf"),
        ({"schedule": "loose"}, "Choose one of: reference, tight"),
        ({"noise_strength": 0.01}, "Raise it to at least 0.04"),
        ({"noise_strength": 0.3, "steps": 3}, "Raise it to at least 0.334"),
        ({"noise_strength": 1.1}, "from 0 to 1"),
        ({"seed": -1}, "seed is -1"),
        ({"motion_bucket": "much"}, "motion_bucket is 'much'"),
    ],
)
def test_settings_out_of_range_are_named(values: dict, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        SamplerSettings(**values)


def test_released_defaults() -> None:
    settings = SamplerSettings()
    assert (settings.steps, settings.window, settings.overlap, settings.shift) == (25, 25, 0, 7)
    assert (settings.portrait_guidance, settings.expression_guidance) == (3.0, 6.0)
    assert (settings.motion_bucket, settings.expression_bucket, settings.noise_strength) == (8, 16, 1.0)


def test_the_step_that_is_asked_for_is_run() -> None:
    assert SamplerSettings(steps=50, noise_strength=0.58).steps_run == 29
    assert SamplerSettings(steps=25, noise_strength=0.999).steps_run == 24
    for steps in range(1, 60):
        with pytest.raises(SettingError) as refused:
            SamplerSettings(steps=steps, noise_strength=1e-6)
        least = float(str(refused.value).split("at least ")[1].split(",")[0])
        assert SamplerSettings(steps=steps, noise_strength=least).steps_run == 1


def test_values_that_are_not_finite_stop_the_step_that_made_them() -> None:
    calls = []

    def predict(x: torch.Tensor, sigma: torch.Tensor, frames: list[int], step: int) -> torch.Tensor:
        calls.append(step)
        return x * (float("inf") if step == 1 else 0.1)

    windows = window_schedule("tight", 6, 6, 0, 0)
    with pytest.raises(VideoError, match=r"Step 2 of 4.*bfloat16"):
        sample_clip(predict, torch.ones(6, 4, 2, 2), karras_sigmas(4), windows)
    assert calls == [0, 1]


def test_large_batches_are_attended_to_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = torch.randn(3, 7, 5, 8, generator=torch.Generator().manual_seed(0))
    whole = sdpa_attention(q, k, v, 2)
    monkeypatch.setattr("dicetalk.layers.LARGEST_BATCH", 3)
    seen = []
    real = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v: (seen.append(len(q)), real(q, k, v))[1])
    assert torch.equal(sdpa_attention(q, k, v, 2), whole) and seen == [3, 3, 1]


def test_keys_and_values_beyond_the_memory_are_projected_for_each_window() -> None:
    class Small:
        key_value_channels = 1

        def project_adapter(self, adapter: int, tokens: torch.Tensor) -> torch.Tensor:
            if len(tokens) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return tokens

    notices: list[str] = []
    stored = StoredRows(torch.arange(12.0).reshape(6, 2, 1))
    rows = ProjectedRows(Small(), 0, stored, 1 << 20, torch.device("cpu"), torch.float32, Hooks(notice=notices.append))
    values, index = rows(torch.tensor([[4, 1, 4]]))
    assert notices == [NOT_KEPT] and torch.equal(values[index[0]], stored.values[[4, 1, 4]])
