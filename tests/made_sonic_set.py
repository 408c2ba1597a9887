"""Makes another set of fixtures in the form of Sonic's, with other sizes, seeds and cases.

Expected values are computed as the method states them: the loop by `plain_sampling`, windows and buckets by loops over
frames and steps. Of the library only the UNet's layers are used.
"""

import math
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLTemporalDecoder
from made_set import IMAGE, RECIPE, TOKENS, VAE, WIDTH, Outputs, SetOfFixtures, filled, random
from made_set import UNET as DICE_UNET
from plain_sampling import Conditions, PlainClip, PlainSettings, plain_latents, plain_unet
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from dicetalk.config import UNetConfig
from dicetalk.denoise.unet import UNet

UNET = DICE_UNET | {"num_adapter_tokens": [TOKENS]}
BUCKET = {"seq_len": 14, "blocks": 1, "channels": 6, "clip_channels": 7, "intermediate_dim": 9}
WINDOW = BUCKET["seq_len"]


@torch.no_grad()
def write_sonic_set(folder: Path) -> None:
    """Write the set into the empty `folder`."""
    made = SetOfFixtures(folder, "Sonic")
    unet = filled(UNet(UNetConfig.from_released(UNET)), 131)
    _unet(made, unet)
    _windows(made)
    _buckets(made)
    _loop(made, unet)


def _unet(made: SetOfFixtures, unet: UNet) -> None:
    frames, height, width = 3, 16, 8
    mask = torch.zeros(1, 1, 8 * height, 8 * width)
    mask[..., 17:90, 5:44] = 1
    given = {
        "sample": random(1, 1, frames, 8, height, width),
        "timestep": torch.tensor(0.4),
        "clip": random(2, 1, 1, WIDTH).expand(frames, -1, -1),
        "audio": random(3, frames, TOKENS, WIDTH),
        "added_time_ids": torch.tensor([[12.5, 21.25, 6.5]]),
        "mask": mask,
    }
    outputs = {}
    for case, scale, seen in (("half", 0.5, mask), ("bare", 1.3, torch.ones_like(mask))):
        context = Conditions(given["clip"][0], given["audio"], None, seen, scale, 1.0)
        outputs[f"{case}/sample"] = plain_unet(unet)(
            given["sample"], given["timestep"], given["added_time_ids"], context
        )[0]
    cases = {
        "half": {"inputs": "tall", "scale": [0.5], "masked": True},
        "bare": {"inputs": "tall", "scale": [1.3], "masked": False},
    }
    entry = {"config": UNET, "weights_recipe": RECIPE, "seeds": {"weights": 131}, "cases": cases}
    made.write("sonic_unet.safetensors", entry, {f"tall/{key}": value for key, value in given.items()}, outputs, {})


def windows_of(states: torch.Tensor, start: int, length: int, frames: int, stride: int) -> torch.Tensor:
    """`length` states from ``stride * i - start`` for frame i, zeros where there are none."""
    rows = [[stride * i - start + step for step in range(length)] for i in range(frames)]
    nothing = torch.zeros_like(states[0])
    return torch.stack([torch.stack([states[at] if 0 <= at < len(states) else nothing for at in row]) for row in rows])


def _windows(made: SetOfFixtures) -> None:
    config = {"bucket_window": WINDOW, "token_after": 6}
    inputs, outputs, cases = {}, {}, {}
    for case, lengths, audio_len, step in (("one", [40], 15, 2), ("two", [22, 22], 19, 2), ("fine", [30], 8, 1)):
        frames = audio_len // step
        chunks = [random(200 + len(inputs) + i, 1, length, 3, 4) for i, length in enumerate(lengths)]
        inputs |= {f"{case}/hidden_states_{i}": chunk for i, chunk in enumerate(chunks)}
        states = torch.cat(chunks, dim=1)[0, : 2 * audio_len]
        outputs[f"{case}/token_windows"] = windows_of(states, 4, 10, frames, 2 * step)
        outputs[f"{case}/bucket_windows"] = windows_of(states[:, -1], WINDOW // 2 - 1, WINDOW, frames, 2 * step)
        cases[case] = {"audio_len": audio_len, "step": step, "frames": frames}
    short = [
        {"audio_len": 2, "frames": 1, "zeros_before": 4, "window_lengths": [12], "result": "too short"},
        {"audio_len": 3, "frames": 1, "zeros_before": 6, "window_lengths": [WINDOW], "result": "ok"},
    ]
    made.write(
        "sonic_audio_windows.safetensors", {"config": config, "cases": cases, "short_clips": short}, inputs, outputs, {}
    )


def _buckets(made: SetOfFixtures) -> None:
    sizes = BUCKET["seq_len"] * BUCKET["channels"] + BUCKET["clip_channels"], BUCKET["intermediate_dim"]
    shapes = {"proj1": (sizes[1], sizes[0]), "proj2": (sizes[1], sizes[1]), "proj3": (2, sizes[1])}
    weights = {
        f"{name}.weight": random(300 + i, *shape) / math.sqrt(shape[1])
        for i, (name, shape) in enumerate(shapes.items())
    }
    weights |= {f"{name}.bias": 0.3 * random(310 + i, shape[0]) for i, (name, shape) in enumerate(shapes.items())}
    image = random(320, 1, BUCKET["clip_channels"])

    def predict(window: torch.Tensor) -> list[float]:
        x = np.concatenate([window.double().numpy().ravel(), image[0].double().numpy()])
        for name in shapes:
            x = weights[f"{name}.weight"].double().numpy() @ x + weights[f"{name}.bias"].double().numpy()
            x = x if name == "proj3" else x / (1 + np.exp(-x))
        return x.tolist()

    windows = random(330, 4, WINDOW, BUCKET["channels"])
    audio_len, frames, states = 13, 6, random(340, 1, 50, 3, BUCKET["channels"])
    heard = windows_of(states[0, : 2 * audio_len, -1], WINDOW // 2 - 1, WINDOW, frames, 4)
    raw = [predict(window) for window in heard]
    placed = [[[(start + place - 2 * step) % frames for place in range(4)] for start in (0, 3)] for step in range(3)]

    def ids(scale: float) -> torch.Tensor:
        mean = [
            [
                [12.5, *(sum((16 * raw[f][k] + 16) * scale for f in window) / len(window) for k in (0, 1))]
                for window in step
            ]
            for step in placed
        ]
        return torch.tensor(mean)

    case = {"audio_len": audio_len, "step": 2, "frames": frames, "frames_per_batch": 4, "overlap": 1, "shift_offset": 2}
    case |= {"steps": 3, "motion_bucket_scales": [1.0, 0.7], "half_scale": 1.9}
    outputs = {
        "raw": torch.tensor([predict(window) for window in windows]),
        "talk/raw": torch.tensor(raw),
        "talk/buckets": torch.tensor(raw) * 16 + 16,
        "scale_1.0/added_time_ids": ids(1.0),
        "scale_0.7/added_time_ids": ids(0.7),
        "half/added_time_ids": ids(1.9).half().float(),
    }
    inputs = {"windows": windows, "image_embeds": image, "talk/hidden_states_0": states}
    made.write("sonic_audio2bucket.safetensors", {"config": BUCKET, "cases": {"talk": case}}, inputs, outputs, weights)


def _loop(made: SetOfFixtures, unet: UNet) -> None:
    vae = filled(AutoencoderKLTemporalDecoder.from_config(VAE), 161)
    image_encoder = filled(CLIPVisionModelWithProjection(CLIPVisionConfig(**IMAGE)), 162)
    picture, pixels = random(163, 1, 3, 64, 64).clamp(-1, 1), random(164, 1, 3, 28, 28)
    latents = vae.encode(picture).latent_dist.mode()[0]
    token = image_encoder(pixels).image_embeds
    inputs: Outputs = {"shared/ref_image": picture, "shared/clip_image": pixels}
    outputs: Outputs = {"shared/vae_mean": latents[None], "shared/image_embeds": token}
    cases = {}
    for number, (name, frames, fpb, overlap, shift, scale) in enumerate(
        [("repeats", 2, 5, 0, 3, 0.8), ("wraps", 5, 3, 1, 4, 1.0)]
    ):
        audio, silence = (random(170 + 10 * number + i, rows, TOKENS, WIDTH) for i, rows in enumerate((frames, 1)))
        buckets = 16 + 9 * random(175 + 10 * number, frames, 2)
        noise = random(176 + 10 * number, frames, 4, 8, 8)
        mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
        mask[:, 8:50, 16:60] = 1
        own = {"audio": audio, "uncond_audio": silence, "motion_buckets": buckets, "latents": noise[None]}
        inputs |= {f"{name}/{key}": value for key, value in (own | {"face_mask": mask}).items()}

        def windows(step: int, sizes: tuple = (frames, fpb, overlap, shift)) -> list[list[int]]:
            frames, fpb, overlap, shift = sizes
            starts = range(0, frames, fpb - overlap)
            return [[(start + place - shift * step) % frames for place in range(fpb)] for start in starts]

        clip = PlainClip(
            noise,
            token,
            latents,
            latents * VAE["scaling_factor"],
            mask.float()[None],
            None,
            audio,
            silence.expand(frames, -1, -1),
            buckets=buckets * scale,
        )
        plain = PlainSettings(2, 2, windows, (2.0, 2.0), (7.5, 5.0))
        outputs[f"{name}/latents"] = plain_latents(unet, clip, plain).float()[None]
        table = {"N": frames, "fpb": fpb, "overlap": overlap, "shift": shift, "steps": 2, "chunk": 3, "scale": scale}
        cases[name] = table | {
            "g1": [2.0, 2.0],
            "g2": [7.5, 5.0],
            "windows": [[step, k, window] for step in range(2) for k, window in enumerate(windows(step))],
        }
    config = {"vae": VAE, "image_encoder": IMAGE, "unet": "see sonic_unet.safetensors"}
    networks = {"vae": vae, "image_encoder": image_encoder}
    weights = {f"{name}/{k}": v for name, network in networks.items() for k, v in network.state_dict().items()}
    made.write("sonic_pipeline_loop.safetensors", {"config": config, "cases": cases}, inputs, outputs, weights)
