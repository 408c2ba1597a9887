"""Trains the diffusion model with its emotion bank (paper 3.2-3.3, eq. 9-17)."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dicetalk.checkpoints.find import find_files
from dicetalk.checkpoints.load import load_priors
from dicetalk.checkpoints.single import load_embedder
from dicetalk.checkpoints.variants import FULL
from dicetalk.config import ModelConfig
from dicetalk.emotion.embedder import EmotionEmbedder
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.errors import SettingError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.settings import FPS
from dicetalk.train.bank import BankCare
from dicetalk.train.clip_record import ClipRecord
from dicetalk.train.config import DiffusionTraining
from dicetalk.train.data import Batch, check_sizes, with_expressions
from dicetalk.train.diffusion_data import DiffusionBatches, emotion_levels, may_be_drawn, strong_enough
from dicetalk.train.export import export_model
from dicetalk.train.initial import quieten_residuals
from dicetalk.train.latents import LatentStore, encode_clips, encoder_fingerprint, fingerprint
from dicetalk.train.loop import Run, make_accelerator, process_hooks, run_training
from dicetalk.train.losses import drop_conditions, sample_sigmas
from dicetalk.train.objective import DiffusionObjective
from dicetalk.train.shards import list_clips, splits
from dicetalk.train.start import (
    Trainable,
    begin_with_portrait,
    dice_networks,
    frozen_networks,
    random_networks,
    svd_networks,
    with_random_emotion,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

_log = logging.getLogger("dicetalk")

MEASURED_CLIPS = 200
EXPORT = "dicetalk-trained.safetensors"
"""Put into a model folder it stands for the four DICE-Talk files."""


def train_diffusion(config: DiffusionTraining, hooks: Hooks = SILENT) -> list[Path]:
    """Train, or go on training, and write the model into ``config.out``.

    Raises:
        DiceTalkError: something about the config, the weights, the data or the disk; see
            :func:`dicetalk.train.loop.run_training`.
    """
    accelerator = make_accelerator(config.loop)
    # What goes wrong with a clip only the process knows that encodes it; its notices go to the log.
    encoding = hooks if accelerator.is_main_process else SILENT
    hooks = process_hooks(accelerator, hooks)
    embedder = load_embedder(config.embedder)
    networks, sizes = start_networks(config)
    config = replace(config, model=sizes)
    vae, image_encoder = frozen_networks(sizes, config.models)
    records = [record for record in list_clips(config.data, hooks=hooks) if record.labels.split != "test"]
    records = usable_clips(config, records, embedder, hooks)
    store = LatentStore(config.latents_folder, encoder_fingerprint(vae))
    records = _encoded(store, vae, records, accelerator, encoding)
    presets = preset_means(config.models) if config.mixed_rate else None
    task = DiffusionTask(config, networks, image_encoder, embedder, vae.config.scaling_factor, store, records, presets)
    task.to(accelerator.device)
    del vae
    return run_training(task, config.loop, config.out, accelerator, hooks)


def start_networks(config: DiffusionTraining) -> tuple[Trainable, ModelConfig]:
    """The networks that ``config.start`` asks for, and their sizes.

    Raises:
        CheckpointError: weights are missing or damaged.
    """
    seed = config.loop.seed
    if config.start == "dice":
        networks, sizes = dice_networks(config.model, config.models, seed)
        return with_random_emotion(networks, sizes, seed) if config.fresh_emotion else networks, sizes
    if config.start == "svd":
        return svd_networks(config.model, config.models, seed), config.model
    networks = random_networks(config.model, seed)
    quieten_residuals(networks.unet)
    begin_with_portrait(networks, config.model.vae.scaling_factor)
    return networks, config.model


def usable_clips(
    config: DiffusionTraining, records: list[ClipRecord], embedder: EmotionEmbedder, hooks: Hooks = SILENT
) -> list[ClipRecord]:
    """The clips that are as long as a window, with what the embedder reads of them.

    Raises:
        SettingError: no clip has expression coefficients though the config wants them, pictures differ in size or have
            one that the UNet cannot halve often enough, the sizes of the networks and the shards disagree, or no clip
            for training is long enough.
    """
    sizes = {record.shapes["frames"][1:3] for record in records}
    step = 8 * 2 ** (len(config.model.unet.block_out_channels) - 1)
    if len(sizes) > 1 or any(side % step for size in sizes for side in size):
        shown = ", ".join(f"{height}x{width}" for height, width in sorted(sizes)[:4])
        raise SettingError(f"{config.data} has pictures of {shown}; expected one size, multiples of {step}.")
    records = _with_priors(with_expressions(records, config.audio_only, hooks), config.mixed_rate, hooks)
    check_sizes(records, embedder.config.visual_dim, embedder.config.audio_dim)
    if embedder.config.visual_fps != FPS:
        raise SettingError(f"{config.embedder} was trained at {embedder.config.visual_fps:g} fps; shards have {FPS}.")
    audio = config.model.audio
    if audio.layers * audio.channels != embedder.config.audio_dim or embedder.config.dim != _prior_dim(config):
        raise SettingError(
            f"{config.embedder} reads {embedder.config.audio_dim} Whisper numbers a step and gives priors of "
            f"{embedder.config.dim}; the model takes {audio.layers} x {audio.channels} and {_prior_dim(config)}."
        )
    long_enough = [record for record in records if record.frames >= config.window]
    if not any(record.labels.split == "train" for record in long_enough):
        raise SettingError(f"{config.data} has no clip for training with {config.window} frames (window).")
    if len(long_enough) < len(records):
        short = len(records) - len(long_enough)
        hooks.notice(
            f"{short} of {len(records)} clips are left out: shorter than the window of {config.window} frames."
        )
    return long_enough


def _with_priors(records: list[ClipRecord], mixed_rate: float, hooks: Hooks) -> list[ClipRecord]:
    """Without clips whose emotion changes, which no single prior tells, if there are no presets to mix theirs from."""
    steady = [record for record in records if "mix" not in record.shapes]
    if mixed_rate or len(steady) == len(records):
        return records
    hooks.notice(
        f"{len(records) - len(steady)} of {len(records)} clips are left out: their emotion changes, which is only "
        "learned with mixed_rate above 0."
    )
    return steady


def _prior_dim(config: DiffusionTraining) -> int:
    return config.model.emotion.query.input_dim


def _encoded(
    store: LatentStore, vae: nn.Module, records: list[ClipRecord], accelerator: "Accelerator", hooks: Hooks
) -> list[ClipRecord]:
    """Encode the clips, each process its share; returns those that could be."""
    share = records[accelerator.process_index :: accelerator.num_processes]
    encode_clips(store, vae.to(accelerator.device), share, accelerator.device, hooks)
    accelerator.wait_for_everyone()
    held = [record for record in records if store.holds(record)]
    if len(held) < len(records) and accelerator.is_main_process and accelerator.num_processes > 1:
        hooks.notice(f"{len(records) - len(held)} clips are left out by all processes; each has logged its own.")
    if not any(record.labels.split == "train" for record in held):
        raise SettingError(f"No clip for training could be encoded into {store.folder}.")
    return held


def even_weights(store: LatentStore, records: list[ClipRecord]) -> torch.Tensor:
    """Weights of the latents' channels against the deviation of each, ``(1, 1, C, 1, 1)`` with the mean 1.

    Raises:
        DatasetError: a clip's latents cannot be read.
    """
    some = records[:: -(-len(records) // MEASURED_CLIPS)]
    deviations = torch.cat([store.read(record, 0, 1) for record in some]).std(dim=(0, 2, 3)).clamp(min=1e-3)
    weights = 1 / deviations
    return (weights / weights.mean())[None, None, :, None, None]


def preset_means(models: Path) -> torch.Tensor:
    """The means of the eight priors in the folder `models`, ``(8, prior_dim)``.

    Raises:
        CheckpointError: one is missing or damaged.
    """
    priors = load_priors(find_files(models, variant=FULL))
    return torch.stack([priors[emotion].mu for emotion in PRESET_NAMES])


class DiffusionTask:
    """See :class:`dicetalk.train.loop.Task`.

    Args:
        config: of the training; ``config.model`` is what `networks` were built from.
        networks: to train.
        image_encoder: frozen.
        embedder: frozen.
        scaling_factor: of the VAE's latents.
        store: latents of `records`.
        records: clips of all splits, none shorter than the window; ``val`` validates.
        presets: means of the eight priors ``(8, prior_dim)``; not needed if ``config.mixed_rate`` is 0.

    Raises:
        SettingError: the classifier's classes are no emotions at intensities, or no clip for training is emotional
            enough.
    """

    def __init__(
        self,
        config: DiffusionTraining,
        networks: Trainable,
        image_encoder: nn.Module,
        embedder: EmotionEmbedder,
        scaling_factor: float,
        store: LatentStore,
        records: list[ClipRecord],
        presets: torch.Tensor | None = None,
    ):
        emotion_levels(config.model.emotion.classifier_dims[-1])
        self.config = config
        self.module = DiffusionObjective(networks, config)
        self.image_encoder = image_encoder.eval().requires_grad_(False)
        self.embedder = embedder.eval().requires_grad_(False)
        self.scaling_factor = scaling_factor
        self.store = store
        self.presets = presets
        self.rates = {"emotion_model.": config.emotion_rate}
        self.contents = {
            "embedder": fingerprint(embedder.state_dict().values()),
            "the VAE": store.vae,
            "the image encoder": fingerprint(image_encoder.state_dict().values()),
        } | ({} if presets is None else {"the eight priors": fingerprint([presets])})
        self.bank = BankCare(networks.emotion_model.codebook, config.revive_every, config.loop.steps)
        parts = splits(records)
        self.channel_weights = torch.ones(1, 1, 1, 1, 1)
        if config.even_channels:
            self.channel_weights = even_weights(store, parts["train"])
        chosen = config.ordinary_share == 0 or config.weakest > 0
        if chosen and not any(strong_enough(record, config.weakest) for record in parts["train"]):
            raise SettingError(
                f"weakest {config.weakest:g} and ordinary_share {config.ordinary_share:g}: no clip for training shows "
                "an emotion of that intensity."
            )
        self.batches = {"train": self._batches(parts["train"])}
        if any(may_be_drawn(record, config.weakest) for record in parts["val"]):
            self.batches["validation"] = self._batches(parts["val"])
        elif parts["val"]:
            _log.warning("No validation: its clips are emotional, and weaker than weakest %g.", config.weakest)

    def to(self, device: torch.device) -> None:
        """Bring the frozen networks to `device`."""
        self.image_encoder.to(device)
        self.embedder.to(device)

    def _batches(self, records: list[ClipRecord]) -> DiffusionBatches:
        config = self.config
        return DiffusionBatches(
            records,
            self.store,
            config.batch_size,
            config.window,
            config.prior_frames,
            self.embedder.config.visual_dim,
            config.model.image_encoder.image_size,
            config.model.emotion.classifier_dims[-1],
            config.face_weight,
            config.mouth_weight,
            config.weakest,
            config.ordinary_share,
        )

    @torch.no_grad()
    def inputs(self, batch: Batch, generator: torch.Generator) -> dict[str, Any]:
        """Run the frozen networks and draw what is random; on the CPU, so that every device draws the same."""
        latents = batch["latents"] * self.scaling_factor
        count, device = len(latents), latents.device
        prior = self.embedder(batch["visual"], batch["audio"], batch["visual_lengths"], batch["audio_lengths"])
        priors = prior.sample(generator) if self.config.ablations.sampled_prior else prior.mu
        inputs = {
            "latents": latents,
            "image_latents": batch["image_latents"],
            "clip_token": self.image_encoder(batch["clip_pixels"]).image_embeds[:, None],
            "windows": batch["windows"],
            "mask": batch["mask"],
            "classes": batch["classes"],
            "weights": batch["weights"] * self.channel_weights.to(device),
            "noise": torch.randn(latents.shape, generator=generator).to(device),
            "sigma": sample_sigmas(count, generator, self.config.sigma_mean, self.config.sigma_std).to(device),
            "dropped": drop_conditions(count, generator, self.config.drop_rate, self.config.portrait_only_rate).to(
                device
            ),
        }
        whole_bank = None
        if self.config.whole_bank_rate:
            whole_bank = (torch.rand(count, generator=generator) < self.config.whole_bank_rate).to(device)
        priors = priors[:, None].expand(-1, latents.shape[1], -1)
        changing = batch["changing"]
        if self.presets is not None:
            mixes = batch["mix"]
            mixed = (torch.rand(count, generator=generator) < self.config.mixed_rate).to(device) & mixes.any(dim=(1, 2))
            mixed |= changing
            priors = torch.where(mixed[:, None, None], mixes @ self.presets.to(device), priors)
        # One row for each clip, or for each frame of a clip whose emotion changes
        kept = torch.ones(priors.shape[:2], dtype=torch.bool, device=device)
        kept[:, 1:] = changing[:, None]
        inputs["priors"] = priors[kept]
        inputs["of_prior"] = kept.flatten().cumsum(0).reshape(kept.shape) - 1
        if whole_bank is not None:
            inputs["whole_bank"] = whole_bank[:, None].expand(kept.shape)[kept]
        return inputs

    def after_step(self, run: Run, outputs: list[dict[str, torch.Tensor]]) -> None:
        """Count which entries of the bank were taken, and revive those that nobody takes."""
        if self._retrieves:
            self.bank.after_step(run, outputs)

    def measures(self) -> dict[str, float]:
        """Use of the bank, where entries are retrieved."""
        return self.bank.measures() if self._retrieves else {}

    @property
    def _retrieves(self) -> bool:
        return self.config.ablations.bank == "retrieve"

    def state_dict(self) -> dict[str, Any]:
        """Use of the bank so far."""
        return self.bank.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.bank.load_state_dict(state)

    def export(self, folder: Path) -> list[Path]:
        """Write the four networks as one converted file."""
        path = folder / EXPORT
        export_model(self.module, self.config, path)
        return [path]
