"""The pipeline's denoising with everything off its default, against the method written out in `plain_sampling`.

An emotion that changes over time between frames, two unequal adapter scales below 1, part of the noise range, guidance
ramps, windows that overlap: what is constant or 1 hides which frame, which adapter and which end was meant.
"""

from dataclasses import replace

import pytest
import torch
from plain_sampling import PlainSettings, plain_clip, plain_latents, ring
from released_files import SMALL

from dicetalk.audio.features import SpeechFeatures
from dicetalk.audio.projection import AudioProjection
from dicetalk.checkpoints.load import DiceModel
from dicetalk.config import SamplingConfig, TokenMLPConfig
from dicetalk.denoise.conditioning import EncodedPortrait
from dicetalk.denoise.guided import GuidedUNet
from dicetalk.denoise.unet import UNet
from dicetalk.emotion.bank import EmotionModel
from dicetalk.emotion.prior import PRIOR_DIM, EmotionPrior
from dicetalk.emotion.track import EmotionTrack, Keyframe
from dicetalk.pipeline import denoise
from dicetalk.settings import SamplerSettings

FRAMES = 9
SETTINGS = SamplerSettings(
    steps=5,
    noise_strength=0.6,
    window=6,
    overlap=2,
    shift=3,
    portrait_guidance=(1.5, 3.0),
    expression_guidance=(4.0, 2.0),
    audio_scale=0.35,
    emotion_scale=0.8,
    motion_bucket=60,
    expression_bucket=20,
)
PLAIN = PlainSettings(
    steps=5,
    steps_run=3,
    windows=ring(FRAMES + 6, 6, 2, 3),
    portrait_guidance=(1.5, 3.0),
    expression_guidance=(4.0, 2.0),
    audio_scale=0.35,
    emotion_scale=0.8,
    motion_bucket=60,
    expression_bucket=20,
    sigma_min=0.05,
    sigma_max=30.0,
)
TIGHT = ((0, 3, 4), (0, 2, 4), (0, 1, 4))
"""First frames, in each step, of windows of 5 over 9 frames that overlap by 2 and whose borders move by 1."""


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model() -> DiceModel:
    """A small network that its conditions move strongly."""
    unet_config = replace(SMALL.unet, cross_attention_dim=32)
    audio = replace(SMALL.audio, layers=2, channels=8, output_dim=32, context_tokens=3)
    emotion = replace(SMALL.emotion, query=TokenMLPConfig(PRIOR_DIM, 16, 32, 4), attention_dim=32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet, projection, feeling = UNet(unet_config), AudioProjection(audio), EmotionModel(emotion)
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if "_ip." in name:
                weight.mul_(4)
    return DiceModel(
        unet=unet.eval(),
        audio_projection=projection.eval(),
        emotion_model=feeling.eval(),
        **dict.fromkeys(("pose_guider", "vae", "image_encoder", "whisper", "flownet", "embedder", "expression_reader")),
        priors={},
        detector_path=None,
        config=replace(
            SMALL,
            unet=unet_config,
            audio=audio,
            emotion=emotion,
            sampling=SamplingConfig(sigma_min=0.05, sigma_max=30.0),
        ),
        dtype=torch.float32,
    )


@pytest.fixture(scope="module")
def portrait() -> EncodedPortrait:
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 8:48, 16:56] = 1
    return EncodedPortrait(
        some(1, 1, 32), some(4, 8, 8, seed=1), some(4, 8, 8, seed=2), mask, some(1, 32, 8, 8, seed=3)
    )


@pytest.fixture(scope="module")
def features() -> SpeechFeatures:
    states = torch.zeros(4 + 4 * FRAMES + 6, 2, 8)
    states[4:-6] = 2 * some(4 * FRAMES, 2, 8, seed=4)
    return SpeechFeatures(states, FRAMES, FRAMES / 12.5)


A, B, C = (EmotionPrior(2 * some(PRIOR_DIM, seed=seed)) for seed in (5, 6, 7))
TRACK = EmotionTrack((Keyframe(0.1, A), Keyframe(0.3, B, "hold"), Keyframe(0.5, C, "smooth"), Keyframe(0.7, A)))


def means_of_frames() -> torch.Tensor:
    """The emotion at ``i / 12.5`` s, worked out for each frame by hand."""
    begun, late = (3 * way**2 - 2 * way**3 for way in ((0.56 - 0.5) / 0.2, (0.64 - 0.5) / 0.2))
    rows = [
        A.mu,  # 0 s
        A.mu,  # 0.08 s
        A.mu + (0.16 - 0.1) / 0.2 * (B.mu - A.mu),
        A.mu + (0.24 - 0.1) / 0.2 * (B.mu - A.mu),
        B.mu,  # 0.32 s, held
        B.mu,  # 0.40 s
        B.mu,  # 0.48 s
        C.mu + begun * (A.mu - C.mu),  # 0.56 s
        C.mu + late * (A.mu - C.mu),  # 0.64 s
    ]
    return torch.stack(rows)


def released_noise(seed: int, frames: int) -> torch.Tensor:
    """The portrait's noise is drawn first, then the clip's."""
    generator = torch.Generator().manual_seed(seed)
    torch.randn(1, 3, 64, 64, generator=generator)
    return torch.randn(1, frames, 4, 8, 8, generator=generator)[0]


@pytest.mark.parametrize("changes", [{}, {"batched_guidance": False}, {"key_value_budget": 0}], ids=str)
def test_everything_off_its_default(
    model: DiceModel, portrait: EncodedPortrait, features: SpeechFeatures, changes: dict
) -> None:
    made = denoise(model, portrait, features, TRACK, replace(SETTINGS, seed=11, **changes))
    noise = released_noise(11, FRAMES + 6)
    expected = plain_latents(model.unet, plain_clip(model, portrait, features, means_of_frames(), noise), PLAIN)
    assert made.frames == FRAMES and made.values.shape == expected.shape
    assert (made.values - expected).abs().max() < 1e-4


@pytest.mark.parametrize(
    "changes",
    [
        {"solver": "dpmpp_2m"},
        {"guidance_low": 0.1},
        {"guidance_high": 1.0},
        {"guidance_every": 2},
        {"solver": "dpmpp_2m", "guidance_low": 0.1, "guidance_every": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("batched", [True, False])
def test_steps_that_are_left_out(
    model: DiceModel, portrait: EncodedPortrait, features: SpeechFeatures, changes: dict, batched: bool
) -> None:
    settings = replace(SETTINGS, steps=7, batched_guidance=batched)
    plain = replace(PLAIN, steps=7, steps_run=settings.steps_run)
    noise = released_noise(0, FRAMES + 6)
    made = denoise(model, portrait, features, TRACK, replace(settings, **changes)).values
    clip = plain_clip(model, portrait, features, means_of_frames(), noise)
    assert (made - plain_latents(model.unet, clip, replace(plain, **changes))).abs().max() < 1e-4
    assert (made - denoise(model, portrait, features, TRACK, settings).values).abs().max() > 1e-2


def test_tight_windows_are_neither_padded_nor_more_than_needed(
    model: DiceModel, portrait: EncodedPortrait, features: SpeechFeatures
) -> None:
    noise, calls = some(FRAMES, 4, 8, 8, seed=8), []
    kept = noise.clone()

    def counted(*arguments: object) -> object:
        network = GuidedUNet(*arguments)
        return lambda x, sigma, frames, step: (calls.append((step, frames)), network(x, sigma, frames, step))[1]

    settings = replace(SETTINGS, schedule="tight", window=5, overlap=2, shift=1)
    made = denoise(model, portrait, features, TRACK, settings, guided=counted, noise=noise)
    windows = [[list(range(first, first + 5)) for first in firsts] for firsts in TIGHT]
    assert calls == [(step, frames) for step in range(3) for frames in windows[step]]
    assert torch.equal(noise, kept), "the caller's noise was changed"
    clip = plain_clip(model, portrait, features, means_of_frames(), noise)
    expected = plain_latents(model.unet, clip, replace(PLAIN, windows=lambda step: windows[step]))
    assert len(made.values) == FRAMES
    assert (made.values - expected).abs().max() < 1e-4


@pytest.mark.parametrize("strength", [1.0, 0.8, 0.4, 0.2])
def test_a_weaker_noise_starts_lower_and_ends_as_low(
    model: DiceModel, portrait: EncodedPortrait, features: SpeechFeatures, strength: float
) -> None:
    """Karras et al. 2022, eq. 5: of five levels from 30 to 0.05 the last ones are run, and zero comes after them."""
    low, high = 0.05 ** (1 / 7), 30 ** (1 / 7)
    levels = [(high + i / 4 * (low - high)) ** 7 for i in range(5)][5 - round(5 * strength) :]
    seen: list[float] = []
    starts = []

    def watched(*arguments: object) -> object:
        def predict(x: torch.Tensor, sigma: torch.Tensor, frames: list[int], step: int) -> torch.Tensor:
            if not seen:
                starts.append(x * (sigma**2 + 1).sqrt())
            seen.append(sigma.item())
            return torch.zeros_like(x)

        return predict

    settings = SamplerSettings(steps=5, noise_strength=strength, window=FRAMES, schedule="tight")
    noise = some(FRAMES, 4, 8, 8, seed=9)
    denoise(model, portrait, features, TRACK, settings, guided=watched, noise=noise)
    assert seen == pytest.approx(levels, rel=1e-5)
    torch.testing.assert_close(starts[0], portrait.start_latents + levels[0] * noise, atol=1e-4, rtol=1e-5)


def test_each_condition_matters_here(model: DiceModel, portrait: EncodedPortrait, features: SpeechFeatures) -> None:
    """The comparison above could not tell anything if the network did not care."""
    noise = some(FRAMES + 6, 4, 8, 8, seed=10)
    plain = denoise(model, portrait, features, TRACK, SETTINGS, noise=noise).values
    later = EmotionTrack(tuple(replace(key, seconds=key.seconds + 0.08) for key in TRACK.keyframes))
    swapped = replace(SETTINGS, audio_scale=SETTINGS.emotion_scale, emotion_scale=SETTINGS.audio_scale)
    for track, settings in (
        (later, SETTINGS),
        (TRACK, swapped),
        (TRACK, replace(SETTINGS, motion_bucket=SETTINGS.expression_bucket)),
        (TRACK, replace(SETTINGS, portrait_guidance=1.5)),
        (TRACK, replace(SETTINGS, expression_guidance=4.0)),
    ):
        other = denoise(model, portrait, features, track, settings, noise=noise).values
        assert (other - plain).abs().max() > 1e-2
