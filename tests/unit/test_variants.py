"""Registry of model variants, and a variant that is defined here, without emotion and pose, through the pipeline."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from released_files import SMALL
from torch import nn

from dicetalk.adapters import AUDIO, EMOTION, Conditions
from dicetalk.audio.features import SpeechFeatures
from dicetalk.checkpoints.load import DiceModel
from dicetalk.checkpoints.networks import DICE_NETWORKS
from dicetalk.checkpoints.variants import FULL, RELEASED, SONIC, TINY, VARIANTS, Variant
from dicetalk.config import FULL as RELEASED_SIZES
from dicetalk.config import SamplingConfig
from dicetalk.denoise.conditioning import EncodedPortrait
from dicetalk.denoise.unet import UNet
from dicetalk.emotion.prior import PRIOR_DIM, EmotionPrior
from dicetalk.emotion.track import EmotionTrack
from dicetalk.errors import SettingError
from dicetalk.hooks import Hooks
from dicetalk.layers import sdpa_attention
from dicetalk.pipeline import denoise
from dicetalk.settings import SamplerSettings

FRAMES = 7
SIZES = replace(
    SMALL,
    unet=replace(SMALL.unet, cross_attention_dim=32, num_adapters=1),
    audio=replace(SMALL.audio, layers=2, channels=8, output_dim=32, context_tokens=3),
    sampling=SamplingConfig(portrait_guidance=2.0, expression_guidance=7.5),
)
EMOTIONS = EmotionTrack.constant(EmotionPrior(torch.ones(PRIOR_DIM)))


SPEECH_ONLY = Variant(
    "speech-only",
    "audio adapter alone",
    SIZES,
    networks=tuple(network for network in DICE_NETWORKS if network.field in ("unet", "audio_projection")),
    adapters=(AUDIO,),
)


def some(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model() -> DiceModel:
    """The variant with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = {
            network.field: network.build(SPEECH_ONLY.config, nn, sdpa_attention).eval()
            for network in SPEECH_ONLY.networks
        }
    others = ("emotion_model", "pose_guider", "vae", "image_encoder", "whisper", "flownet", "embedder")
    return DiceModel(
        **built,
        **dict.fromkeys((*others, "expression_reader", "detector_path")),
        priors={},
        config=SPEECH_ONLY.config,
        dtype=torch.float32,
        adapters=SPEECH_ONLY.adapters,
    )


@pytest.fixture(scope="module")
def portrait() -> EncodedPortrait:
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 8:48, 16:56] = 1
    return EncodedPortrait(some(1, 1, 32, seed=1), some(4, 8, 8, seed=2), some(4, 8, 8, seed=3), mask, None)


def speech(seed: int) -> SpeechFeatures:
    states = torch.zeros(4 + 4 * FRAMES + 6, 2, 8)
    states[4:-6] = 2 * some(4 * FRAMES, 2, 8, seed=seed)
    return SpeechFeatures(states, FRAMES, FRAMES / 12.5)


def test_a_variant_without_emotion_and_pose_goes_through_the_pipeline(
    model: DiceModel, portrait: EncodedPortrait
) -> None:
    settings = replace(SPEECH_ONLY.settings, steps=2, window=4, overlap=1, shift=1, schedule="tight")
    settings = replace(settings, motion_bucket=tuple(16.0 + frame for frame in range(FRAMES)))
    assert (settings.portrait_guidance, settings.expression_guidance) == (2.0, 7.5)
    calls = []

    def keep(unet: UNet, given: tuple) -> None:
        _, _, ids, context, pose = given
        calls.append((ids, len(context.adapters), pose))

    hook = model.unet.register_forward_pre_hook(keep)
    notices: list[str] = []
    hooks = Hooks(notice=notices.append)
    made = denoise(model, portrait, speech(4), None, settings, hooks=hooks)
    hook.remove()
    assert made.values.shape == (FRAMES, 4, 8, 8) and made.values.isfinite().all() and notices == []
    # Each window has the mean of its frames' buckets, in every branch.
    assert {(len(ids), adapters, pose) for ids, adapters, pose in calls} == {(3, 1, None)}
    assert [ids[:, 1].unique().tolist() for ids, _, _ in calls[:2]] == [[17.5], [20.5]]

    other = denoise(model, portrait, speech(5), None, settings)
    assert (other.values - made.values).abs().max() > 1e-3, "the speech has no influence"
    silent = denoise(model, portrait, speech(5), None, replace(settings, audio_scale=0.0))
    assert (other.values - silent.values).abs().max() > 1e-3, "the scale has no influence"


def test_what_a_variant_cannot_use_is_reported(model: DiceModel, portrait: EncodedPortrait) -> None:
    notices: list[str] = []
    settings = SamplerSettings(steps=1, window=FRAMES, schedule="tight")
    denoise(model, portrait, speech(4), EMOTIONS, settings, hooks=Hooks(notice=notices.append))
    assert len(notices) == 1 and "no emotions" in notices[0] and "DICE-Talk" in notices[0]
    with pytest.raises(SettingError, match="no bank"):
        denoise(model, portrait, speech(4), None, replace(settings, retrieval=True))
    with pytest.raises(SettingError, match="give one"):
        EMOTION.tokens(nn.Identity(), RELEASED_SIZES, Conditions(speech(4), None, settings))


def test_the_registry_says_where_files_come_from() -> None:
    assert list(VARIANTS.values()) == [TINY, FULL, SONIC] and [*VARIANTS] == ["tiny", "full", "sonic"]
    assert FULL.settings == SamplerSettings() and TINY.settings.steps == 10
    assert [adapter.name for adapter in FULL.adapters] == ["audio", "emotion"]
    assert all(file.url.startswith("https://") for file in FULL.files) and TINY.files == ()
    assert "CC BY-NC-SA 4.0" in FULL.licences.values() and len(FULL.licences) == 4


@pytest.mark.parametrize("variant", RELEASED, ids=lambda variant: variant.name)
def test_the_files_of_every_released_variant_are_documented(variant: Variant) -> None:
    text = (Path(__file__).parents[2] / "docs" / "weights.md").read_text("utf-8")
    names = {file.name for file in variant.own_files}
    assert {name for name in names if f"`{name}`" not in text} == set()
    assert variant.option in text


def test_a_variant_whose_parts_do_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="1 adapters, its UNet 2"):
        replace(FULL, adapters=(AUDIO,))
    with pytest.raises(ValueError, match="emotion_model"):
        replace(FULL, networks=SPEECH_ONLY.networks)
