"""Loads a complete model."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dicetalk.adapters import DICE_ADAPTERS, EMOTION, Adapter
from dicetalk.audio.projection import AudioProjection, AudioToBucket
from dicetalk.checkpoints import files
from dicetalk.checkpoints.find import FoundFiles, find_files
from dicetalk.checkpoints.parts import dice_parts, expecting, other_parts
from dicetalk.checkpoints.single import load_embedder, load_expression_reader
from dicetalk.checkpoints.strict import fill_from_file
from dicetalk.checkpoints.variants import FULL, Variant
from dicetalk.config import ModelConfig
from dicetalk.denoise.conditioning import PoseGuider
from dicetalk.denoise.unet import UNet
from dicetalk.emotion.bank import EmotionModel, PriorTokens
from dicetalk.emotion.embedder import EmotionEmbedder
from dicetalk.emotion.prior import EmotionPrior, load_prior
from dicetalk.emotion.reference.expressions import ExpressionReader
from dicetalk.errors import CheckpointError, EmotionError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.layers import Attention, sdpa_attention
from dicetalk.video.rife import FlowNet

if TYPE_CHECKING:  # both take seconds to import
    from diffusers import AutoencoderKLTemporalDecoder
    from transformers import CLIPVisionModelWithProjection
    from transformers.models.whisper.modeling_whisper import WhisperEncoder


MAY_BE_ABSENT = ("emotion_model", "pose_guider", "flownet")
"""Fields of networks that not every model has."""


@dataclass(frozen=True)
class DiceModel:
    """All networks of the method, on the CPU, ready for inference.

    Args:
        unet: denoises.
        audio_projection: makes audio tokens.
        emotion_model: makes emotion tokens; of a network that was trained without the emotion bank, without it; `None`
            for a variant without emotion.
        pose_guider: makes pose features of the face mask; `None` for a variant without.
        vae: diffusers' temporal VAE of SVD.
        image_encoder: transformers' CLIP vision tower of SVD.
        whisper: transformers' Whisper encoder, always float32.
        flownet: interpolates frames, always float32; none if the model has no frame interpolation.
        priors: the eight released priors by emotion.
        embedder: makes priors of clips, always float32; none if the model has none, as the released one.
        expression_reader: reads the embedder's coefficients off faces, likewise.
        detector_path: the released face detector, if it is there.
        config: sizes of the networks.
        dtype: of all weights but Whisper's and RIFE's, which are small and lose by half precision.
        adapters: adapters of the UNet, in the order of its projections.
        audio_to_bucket: predicts the buckets from the speech, always float32; `None` for a variant without.
    """

    unet: UNet
    audio_projection: AudioProjection
    emotion_model: EmotionModel | PriorTokens | None
    pose_guider: PoseGuider | None
    vae: "AutoencoderKLTemporalDecoder"
    image_encoder: "CLIPVisionModelWithProjection"
    whisper: "WhisperEncoder"
    flownet: FlowNet | None
    priors: dict[str, EmotionPrior]
    embedder: EmotionEmbedder | None
    expression_reader: ExpressionReader | None
    detector_path: Path | None
    config: ModelConfig
    dtype: torch.dtype
    adapters: tuple[Adapter, ...] = DICE_ADAPTERS
    audio_to_bucket: AudioToBucket | None = None

    @property
    def has_emotions(self) -> bool:
        """Whether it shows emotions: one of its adapters is for them."""
        return EMOTION in self.adapters


def load_model(
    folder: str | PathLike[str],
    *,
    svd: str | PathLike[str] | None = None,
    dtype: torch.dtype = torch.float16,
    operations: ModuleType = nn,
    attention: Attention = sdpa_attention,
    config: ModelConfig | None = None,
    variant: Variant | None = None,
    shared: Sequence[str | PathLike[str]] = (),
    hooks: Hooks = SILENT,
) -> DiceModel:
    """Load every network and prior.

    Weights that are stored in `dtype` stay views of their files until a device asks for them; others are converted
    tensor by tensor and the pages of the file are given back on the way, so that nothing is held twice.

    Args:
        folder: the model folder, or its converted file or ``unet.pth``, or ``tiny``, the bundled model; see
            :func:`dicetalk.checkpoints.find.find_files` for where files may lie in it.
        svd: SVD-XT elsewhere: a diffusers folder or ``svd_xt*.safetensors``.
        dtype: of the weights.
        operations: namespace of the layers of the variant's own networks.
        attention: attention function of the UNet and the emotion model.
        config: sizes, those of the variant if `None`; a converted file brings its own.
        variant: whose networks are wanted; what the folder holds if `None`, see
            :func:`dicetalk.checkpoints.find.variant_in`.
        shared: folders that are searched after `folder` for what several programs use.
        hooks: reports the stage `load` in networks.

    Raises:
        CheckpointError: files are missing (all are named), or one is damaged, hostile or of another network.
        Cancelled: the caller asked to stop.
    """
    found = find_files(folder, svd, shared, variant)
    variant = found.variant
    with expecting(variant.packed):
        parts, config, bank = dice_parts(found, config or variant.config, operations, attention)
    if found.missing:
        raise CheckpointError(_missing(found))
    loaded: dict[str, Any] = dict.fromkeys(MAY_BE_ABSENT)
    every = (*parts, *other_parts(found, config))
    for done, part in enumerate(every, start=1):
        hooks.check()
        with expecting(part.file):
            network = part.build()
            weights_dtype = torch.float32 if part.full_precision else dtype
            loaded[part.field] = fill_from_file(part.path, network, part.read, weights_dtype, part.may_lack)
        hooks.report("load", done, len(every))
    if bank == "none":
        loaded["emotion_model"] = PriorTokens(loaded["emotion_model"])
    embedder, reader = found.paths.get(files.EMBEDDER), found.paths.get(files.READER)
    return DiceModel(
        **loaded,
        embedder=load_embedder(embedder) if embedder else None,
        expression_reader=load_expression_reader(reader) if reader else None,
        priors=load_priors(found),
        detector_path=found.paths.get(files.DETECTOR),
        config=config,
        dtype=dtype,
        adapters=variant.adapters,
    )


def load_priors(found: FoundFiles) -> dict[str, EmotionPrior]:
    """The priors of a model folder by emotion: eight, or of a variant without emotion none.

    Raises:
        CheckpointError: one is missing or damaged.
    """
    priors = found.variant.priors
    missing = [file.name for file in priors.values() if file not in found.paths]
    if missing:
        raise CheckpointError(f"{found.folder}: {', '.join(missing)} is missing.")
    return {emotion: _read_prior(found.paths[file]) for emotion, file in priors.items()}


def _read_prior(path: Path) -> EmotionPrior:
    """Read a prior of the model.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        return load_prior(path)
    except EmotionError as error:
        raise CheckpointError(str(error)) from error


def _missing(found: FoundFiles) -> str:
    names: dict[str, list[str]] = {}
    for file in found.missing:
        elsewhere = f", looked for in {found.svd}" if found.svd is not None and file.repo == files.SVD_REPO else ""
        names.setdefault(file.origin + elsewhere, []).append(file.name)
    return "\n".join(
        [
            f"{found.folder}: {len(found.missing)} files of the model are missing{_whose(found.variant)}:",
            *(f"  {', '.join(these)}\n    from {origin}" for origin, these in names.items()),
            f"`dicetalk download{found.variant.option}` fetches what is missing; `dicetalk doctor` checks every file.",
        ]
    )


def _whose(variant: Variant) -> str:
    return "" if variant is FULL else f" ({variant.what})"
