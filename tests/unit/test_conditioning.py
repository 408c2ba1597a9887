"""The portrait's latents in the precision that the model was made for."""

import copy
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder
from released_files import SMALL

from dicetalk.config import FULL, SONIC, ModelConfig, SamplingConfig
from dicetalk.denoise.conditioning import HALF_OVERFLOWED, encode_picture
from dicetalk.errors import CheckpointError
from dicetalk.hooks import Hooks
from dicetalk.residency import CPU

SIZE = (64, 64)


@pytest.fixture
def vae() -> AutoencoderKLTemporalDecoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoencoderKLTemporalDecoder(
            block_out_channels=(32, 32, 32, 32), layers_per_block=1, down_block_types=("DownEncoderBlock2D",) * 4
        ).eval()


def noise(seed: int) -> torch.Tensor:
    return torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("half", [False, True])
@torch.no_grad()
def test_both_latents_are_the_encoders_own_in_that_precision(vae: AutoencoderKLTemporalDecoder, half: bool) -> None:
    image, added = noise(1)[0].clamp(-1, 1), noise(2)
    vae.half()
    dtype = torch.float16 if half else torch.float32
    plain = copy.deepcopy(vae).to(dtype)
    expected = [plain.encode(x.to(dtype)).latent_dist.mode()[0].float() for x in (image + 0.1 * added, image[None])]
    noised, start = encode_picture(vae, image, added, 0.1, CPU, half=half)
    assert torch.equal(noised, expected[0])
    assert torch.equal(start, expected[1] * vae.config.scaling_factor)
    assert noised.dtype == start.dtype == torch.float32
    assert {parameter.dtype for parameter in vae.parameters()} == {torch.float16}, "the VAE is left as it was"


@torch.no_grad()
def test_an_overflow_in_half_precision_is_encoded_again(vae: AutoencoderKLTemporalDecoder) -> None:
    image = noise(1)[0].clamp(-1, 1)
    vae.encoder.conv_in.weight.mul_(3e5)  # its sums, not itself, overflow; the norms behind it make them small again
    vae.half()
    expected, _ = encode_picture(vae, image, noise(2), 0.0, CPU)
    notices: list[str] = []
    made, _ = encode_picture(vae, image, noise(2), 0.0, CPU, half=True, hooks=Hooks(notice=notices.append))
    assert notices == [HALF_OVERFLOWED]
    assert made.isfinite().all()
    assert torch.equal(made, expected)


def test_what_the_released_models_were_made_for() -> None:
    assert (FULL.sampling.schedule, FULL.sampling.decode_chunk, FULL.sampling.portrait_dtype) == (
        *("reference", 10, "float32"),
    )
    assert (SONIC.sampling.schedule, SONIC.sampling.decode_chunk, SONIC.sampling.portrait_dtype) == (
        *("ring", 8, "float16"),
    )
    older = SMALL.to_dict()
    for name in ("schedule", "decode_chunk", "portrait_dtype"):
        del older["sampling"][name]
    assert ModelConfig.from_dict(older) == SMALL
    assert ModelConfig.from_dict(replace(SMALL, sampling=SONIC.sampling).to_dict()).sampling == SONIC.sampling
    for name in ("schedule", "portrait_dtype"):
        with pytest.raises(CheckpointError, match=f"{name} 'loose' is unknown"):
            SamplingConfig(**{name: "loose"})
