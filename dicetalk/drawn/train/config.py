"""Settings of the small model's training."""

from dataclasses import dataclass, field
from pathlib import Path

from dicetalk.train.config import Ablations, LoopConfig, within


@dataclass(frozen=True)
class TinyTraining:
    """``train tiny``: every stage's loop, and how much is drawn for those that train on clips.

    Args:
        out: folder for checkpoints, shards and the finished ``model``.
        hearing: loop of the speech encoder.
        seeing: loop of the image encoder.
        vae: loop of the VAE.
        reader_faces: faces that the expression reader learns from.
        reader_epochs: how often it sees each.
        people: that the embedder learns from; see :func:`dicetalk.drawn.clips.plan_pairs`.
        intensity_apart: of `embedder`; see :class:`dicetalk.train.config.EmbedderTraining`. Its clips are of three
            intensities, and the priors shall tell them.
        cast: people that the UNet learns from; see :func:`dicetalk.drawn.clips.plan_takes`.
        embedder: loop of the emotion embedder.
        stills: loop of the UNet with its adapters, the emotion bank, the audio projection and the pose guider on single
            frames: those of one clip are much alike, so that a step learns more from many clips.
        diffusion: loop of the same networks on windows of frames.
        stills_batch_size: clips of a batch in `stills`.
        stills_ordinary_share: part of them that are neutral.
        window: frames of a clip in `diffusion`; as many as in inference, 25, would leave two faces a step.
        batch_size: clips of a batch, likewise.
        sigma_mean: of `stills` and `diffusion`; see :class:`dicetalk.train.config.DiffusionTraining`.
        sigma_std: likewise.
        portrait_only_rate: likewise.
        whole_bank_rate: likewise.
        mixed_rate: likewise.
        face_weight: likewise.
        mouth_weight: likewise.
        even_channels: likewise.
        emotion_rate: likewise.
        revive_every: likewise.
        ablations: likewise.
        seed: of everything that a run draws in all stages; the loops' own seeds are not used. The pictures that the VAE
            sees parts of are the same in every run.
    """

    out: Path
    hearing: LoopConfig
    seeing: LoopConfig
    vae: LoopConfig
    embedder: LoopConfig
    stills: LoopConfig
    diffusion: LoopConfig
    reader_faces: int = within(16_000, 256)
    reader_epochs: int = within(16, 1)
    people: int = within(60, 2)
    intensity_apart: bool = True
    cast: int = within(300, 1)
    stills_batch_size: int = within(48, 1)
    stills_ordinary_share: float = within(0.25, 0, 1)
    window: int = within(6, 1)
    batch_size: int = within(8, 1)
    sigma_mean: float = within(1.0, -10, 10)
    sigma_std: float = within(1.3, 0, 10, above=True)
    portrait_only_rate: float = within(0.05, 0, 0.2)
    whole_bank_rate: float = within(0.5, 0, 1)
    mixed_rate: float = within(0.5, 0, 1)
    face_weight: float = within(4.0, 0, above=True)
    mouth_weight: float = within(8.0, 0, above=True)
    even_channels: bool = True
    emotion_rate: float = within(0.1, 0, 1, above=True)
    revive_every: int = within(50, 0)
    ablations: Ablations = field(default_factory=Ablations)
    seed: int = within(0, 0, 2**32 - 1)
