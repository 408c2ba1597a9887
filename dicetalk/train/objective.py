"""Objective of the diffusion model on a batch of clips (paper eq. 15-17), and which parameters learn from it."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from dicetalk.denoise.attention import AdapterContext, AttentionContext, CrossAttention, mask_pyramid
from dicetalk.denoise.blocks import SpatioTemporalResBlock, SpatioTemporalTransformer
from dicetalk.denoise.sampler import scale_input, sigma_to_timestep
from dicetalk.emotion.bank import EmotionModel, Nearest
from dicetalk.settings import FPS
from dicetalk.train.config import Ablations, Bank, DiffusionTraining
from dicetalk.train.losses import (
    UNLABELLED,
    add_noise,
    classification_loss,
    denoising_loss,
    pool_features,
)
from dicetalk.train.start import Trainable


class Objective(NamedTuple):
    """The terms of the diffusion model's objective (eq. 15), each a scalar; an ablated one is zero."""

    denoising: torch.Tensor
    classification: torch.Tensor
    vq: torch.Tensor

    def total(self, classification_weight: float) -> torch.Tensor:
        """``L_denoising + lambda * L_cls + L_vq``."""
        return self.denoising + classification_weight * self.classification + self.vq


def emotion_tokens(
    model: EmotionModel, priors: torch.Tensor, bank: Bank, whole_bank: torch.Tensor | None = None
) -> tuple[torch.Tensor, Nearest | None]:
    """Emotion tokens as training makes them.

    Row 0 is for no emotion: a zero prior that attends to the whole bank, as in inference, but does not shape it: the
    entries learn from eq. 17 alone.

    Args:
        model: emotion model.
        priors: ``(B, prior_dim)``.
        bank: see :class:`dicetalk.train.config.Ablations`.
        whole_bank: which priors attend to the whole bank (eq. 12-13) and not to the nearest entry (eq. 10-11),
            booleans ``(B,)``; none means none of them.

    Returns:
        Tokens ``(1 + B, context_tokens, attention_dim)``, and what was retrieved, if the bank retrieves.
    """
    nothing = torch.zeros_like(priors[:1])
    if bank == "none":
        return model.emo_linear(torch.cat([nothing, priors])), None
    if bank == "learnable":
        return model.tokens(torch.cat([nothing, priors])), None
    entries = model.codebook.entries(priors).detach()
    context = model.attention.context(model.kv_tokens_linear(entries).flatten(0, 1)[None])
    tokens, nearest = model.retrieved_tokens(priors)
    if whole_bank is None:
        return torch.cat([model.attention(model.emo_linear(nothing), context), tokens]), nearest
    mixed = model.attention(model.emo_linear(torch.cat([nothing, priors])), context)
    chosen = torch.where(whole_bank[:, None, None], mixed[1:], tokens)
    return torch.cat([mixed[:1], chosen]), nearest


class DiffusionObjective(nn.Module):
    """The four trained networks and their losses.

    Args:
        networks: to train.
        config: of the training.
    """

    added_ids: torch.Tensor

    def __init__(self, networks: Trainable, config: DiffusionTraining):
        super().__init__()
        self.unet = networks.unet
        self.audio_projection = networks.audio_projection
        self.emotion_model = networks.emotion_model
        self.pose_guider = networks.pose_guider
        self.ablations = config.ablations
        self.classification_weight = config.classification_weight
        added_ids = torch.tensor([FPS, config.motion_bucket, config.expression_bucket])
        self.register_buffer("added_ids", added_ids, persistent=False)
        freeze(self, config.ablations, config.trained)
        if config.gradient_checkpointing:
            checkpoint_blocks(self.unet)

    def forward(
        self,
        latents: torch.Tensor,
        image_latents: torch.Tensor,
        clip_token: torch.Tensor,
        windows: torch.Tensor,
        mask: torch.Tensor,
        classes: torch.Tensor,
        priors: torch.Tensor,
        of_prior: torch.Tensor,
        noise: torch.Tensor,
        sigma: torch.Tensor,
        dropped: torch.Tensor,
        whole_bank: torch.Tensor | None = None,
        weights: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Losses of a batch.

        Args:
            latents: scaled, ``(B, F, 4, h, w)``.
            image_latents: of the portraits, unscaled, ``(B, 4, h, w)``.
            clip_token: image embeddings of the portraits, ``(B, 1, context_dim)``.
            windows: Whisper's states around each frame, ``(B, F, 10, layers, channels)``.
            mask: face masks at picture size, ``(B, 1, H, W)``.
            classes: labels for the classifier, int64 ``(B,)``.
            priors: sampled emotion priors, ``(R, prior_dim)``.
            of_prior: which of them each frame has, int64 ``(B, F)``.
            noise: like `latents`.
            sigma: noise levels, ``(B,)``.
            dropped: which clip goes without audio, image, emotion, booleans ``(B, 3)``.
            whole_bank: as in :func:`emotion_tokens`.
            weights: as in :func:`dicetalk.train.losses.denoising_loss`.
        """
        batch, frames = latents.shape[:2]
        no_audio, no_image, no_emotion = dropped.unbind(dim=1)

        # 1. Conditions: row 0 stands for none, then one row for each clip, frame or prior
        nothing = torch.zeros_like(windows[:1, :1])
        audio = self.audio_projection(torch.cat([nothing[0], windows.flatten(0, 1)]))
        with torch.autocast(priors.device.type, enabled=False):  # distances to entries are small differences
            tokens, nearest = emotion_tokens(self.emotion_model, priors, self.ablations.bank, whole_bank)
        clip = torch.cat([torch.zeros_like(clip_token[:1]), clip_token])
        of_frame = 1 + torch.arange(batch * frames, device=latents.device).reshape(batch, frames)
        of_clip = 1 + torch.arange(batch, device=latents.device)[:, None].expand(-1, frames)

        # 2. One call of the UNet
        height, width = latents.shape[-2:]
        pyramid = mask_pyramid(mask, (height, width), len(self.unet.config.block_out_channels))
        pyramid = {size: level.repeat_interleave(frames, dim=0) for size, level in pyramid.items()}
        context = AttentionContext(
            self.unet.project_clip(clip),
            of_clip.masked_fill(no_image[:, None], 0),
            (
                AdapterContext(
                    self.unet.project_adapter(0, audio), of_frame.masked_fill(no_audio[:, None], 0), mask=pyramid
                ),
                AdapterContext(
                    self.unet.project_adapter(1, tokens),
                    (1 + of_prior).masked_fill(no_emotion[:, None], 0),
                    mask=pyramid,
                ),
            ),
        )
        pose = self.pose_guider(mask.expand(-1, 3, -1, -1)).repeat_interleave(frames, dim=0)
        noisy = scale_input(add_noise(latents, noise, sigma), sigma[:, None, None, None, None])
        image = image_latents.masked_fill(no_image[:, None, None, None], 0)
        sample = torch.cat([noisy, image[:, None].expand(-1, frames, -1, -1, -1)], dim=2)
        added_ids = self.added_ids.expand(batch, -1)
        v, middle = self.unet(sample, sigma_to_timestep(sigma), added_ids, context, pose)

        # 3. Losses
        zero = v.new_zeros(())
        logits = self.emotion_model.classifier(pool_features(middle, frames)) if self.ablations.classifier else None
        labels = classes.masked_fill(no_emotion, UNLABELLED)
        losses = Objective(
            denoising_loss(v, latents, noise, sigma, weights),
            zero if logits is None else classification_loss(logits, labels),
            zero if nearest is None else nearest.vq_loss,
        )
        output = {"loss": losses.total(self.classification_weight), **losses._asdict()}
        if nearest is not None:
            first = of_prior[:, 0]  # as many in every process
            output |= {"bank_indices": nearest.indices[first], "priors": priors[first]}
        return output


def freeze(objective: DiffusionObjective, ablations: Ablations, trained: str) -> None:
    """Take the gradient from every parameter that learns nothing, so that nobody waits for it or averages it."""
    emotion = objective.emotion_model
    idle: list[nn.Module] = [m.to_k for m in objective.unet.modules() if isinstance(m, CrossAttention)]
    if not ablations.classifier:
        idle.append(emotion.classifier)
    if ablations.bank == "learnable":
        idle.append(emotion.codebook.fc)
    if ablations.bank == "none":
        idle += [emotion.codebook, emotion.kv_tokens_linear, emotion.attention]
    if trained == "adapters":
        idle.append(objective.unet)
    for module in idle:
        module.requires_grad_(False)
    if trained == "adapters":
        for module in objective.unet.modules():
            if isinstance(module, CrossAttention):
                module.processor.requires_grad_(True)


def checkpoint_blocks(unet: nn.Module) -> None:
    """Let the UNet's blocks keep only their inputs, and compute everything else again in the backward pass."""
    for module in unet.modules():
        if isinstance(module, (SpatioTemporalResBlock, SpatioTemporalTransformer)):
            module.forward = _recomputed(module.forward)  # type: ignore[method-assign]  # keeps hooks and names


def _recomputed(forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return partial(checkpoint, forward, use_reentrant=False, preserve_rng_state=False)
