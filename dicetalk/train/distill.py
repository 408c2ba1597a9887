"""Distils a model into one of few steps without guidance.

The student begins as the teacher's UNet and learns by regression, in the manner of progressive distillation (Salimans
and Ho 2022) with the guidance folded into its one branch (Meng et al. 2023): from noisy latents at one of its own noise
levels, one step of the student has to end where several guided steps of the teacher end. Speech, emotion and portrait
stay conditions; the networks that make their tokens are the teacher's and stay as they are. Nothing is needed but
clips with speech: emotions are mixed at random from the model's presets, so that shards need no labels.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dicetalk.checkpoints.find import find_files
from dicetalk.checkpoints.load import DiceModel, load_model
from dicetalk.checkpoints.packed import packed_metadata
from dicetalk.checkpoints.strict import finite
from dicetalk.checkpoints.variants import Variant, recommended_settings
from dicetalk.checkpoints.write import write_safetensors
from dicetalk.config import ModelConfig
from dicetalk.denoise.conditioning import Conditioning
from dicetalk.denoise.guided import GuidedUNet
from dicetalk.denoise.sampler import karras_sigmas, sample_clip, scale_input
from dicetalk.denoise.tokens import FrameTokens, StoredRows
from dicetalk.denoise.unet import UNet
from dicetalk.denoise.windows import window_schedule
from dicetalk.emotion.bank import PriorTokens
from dicetalk.emotion.mix import NEUTRAL
from dicetalk.errors import SettingError
from dicetalk.files import explained, make_folder, replacing
from dicetalk.hooks import SILENT, Hooks
from dicetalk.settings import FPS, SamplerSettings
from dicetalk.train.config import LoopConfig, within
from dicetalk.train.data import Batch, with_expressions
from dicetalk.train.diffusion_data import DiffusionBatches
from dicetalk.train.latents import LatentStore, encode_clips, encoder_fingerprint, fingerprint
from dicetalk.train.loop import PlainTask, make_accelerator, process_hooks, run_training
from dicetalk.train.shards import list_clips, splits

EXPORT = "model"
"""Folder of the student in the run's `out`."""

CLASSES = 22
"""Of a classifier that nobody asks here."""


@dataclass(frozen=True)
class DistillTraining:
    """``train distill``.

    Args:
        data: folder of shards that `dicetalk prepare` wrote; their labels are not used.
        out: folder for checkpoints, curves, and the student's model folder ``model``.
        models: the teacher's model folder.
        loop: see :class:`LoopConfig`.
        student_steps: denoising steps of the student; the model folder says between which two noise levels they lie.
        substeps: guided steps of the teacher that one of the student's has to arrive with.
        batch_size: clips of a batch, in each process.
        window: frames of a clip.
        latents: folder for the clips' latents, made once and used again; none is ``latents`` in `out`.
    """

    data: Path
    out: Path
    models: Path
    loop: LoopConfig = field(default_factory=LoopConfig)
    student_steps: int = within(4, 2, 100)
    substeps: int = within(3, 1, 100)
    batch_size: int = within(1, 1)
    window: int = within(25, 1)
    latents: Path | None = None


@dataclass(frozen=True)
class Window:
    """One clip of a batch, as the student is asked about it.

    Args:
        conditioning: of the clip.
        x: noisy latents, ``(frames, channels, h, w)``.
        sigma: their noise level, scalar.
        v: what the student has to say, like `x`.
    """

    conditioning: Conditioning
    x: torch.Tensor
    sigma: torch.Tensor
    v: torch.Tensor


def student_levels(sampling: Any, steps: int, substeps: int) -> torch.Tensor:
    """Noise levels of the teacher: ``steps * substeps`` of them, and zero; every `substeps`-th is the student's."""
    return karras_sigmas(steps * substeps, sampling.sigma_min, sampling.sigma_max)


def student_config(config: ModelConfig, steps: int, substeps: int) -> ModelConfig:
    """The teacher's config with the student's steps and noise levels, and without guidance.

    Levels of Karras et al. 2022 are evenly spaced in ``sigma ** (1 / 7)``, so that every `substeps`-th of them are such
    levels again, between the highest and the lowest that the student begins a step at.
    """
    lowest = float(student_levels(config.sampling, steps, substeps)[(steps - 1) * substeps])
    sampling = replace(config.sampling, steps=steps, portrait_guidance=1.0, expression_guidance=1.0, sigma_min=lowest)
    return replace(config, sampling=sampling)


def one_step_v(x: torch.Tensor, end: torch.Tensor, sigma: torch.Tensor, sigma_end: torch.Tensor) -> torch.Tensor:
    """The v with which one Euler step from `x` at `sigma` arrives at `end` at `sigma_end`."""
    left = sigma_end / sigma
    denoised = (end - left * x) / (1 - left)
    return (x / (sigma**2 + 1) - denoised) * (sigma**2 + 1).sqrt() / sigma


class Student(nn.Module):
    """The UNet that learns, and its loss.

    Args:
        unet: begins as the teacher's.
    """

    def __init__(self, unet: UNet):
        super().__init__()
        self.unet = unet

    def forward(self, windows: list[Window]) -> dict[str, torch.Tensor]:
        """Mean square error of v over the windows of a batch."""
        settings = SamplerSettings(steps=1, portrait_guidance=1.0, expression_guidance=1.0)
        losses = []
        for window in windows:
            device = window.x.device
            network = GuidedUNet(self.unet, window.conditioning, settings, device, torch.float32)
            frames = list(range(len(window.x)))
            v = network(scale_input(window.x, window.sigma), window.sigma, frames, 0)
            losses.append((v - window.v).square().mean())
        return {"loss": torch.stack(losses).mean()}


class DistillTask(PlainTask):
    """See :class:`dicetalk.train.loop.Task`.

    Args:
        config: of the training.
        teacher: all networks, in float32.
        store: latents of the clips.
        batches: what draws clips for ``train`` and, if there are any, ``validation``.
        export: writes a student's UNet.
    """

    def __init__(
        self,
        config: DistillTraining,
        teacher: DiceModel,
        store: LatentStore,
        batches: dict[str, DiffusionBatches],
        export: Callable[[nn.Module, Path], list[Path]],
    ):
        self.config, self.teacher, self.batches, self._export = config, teacher, batches, export
        student = UNet(teacher.config.unet)
        student.load_state_dict(teacher.unet.state_dict())
        self.module = Student(student)
        self.settings = recommended_settings(teacher.config.sampling)
        self.levels = student_levels(teacher.config.sampling, config.student_steps, config.substeps)
        self.priors = torch.stack([prior.mu for prior in teacher.priors.values()]) if teacher.priors else None
        self.neutral = list(teacher.priors).index(NEUTRAL) if teacher.priors else 0
        self.contents = {
            "the teacher": fingerprint(teacher.unet.state_dict().values()),
            "the VAE": store.vae,
        }
        for network in self._networks():
            network.eval().requires_grad_(False)

    def _networks(self) -> list[nn.Module]:
        model = self.teacher
        own = [adapter.of(model) for adapter in model.adapters]
        return [model.unet, model.image_encoder, *own, *([model.pose_guider] if model.pose_guider else [])]

    def to(self, device: torch.device) -> None:
        """Bring the teacher to `device`."""
        for network in self._networks():
            network.to(device)

    @torch.no_grad()
    def inputs(self, batch: Batch, generator: torch.Generator) -> dict[str, Any]:
        """Noise the clips and let the teacher say where the student's step has to end."""
        model, config = self.teacher, self.config
        latents = batch["latents"] * model.config.vae.scaling_factor
        device = latents.device
        tokens = model.image_encoder(batch["clip_pixels"]).image_embeds[:, None]
        windows = []
        for place, clip in enumerate(latents):
            segment = int(torch.randint(config.student_steps, (), generator=generator))
            sigmas = self.levels[segment * config.substeps : (segment + 1) * config.substeps + 1]
            noise = torch.randn(clip.shape, generator=generator).to(device)
            x = clip + sigmas[0].to(device) * noise
            conditioning = Conditioning(
                clip_token=tokens[place : place + 1],
                image_latents=batch["image_latents"][place],
                start_latents=batch["image_latents"][place],
                adapters=self._tokens(batch["windows"][place], generator),
                mask=batch["mask"][place : place + 1],
                pose=None
                if model.pose_guider is None
                else model.pose_guider(batch["mask"][place : place + 1].expand(-1, 3, -1, -1)),
                added_ids=torch.tensor([[FPS, self.settings.motion_bucket, self.settings.expression_bucket]]),
            )
            settings = replace(self.settings, steps=config.substeps)
            guided = GuidedUNet(model.unet, conditioning, settings, device, torch.float32)
            end = sample_clip(guided, x.clone(), sigmas, window_schedule("tight", len(clip), len(clip), 0, 0))
            sigma = sigmas[0].to(device)
            windows.append(Window(conditioning, x, sigma, one_step_v(x, end, sigma, sigmas[-1].to(device))))
        return {"windows": windows}

    def _tokens(self, windows: torch.Tensor, generator: torch.Generator) -> dict[str, FrameTokens]:
        """Tokens of one clip's speech ``(frames, 10, layers, channels)`` and of a random emotion."""
        model, frames = self.teacher, len(windows)
        device = windows.device
        nothing = torch.zeros(frames, dtype=torch.long)
        audio = model.audio_projection(torch.cat([torch.zeros_like(windows[:1]), windows]))
        found = {"audio": FrameTokens(StoredRows(audio), 1 + torch.arange(frames), nothing)}
        if model.emotion_model is not None and self.priors is not None:
            prior = self._emotion(self.priors, generator).to(device)
            rows = model.emotion_model.tokens(torch.stack([torch.zeros_like(prior), prior]))
            found["emotion"] = FrameTokens(StoredRows(rows), nothing + 1, nothing)
        return {adapter.name: found[adapter.name] for adapter in model.adapters}

    def _emotion(self, priors: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A preset, at full intensity in half of the cases."""
        place = int(torch.randint(len(priors), (), generator=generator))
        intensity = min(1.0, 2 * float(torch.rand((), generator=generator)))
        return priors[self.neutral] + intensity * (priors[place] - priors[self.neutral])

    def export(self, folder: Path) -> list[Path]:
        """Write the student's model folder."""
        return self._export(self.module.unet, folder / EXPORT)


def train_distill(config: DistillTraining, hooks: Hooks = SILENT) -> list[Path]:
    """Distil, or go on, and write the student's model folder into ``config.out``.

    Raises:
        DiceTalkError: something about the config, the weights, the data or the disk; see
            :func:`dicetalk.train.loop.run_training`.
    """
    accelerator = make_accelerator(config.loop)
    hooks = process_hooks(accelerator, hooks)
    teacher = load_model(config.models, dtype=torch.float32)
    found = find_files(config.models)
    records = with_expressions(list_clips(config.data, hooks=hooks), audio_only=True)
    records = [each for each in records if each.labels.split != "test" and each.frames >= config.window]
    if not any(record.labels.split == "train" for record in records):
        raise SettingError(f"{config.data} has no clip for training with {config.window} frames (window).")
    store = LatentStore(config.latents or config.out / "latents", encoder_fingerprint(teacher.vae))
    share = records[accelerator.process_index :: accelerator.num_processes]
    encode_clips(store, teacher.vae.to(accelerator.device), share, accelerator.device, hooks)
    accelerator.wait_for_everyone()
    parts = splits([record for record in records if store.holds(record)])
    batches = {
        name: DiffusionBatches(
            part,
            store,
            config.batch_size,
            config.window,
            config.window,
            1,
            teacher.config.image_encoder.image_size,
            CLASSES,
        )
        for name, part in (("train", parts["train"]), ("validation", parts["val"]))
        if part
    }

    def export(unet: nn.Module, folder: Path) -> list[Path]:
        return write_student(teacher, unet, config, found.variant, folder)

    task = DistillTask(config, teacher, store, batches, export)
    task.to(accelerator.device)
    return run_training(task, config.loop, config.out, accelerator, hooks)


def write_student(
    teacher: DiceModel, unet: nn.Module, config: DistillTraining, variant: Variant, folder: Path
) -> list[Path]:
    """Write a model folder: the student's own networks and config, and the teacher's other files, copied.

    Raises:
        OutputError: it cannot be written.
        CheckpointError: a weight is not finite in half precision.
        SettingError: the teacher has no emotion bank.
    """
    if isinstance(teacher.emotion_model, PriorTokens):
        raise SettingError(f"{config.models} was trained without the bank, which a distilled model cannot be.")
    found = find_files(config.models)
    for file, path in found.paths.items():
        if file not in variant.own_files and file != variant.packed:
            inside = path.relative_to(found.folder) if path.is_relative_to(found.folder) else Path(file.name)
            _copy(path, folder / inside)
    weights = {
        network.prefix + name: tensor
        for network in variant.networks
        for name, tensor in (unet if network.field == "unet" else getattr(teacher, network.field)).state_dict().items()
    }
    target = folder / variant.packed.name
    sizes = student_config(teacher.config, config.student_steps, config.substeps)
    source = f"dicetalk train distill: {config.loop.steps} steps, {config.substeps} of the teacher"
    write_safetensors(
        target,
        {name: tuple(tensor.shape) for name, tensor in weights.items()},
        lambda name: finite(target, name, weights[name].cpu(), torch.float16),
        torch.float16,
        packed_metadata(sizes, source, variant=variant),
        SILENT,
    )
    return [folder]


def _copy(path: Path, target: Path) -> None:
    make_folder(target.parent)
    with replacing(target) as partial, explained(target):
        shutil.copyfile(path, partial)
