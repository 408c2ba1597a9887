"""Makes another set of fixtures of the same form from the library itself, to run `tests/golden` on.

Sizes, seeds and names of cases are others than in the own set; stages and outputs are left out, as a set may leave them
out; cases are described by a table where the own set has prose, and the other way round.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder
from golden_fixtures import Golden, recipe_weights
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from dicetalk.audio.projection import AudioProjection
from dicetalk.config import AudioConfig, EmotionConfig, PoseGuiderConfig, TokenMLPConfig, UNetConfig
from dicetalk.denoise.attention import AdapterContext, AttentionContext, mask_pyramid
from dicetalk.denoise.conditioning import PoseGuider
from dicetalk.denoise.guided import GuidedUNet
from dicetalk.denoise.unet import UNet
from dicetalk.emotion.bank import EmotionModel

RECIPE = "seeded by key. key is the state_dict key, gain 1 unless the entry says otherwise"
WIDTH, TOKENS = 16, 3
UNET = {
    "block_out_channels": [32, 32, 64, 64],
    "num_attention_heads": [2, 2, 4, 4],
    "layers_per_block": 1,
    "cross_attention_dim": WIDTH,
    "addition_time_embed_dim": 16,
    "in_channels": 8,
    "out_channels": 4,
    "num_adapter_tokens": [TOKENS, TOKENS],
}
VAE = {
    "block_out_channels": [32, 32, 32, 32],
    "layers_per_block": 1,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "latent_channels": 4,
    "scaling_factor": 0.2,
}
IMAGE = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "projection_dim": WIDTH,
}
POSE = {"conditioning_embedding_channels": 32, "conditioning_channels": 3, "block_out_channels": [4, 8, 8, 12]}
Outputs = dict[str, torch.Tensor]


class SetOfFixtures:
    """A folder that is being made, in the form of one program's fixtures."""

    def __init__(self, folder: Path, program: str = "DICE-Talk"):
        self.folder, self.program = folder, program
        self.files: dict[str, Any] = {}

    def write(self, name: str, entry: dict[str, Any], inputs: Outputs, outputs: Outputs, weights: Outputs) -> None:
        """Write one file and the manifest so far."""
        kinds = (("in", inputs), ("out", outputs), ("w", weights))
        tensors = {f"{kind}/{key}": value.contiguous().clone() for kind, table in kinds for key, value in table.items()}
        save_file(tensors, self.folder / name)
        tolerance = {key: {"atol": 1e-4 * max(1.0, value.abs().max().item())} for key, value in outputs.items()}
        self.files[name] = entry | {"tolerance": tolerance}
        manifest = {
            "set": "made",
            "reference": f"made here, in the form of {self.program}'s fixtures",
            "files": self.files,
        }
        (self.folder / "manifest.json").write_text(json.dumps(manifest))


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def filled(network: torch.nn.Module, seed: int) -> torch.nn.Module:
    """`network` with the weights of the recipe."""
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict(recipe_weights({"weights_recipe": RECIPE, "seeds": {"weights": seed}}, shapes))
    return network.eval()


@torch.no_grad()
def write_set(folder: Path) -> None:
    """Write the set into the empty `folder`."""
    made = SetOfFixtures(folder)
    _unet(made)
    _emotion(made)
    _audio(made)
    guider = filled(PoseGuider(PoseGuiderConfig(**POSE | {"block_out_channels": (4, 8, 8, 12)})), 71)
    clip = random(6, 1, 3, 2, 32, 24).abs()
    features = guider(clip[0].transpose(0, 1)).transpose(0, 1)[None]
    entry = {"config": POSE}
    made.write("pose_guider.safetensors", entry, {"narrow": clip}, {"narrow": features}, guider.state_dict())
    _loop(made, guider.state_dict())


def _unet(made: SetOfFixtures) -> None:
    unet = filled(UNet(UNetConfig.from_released(UNET)), 31)

    def inputs(seed: int, frames: int, height: int, width: int) -> Outputs:
        rows = 3 * frames
        return {
            "sample": random(seed, 3, frames, 8, height, width),
            "timestep": torch.tensor(0.7),
            "clip": random(seed + 1, rows, 1, WIDTH),
            "audio": random(seed + 2, rows, TOKENS, WIDTH),
            "emotion": random(seed + 3, rows, TOKENS, WIDTH),
            "added_time_ids": torch.tensor([[12.5, 9.0, 17.0]]).expand(3, -1),
        }

    def run(given: Outputs, scales: list[float], mask: torch.Tensor | None) -> torch.Tensor:
        batch, frames, _, height, width = given["sample"].shape
        index = torch.arange(batch * frames).reshape(batch, frames)
        masks = None if mask is None else mask_pyramid(mask, (height, width), 4)
        adapters = tuple(
            AdapterContext(unet.project_adapter(i, given[name]), index, scales[i], masks)
            for i, name in enumerate(("audio", "emotion"))
        )
        context = AttentionContext(unet.project_clip(given["clip"]), index, adapters)
        return unet(given["sample"], given["timestep"], given["added_time_ids"], context)[0]

    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 5:40, 9:50] = 1
    shared = inputs(200, 2, 8, 8)
    cases = {
        "unmasked": {"inputs": "wide", "scale": [1.0, 1.0], "masked": False},
        "described": {"inputs": "wide", "scale": [0.4, 1.2], "mask_rect": [5, 40, 9, 50]},
    }
    outputs = {
        "unmasked/sample": run(shared, [1.0, 1.0], None),
        "described/sample": run(shared, [0.4, 1.2], mask),
        "described/mask_level1": mask_pyramid(mask, (8, 8), 4)[4, 4].flatten(),
    }
    entry = {"config": UNET, "weights_recipe": RECIPE, "seeds": {"weights": 31}, "cases": cases}
    made.write("unet_tiny.safetensors", entry, {f"wide/{k}": v for k, v in shared.items()}, outputs, {})

    alone = inputs(300, 1, 16, 8)
    tall = torch.ones(1, 1, 128, 64)
    words = "further cases. first-one: scales [1, 0] with masks; lacking: scales [0.5, 2] without masks"
    given = {f"first-one/{k}": v for k, v in (alone | {"mask": tall}).items()}
    outputs = {"first-one/sample": run(alone, [1.0, 0.0], tall), "lacking/sample": torch.zeros(3, 1, 4, 16, 8)}
    made.write("unet_tiny_extra.safetensors", {"what": words}, given, outputs, {})


def _emotion(made: SetOfFixtures) -> None:
    sizes = {"channels": 256, "intermediate_dim": 12, "output_dim": 40, "context_tokens": 3}
    bank = {"channels": 20, "intermediate_dim": 12, "output_dim": 40, "context_tokens": 2}
    config = {
        "emo_linear": sizes,
        "kv_tokens_linear": bank,
        "codebook": {"src_dim": 20, "codebook_size": 5},
        "attention": {"output_dim": 24, "num_heads": 3},
    }
    query, keys = (TokenMLPConfig(*table.values()) for table in (sizes, bank))
    model = filled(EmotionModel(EmotionConfig(query, keys, 5, 24, 3)), 41)
    prior = random(42, 1, 2, 1, 1, 256)
    tokens = model.tokens(prior.flatten(0, -2))
    outputs = {
        "joy/retrieval_False/tokens": tokens[None],
        "joy/retrieval_True/tokens_every5th": model.retrieved_tokens(prior.flatten(0, -2))[0].flatten()[::5],
        "nothing/retrieval_False/tokens": model.tokens(torch.zeros(1, 256))[None],
        "test/joy/retrieval_False": tokens[0],
    }
    made.write("emotion_model.safetensors", {"config": config}, {"joy/prior": prior}, outputs, model.state_dict())


def _audio(made: SetOfFixtures) -> None:
    config = {"seq_len": 10, "blocks": 3, "channels": 8, "intermediate_dim": 12, "output_dim": 16, "context_tokens": 2}
    model = filled(AudioProjection(AudioConfig(10, 3, 8, 12, 16, 2)), 51)
    states = random(52, 1, 40, 3, 8)
    padded = torch.nn.functional.pad(states[:, :18], (0, 0, 0, 0, 4, 6))
    windows = torch.stack([padded[0, 4 * i : 4 * i + 10] for i in range(4)])
    cases = {
        "speech": {"audio_len": 9, "step": 2, "frames": 4},
        "limit": {"audio_len": 9, "step": 2, "frames": 4},
        "unrecorded": {"audio_len": 7, "step": 1, "frames": 7},
    }
    inputs = {"speech/hidden_states_0": states, "limit/hidden_states_0": states, "alone": windows[:1]}
    outputs = {
        "speech/padded": padded,
        "speech/windows": windows,
        "limit/cond": model(windows),
        "alone": model(windows[:1]),
        "none": model(torch.zeros(10, 3, 8)),
    }
    made.write("audio_proj.safetensors", {"config": config, "cases": cases}, inputs, outputs, model.state_dict())


def _loop(made: SetOfFixtures, pose_guider: Outputs) -> None:
    vae = filled(AutoencoderKLTemporalDecoder.from_config(VAE), 61)
    image_encoder = filled(CLIPVisionModelWithProjection(CLIPVisionConfig(**IMAGE)), 62)
    frames, window = 2, 3
    tables = {"steps": 2, "g1": [2.0, 2.0], "g2": [4.0, 4.0], "overlap": 0, "shift": 1, "chunk": 4, "N": frames}
    cases = {"given": tables | {"fpb": window}, "drawn": tables | {"fpb": window, "gen": 17, "aug": 0.05}}
    inputs = {"shared/ref_image": random(63, 1, 3, 64, 64), "shared/clip_image": random(64, 1, 3, 28, 28)}
    for number, case in enumerate(cases):
        for kind, rows in (("audio", frames), ("uncond_audio", 1), ("emotion", 1), ("uncond_emotion", 1)):
            inputs[f"{case}/{kind}"] = random(70 + number, rows, TOKENS, WIDTH)
        inputs[f"{case}/face_mask"] = torch.ones(1, 64, 64, dtype=torch.uint8)
    inputs["given/latents"] = random(80, 1, frames + window, 4, 8, 8)
    inputs["drawn/ref_noise"] = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(17))
    networks = {"vae": vae, "image_encoder": image_encoder}
    weights = {f"{name}/{k}": v for name, network in networks.items() for k, v in network.state_dict().items()}
    weights |= {f"pose_guider/{key}": value for key, value in pose_guider.items()}
    config = {"vae": VAE, "image_encoder": IMAGE, "unet": "see unet_tiny.safetensors", "motion_bucket_id": 5}

    def write(outputs: Outputs) -> None:
        made.write("pipeline_loop.safetensors", {"config": config, "cases": cases}, inputs, outputs, weights)

    write({})
    tests = _module(Path(__file__).parent / "golden" / "test_pipeline_loop.py")
    golden = Golden(made.folder)
    loop = golden.file("pipeline_loop.safetensors")
    networks = tests.networks.__wrapped__(golden, loop)
    outputs = {}
    for case in cases:
        calls = []

        def recorded(unet: UNet, *arguments: object, calls: list = calls) -> object:
            network = GuidedUNet(unet, *arguments)

            def predict(x: torch.Tensor, sigma: torch.Tensor, indices: list[int], step: int) -> torch.Tensor:
                calls.append([step, sum(call[0] == step for call in calls), indices])
                return network(x, sigma, indices, step)

            return predict

        latents = tests.run(loop, networks, case, tests.settings_of(loop, case), recorded)
        outputs[f"{case}/latents"] = latents.values[None]
        cases[case]["windows"] = calls
    write(outputs)


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
