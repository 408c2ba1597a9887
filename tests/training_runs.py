"""A tiny training: shards of made-up clips, frozen networks with random weights, and configs that fit them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate.state import AcceleratorState
from released_files import write_released

from dicetalk.checkpoints.single import save_embedder
from dicetalk.config import (
    AudioConfig,
    EmotionConfig,
    ImageEncoderConfig,
    ModelConfig,
    PoseGuiderConfig,
    TokenMLPConfig,
    UNetConfig,
    VAEConfig,
)
from dicetalk.emotion.embedder import EmbedderConfig
from dicetalk.emotion.prior import PRIOR_DIM
from dicetalk.train.config import DiffusionTraining, EmbedderTraining, LoopConfig
from dicetalk.train.data import NumberedBatches
from dicetalk.train.diffusion import DiffusionTask
from dicetalk.train.embedder import build_embedder
from dicetalk.train.shards import ClipLabels, ShardWriter

CPU = torch.device("cpu")

TINY = ModelConfig(
    unet=UNetConfig(
        block_out_channels=(32, 32),
        num_attention_heads=(2, 2),
        layers_per_block=1,
        cross_attention_dim=16,
        addition_time_embed_dim=8,
    ),
    pose_guider=PoseGuiderConfig(32, block_out_channels=(4, 8, 8, 8)),
    audio=AudioConfig(layers=2, channels=4, intermediate_dim=16, output_dim=16, context_tokens=2),
    emotion=EmotionConfig(
        query=TokenMLPConfig(PRIOR_DIM, 16, 16, 2),
        bank=TokenMLPConfig(12, 16, 16, 2),
        bank_size=5,
        attention_dim=16,
        num_heads=2,
        classifier_dims=(32, 16, 16, 22),
    ),
    vae=VAEConfig(block_out_channels=(32, 32, 32, 32), layers_per_block=1),
    image_encoder=ImageEncoderConfig(16, 32, 1, 2, 28, 14, 16),
)
EMBEDDER = EmbedderConfig(6, 8, PRIOR_DIM, layers=1, heads=2, hidden_dim=32, visual_fps=12.5)
ONCE = LoopConfig(steps=1, warmup_steps=0, device="cpu", log_every=1, validate_every=0, checkpoint_every=1, workers=0)
LOOP = LoopConfig(
    steps=20,
    learning_rate=1e-3,
    warmup_steps=2,
    device="cpu",
    log_every=5,
    validate_every=10,
    validation_batches=2,
    checkpoint_every=4,
    workers=0,
)
FRAMES, SIDE = 9, 32
CLIPS = [
    ("anna-happy-1", "anna", "happy", 1.0, "train"),
    ("anna-happy-2", "anna", "happy", 1.0, "train"),
    ("anna-neutral", "anna", "neutral", 0.0, "train"),
    ("bert-sad", "bert", "sad", 0.6, "train"),
    ("bert-angry", "bert", "angry", 1.0, "train"),
    ("bert-neutral", "bert", "neutral", 0.0, "train"),
    ("carl", "carl", None, None, "train"),
    ("dora-happy", "dora", "happy", 1.0, "val"),
    ("dora-sad", "dora", "sad", 1.0, "val"),
]


def write_clips(folder: Path, clips_per_shard: int = 3) -> None:
    """Shards of :data:`CLIPS`; expression and speech carry the emotion, `carl` has no coefficients, `bert-angry` has a
    portrait."""
    generator = torch.Generator().manual_seed(0)
    kinds = {clip[2]: torch.randn(6 + 8, generator=generator) for clip in CLIPS}
    with ShardWriter(folder, clips_per_shard) as writer:
        for name, identity, emotion, intensity, split in CLIPS:
            kind = kinds[emotion]
            tensors = {
                "box": torch.tensor([8.0, 6.0, 16.0, 20.0]),
                "whisper": (
                    torch.randn(4 * FRAMES + 10, 2, 4, generator=generator) * 0.3 + kind[6:].reshape(2, 4)
                ).half(),
                "frames": picture_frames(generator),
            }
            if name != "carl":
                tensors["coefficients"] = (torch.randn(FRAMES, 6, generator=generator) * 0.3 + kind[:6]).half()
            if name == "bert-angry":
                tensors["portrait"] = picture_frames(torch.Generator().manual_seed(1))[0]
            writer.add(name, ClipLabels(identity, emotion, intensity, name, split), tensors)


def picture_frames(generator: torch.Generator) -> torch.Tensor:
    """A smooth picture that drifts, uint8 ``(FRAMES, SIDE, SIDE, 3)``."""
    colours = torch.rand(1, 3, 4, 4, generator=generator)
    picture = torch.nn.functional.interpolate(colours, (SIDE, SIDE), mode="bilinear")[0].permute(1, 2, 0)
    return torch.stack([picture.roll(i, dims=1) for i in range(FRAMES)]).mul(255).to(torch.uint8)


def make_inputs(folder: Path) -> Path:
    """Put ``shards``, ``models`` and ``embedder.safetensors`` into `folder`; trainings write elsewhere."""
    write_clips(folder / "shards")
    write_released(folder / "models", TINY)
    save_embedder(build_embedder(EMBEDDER, 0), folder / "embedder.safetensors")
    return folder


def reset_accelerate() -> None:
    """Accelerate keeps its first settings for the whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)


def embedder_training(corpus: Path, out: Path, **changes: object) -> EmbedderTraining:
    """A training of a tiny embedder; `changes` of the loop's entries go to the loop."""
    base = EmbedderTraining(
        corpus / "shards", out, EMBEDDER, LOOP, identities=2, emotions=2, clips=2, shortest=4, longest=9
    )
    return _changed(base, changes)


def diffusion_training(corpus: Path, out: Path, **changes: object) -> DiffusionTraining:
    """A training of a tiny diffusion model; `changes` as for :func:`embedder_training`."""
    base = DiffusionTraining(
        corpus / "shards",
        out,
        corpus / "models",
        corpus / "embedder.safetensors",
        TINY,
        LOOP,
        start="random",
        batch_size=2,
        window=3,
        prior_frames=6,
        revive_every=6,
        latents=corpus / "latents",
    )
    return _changed(base, changes)


def _changed(config: object, changes: dict[str, object]) -> object:
    of_loop = {name: changes.pop(name) for name in list(changes) if name in LoopConfig.__dataclass_fields__}
    return replace(config, loop=replace(config.loop, **of_loop), **changes)


def curve(path: Path) -> dict[str, np.ndarray]:
    """Columns of a CSV file of curves."""
    table = np.genfromtxt(path, delimiter=",", names=True)
    return {name: np.atleast_1d(table[name]) for name in table.dtype.names}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inputs_of(task: DiffusionTask, number: int = 0) -> dict[str, torch.Tensor]:
    return task.inputs(NumberedBatches(task.batches["train"], (0,))[number], seeded(number))


def learners(task: DiffusionTask, inputs: dict[str, torch.Tensor], loss: str = "loss") -> set[str]:
    """Parameters with a gradient that is not zero."""
    task.module.zero_grad()
    task.module(**inputs)[loss].backward()
    return {name for name, p in task.module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
