"""From sampled latents to frames: chunks, padding, frame rate."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder
from released_files import SMALL

from dicetalk.checkpoints.load import DiceModel
from dicetalk.denoise.latents import Latents
from dicetalk.hooks import Hooks
from dicetalk.pipeline import render
from dicetalk.video.rife import FlowNet

FRAMES = 7


@pytest.fixture(scope="module")
def model() -> DiceModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderKLTemporalDecoder(
            block_out_channels=(32, 32, 32, 32), layers_per_block=1, down_block_types=("DownEncoderBlock2D",) * 4
        )
        with torch.no_grad():  # a fresh decoder ignores the other frames
            for name, parameter in vae.named_parameters():
                if name.endswith("mix_factor"):
                    parameter.fill_(0.0)
                elif "temporal_res_block" in name and name.endswith("weight"):
                    parameter.add_(0.1 * torch.randn_like(parameter))
        flownet = FlowNet(width=8)
    networks = ("unet", "audio_projection", "emotion_model", "pose_guider", "image_encoder", "whisper")
    return DiceModel(
        **dict.fromkeys((*networks, "embedder", "expression_reader", "detector_path")),
        vae=vae.eval(),
        flownet=flownet.eval(),
        priors={},
        config=SMALL,
        dtype=torch.float32,
    )


@pytest.fixture(scope="module")
def latents() -> Latents:
    """Seven frames, and three of padding."""
    return Latents(torch.randn(FRAMES + 3, 4, 4, 4, generator=torch.Generator().manual_seed(1)), FRAMES)


@torch.no_grad()
def decoded(model: DiceModel, latents: Latents, chunk: int) -> torch.Tensor:
    """Each chunk alone, the last one with the padding that follows it."""
    unscaled = latents.values / model.vae.config.scaling_factor
    parts = [unscaled[start : start + chunk] for start in range(0, FRAMES, chunk)]
    pictures = torch.cat([model.vae.decode(part, num_frames=len(part)).sample for part in parts])
    return (pictures[:FRAMES] / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize("chunk", [2, 3, 10])
def test_chunks_are_of_the_length_that_is_asked_for(model: DiceModel, latents: Latents, chunk: int) -> None:
    clip = render(model, latents, decode_chunk=chunk, interpolate=False)
    frames = torch.cat(list(clip.chunks))
    assert (clip.frames, clip.fps) == (FRAMES, 12.5)
    torch.testing.assert_close(frames, decoded(model, latents, chunk))
    assert not torch.allclose(frames, decoded(model, latents, 5 if chunk != 5 else 4), atol=1e-3)


def test_without_a_number_chunks_are_of_the_models_length(model: DiceModel, latents: Latents) -> None:
    made_for = replace(model, config=replace(SMALL, sampling=replace(SMALL.sampling, decode_chunk=4)))
    frames = torch.cat(list(render(made_for, latents, interpolate=False).chunks))
    torch.testing.assert_close(frames, decoded(model, latents, 4))


def test_a_frame_between_each_pair(model: DiceModel, latents: Latents) -> None:
    clip = render(model, latents, decode_chunk=3)
    frames = torch.cat(list(clip.chunks))
    assert clip.fps == 25 and clip.frames == len(frames) == 2 * FRAMES - 1
    torch.testing.assert_close(frames[::2], decoded(model, latents, 3))


def test_without_rife_the_rate_is_the_models_and_reported(model: DiceModel, latents: Latents) -> None:
    notices: list[str] = []
    clip = render(replace(model, flownet=None), latents, hooks=Hooks(notice=notices.append))
    assert (clip.frames, clip.fps) == (FRAMES, 12.5) and len(torch.cat(list(clip.chunks))) == FRAMES
    assert len(notices) == 1 and "12.5 frames" in notices[0]
