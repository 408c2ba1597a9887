"""SVD-XT's single file against numerics recorded from its own program.

`data/svd_single_file.safetensors` holds inputs and outputs of generative-models' VAE encoder and temporal decoder and
of open_clip's vision tower at small sizes, in float64, and in its metadata the names and shapes of their state dicts
under the prefixes of the published checkpoint. Weights are made again from those by :func:`weight`.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dicetalk.checkpoints import networks
from dicetalk.checkpoints.read import DamagedFileError
from dicetalk.checkpoints.strict import fill
from dicetalk.checkpoints.svd import CLIP, ENCODER, FIRST_STAGE, read_image_encoder, read_vae
from dicetalk.config import ImageEncoderConfig, VAEConfig

RECORDED = Path(__file__).parent / "data" / "svd_single_file.safetensors"
ATOL = 1e-5


def weight(name: str, shape: list[int]) -> torch.Tensor:
    """The recorded run's weight `name`."""
    generator = np.random.Generator(np.random.PCG64([7, zlib.crc32(name.encode())]))
    z = generator.standard_normal(shape)
    if len(shape) > 1:
        z = z / np.sqrt(np.prod(shape[1:]))
    elif not name.endswith("mix_factor"):
        z = 0.2 * z + name.endswith("weight")
    return torch.from_numpy(z.astype(np.float32))


class Recording:
    def __init__(self) -> None:
        with safe_open(RECORDED, framework="pt") as file:
            metadata = file.metadata()
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.shapes: dict[str, list[int]] = json.loads(metadata["shapes"])
        self.vae = VAEConfig(**json.loads(metadata["vae"]))
        self.image_encoder = ImageEncoderConfig(**json.loads(metadata["image_encoder"]))

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: weight(name, shape) for name, shape in self.shapes.items()}

    def check(self, name: str, actual: torch.Tensor) -> None:
        torch.testing.assert_close(actual.double(), self.tensors[name], rtol=0, atol=ATOL)


@pytest.fixture(scope="module")
def recording() -> Recording:
    return Recording()


def load_vae(path: Path, config: VAEConfig) -> torch.nn.Module:
    vae = networks.vae(config)
    return fill(path, vae, read_vae(path, list(vae.state_dict())), torch.float32)


def load_image_encoder(path: Path, config: ImageEncoderConfig) -> torch.nn.Module:
    encoder = networks.image_encoder(config)
    return fill(path, encoder, read_image_encoder(path, list(encoder.state_dict())), torch.float32)


@pytest.fixture(scope="module")
def checkpoint(recording: Recording, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("svd") / "svd_xt.safetensors"
    save_file(recording.weights(), path)
    return path


@torch.no_grad()
def test_vae_encodes_as_the_original(recording: Recording, checkpoint: Path) -> None:
    vae = load_vae(checkpoint, recording.vae)
    moments = vae.encode(recording.tensors["picture"].float()).latent_dist.parameters
    recording.check("moments", moments)


@torch.no_grad()
def test_temporal_decoder_decodes_as_the_original(recording: Recording, checkpoint: Path) -> None:
    vae = load_vae(checkpoint, recording.vae)
    latents = recording.tensors["latents"].float()
    recording.check("frames", vae.decode(latents, num_frames=len(latents)).sample)


@torch.no_grad()
def test_clip_sees_as_the_original(recording: Recording, checkpoint: Path) -> None:
    encoder = load_image_encoder(checkpoint, recording.image_encoder)
    recording.check("embedding", encoder(recording.tensors["clip_pixels"].float()).image_embeds)


@torch.no_grad()
def test_checkpoint_without_the_conditioners_encoder_uses_the_first_stage(recording: Recording, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    save_file({name: tensor for name, tensor in recording.weights().items() if not name.startswith(ENCODER)}, path)
    vae = load_vae(path, recording.vae)
    moments = vae.encode(recording.tensors["picture"].float()).latent_dist.parameters
    recording.check("first_stage_moments", moments)


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (f"{FIRST_STAGE}decoder.up.0.block.0.time_stack.in_layers.2.weight", "temporal_res_block.conv1.weight"),
        (f"{FIRST_STAGE}decoder.conv_out.time_mix_conv.bias", "decoder.time_conv_out.bias"),
        (f"{ENCODER}quant_conv.weight", "quant_conv.weight"),
    ],
)
def test_a_missing_tensor_of_the_vae_is_named(recording: Recording, tmp_path: Path, lost: str, message: str) -> None:
    path = tmp_path / "svd_xt.safetensors"
    save_file({name: tensor for name, tensor in recording.weights().items() if name != lost}, path)
    with pytest.raises(DamagedFileError, match=rf"1 of \d+ tensors missing .*{message}"):
        load_vae(path, recording.vae)


def test_missing_attention_of_clip_is_named(recording: Recording, tmp_path: Path) -> None:
    path = tmp_path / "svd_xt.safetensors"
    lost = f"{CLIP}transformer.resblocks.0.attn.in_proj_weight"
    save_file({name: tensor for name, tensor in recording.weights().items() if name != lost}, path)
    with pytest.raises(DamagedFileError, match=r"3 of \d+ tensors missing .*self_attn"):
        load_image_encoder(path, recording.image_encoder)


def test_a_deeper_network_is_refused(recording: Recording, tmp_path: Path) -> None:
    path = tmp_path / "svd_xt.safetensors"
    extra = {
        f"{FIRST_STAGE}decoder.up.0.block.9.conv1.bias": torch.zeros(3),
        f"{CLIP}transformer.resblocks.9.x": torch.ones(1),
    }
    save_file(recording.weights() | extra, path)
    with pytest.raises(
        DamagedFileError, match=r"unexpected \(first_stage_model\.decoder\.up\.0\.block\.9\.conv1\.bias\)"
    ):
        load_vae(path, recording.vae)
    with pytest.raises(DamagedFileError, match=r"unexpected \(.*resblocks\.9\.x\)"):
        load_image_encoder(path, recording.image_encoder)


def test_the_unet_in_the_file_is_not_read(recording: Recording, tmp_path: Path) -> None:
    path = tmp_path / "svd_xt.safetensors"
    save_file(recording.weights() | {"model.diffusion_model.out.2.bias": torch.zeros(4, dtype=torch.int64)}, path)
    load_vae(path, recording.vae)  # an integer would be refused where it is looked at
    load_image_encoder(path, recording.image_encoder)
