"""A reference clip through the emotion embedder (paper 3.1, eq. 2-6): its prior, or a track of priors.

The embedder learns from parts of clips of a few seconds, so a long clip is embedded in such parts, and cost grows with
its length, not with the square of it.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import torch

from dicetalk.audio.features import STEPS_BEFORE, STEPS_PER_FRAME, SpeechFeatures
from dicetalk.emotion.algebra import smooth
from dicetalk.emotion.embedder import EmotionEmbedder, PriorDistribution
from dicetalk.emotion.prior import EmotionPrior
from dicetalk.emotion.track import EmotionTrack, Keyframe
from dicetalk.errors import EmotionError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.residency import CPU, Residency
from dicetalk.settings import EMBEDDED_SECONDS, FPS

PART_FRAMES = 75
"""Longest part of a clip that is embedded at once for one prior: 6 s."""

LEAST_WINDOW_SECONDS = 0.5

HOP_FRAMES = 2
"""A track has a prior for every second frame; between, it moves evenly."""

BATCH = 16


def audio_states(speech: SpeechFeatures) -> torch.Tensor:
    """Whisper's states of a clip as the embedder wants them, ``(4 frames, layers * channels)``."""
    steps = STEPS_PER_FRAME * speech.frames
    return speech.states[STEPS_BEFORE : STEPS_BEFORE + steps].flatten(1)


def embed_prior(
    embedder: EmotionEmbedder,
    visual: torch.Tensor | None,
    audio: torch.Tensor | None,
    name: str,
    residency: Residency = CPU,
    hooks: Hooks = SILENT,
) -> EmotionPrior:
    """One prior of a whole clip.

    A clip longer than 6 s is cut into equal parts; its prior is the mean of theirs, and its variance the mean of their
    variances plus the variance of their means.

    Args:
        embedder: the network.
        visual: expression coefficients at 12.5 fps, float32 ``(N, visual_dim)``, or none.
        audio: Whisper states at 50 Hz, ``(4 N, audio_dim)``, or none.
        name: of the prior.
        residency: brings the embedder onto a device.
        hooks: hears the stage ``embed``, in parts.

    Raises:
        EmotionError: both are missing, or their sizes are not those of the embedder.
    """
    frames = _frames(embedder, visual, audio)
    edges = np.linspace(0, frames, -(-frames // PART_FRAMES) + 1).round().astype(int)
    parts = [slice(start, end) for start, end in itertools.pairwise(edges.tolist())]
    mu, sigma = _embedded(embedder, visual, audio, parts, residency, hooks)
    weights = torch.from_numpy(np.diff(edges)).float()[:, None] / frames
    mean = (weights * mu).sum(dim=0)
    variance = (weights * (sigma.square() + (mu - mean).square())).sum(dim=0)
    return EmotionPrior(mean, variance.sqrt(), name)


def embed_track(
    embedder: EmotionEmbedder,
    visual: torch.Tensor | None,
    audio: torch.Tensor | None,
    name: str,
    *,
    window_seconds: float = EMBEDDED_SECONDS,
    smoothing: float = 0.0,
    residency: Residency = CPU,
    hooks: Hooks = SILENT,
) -> EmotionTrack:
    """The prior of a window that slides over a clip, at the time of its middle.

    Args:
        embedder: the network.
        visual: as for :func:`embed_prior`.
        audio: as for :func:`embed_prior`.
        name: of the priors.
        window_seconds: 0.5 to 6 s. Shorter windows follow quicker changes, and know less.
        smoothing: standard deviation, in seconds, of the Gaussian that the track is blurred with.
        residency: brings the embedder onto a device.
        hooks: hears the stage ``embed``, in windows.

    Raises:
        EmotionError: as for :func:`embed_prior`, or a number is out of range.
    """
    check_window(window_seconds)
    frames = _frames(embedder, visual, audio)
    length = min(round(window_seconds * FPS), frames)
    middles = list(range(0, frames, HOP_FRAMES))
    starts = [min(max(middle - length // 2, 0), frames - length) for middle in middles]
    rows = {start: row for row, start in enumerate(dict.fromkeys(starts))}  # near the ends several middles share one
    mu, sigma = _embedded(embedder, visual, audio, [slice(s, s + length) for s in rows], residency, hooks)
    priors = [EmotionPrior(mean, deviation, name) for mean, deviation in zip(mu, sigma, strict=True)]
    moments = zip(middles, starts, strict=True)
    track = EmotionTrack(tuple(Keyframe(middle / FPS, priors[rows[start]]) for middle, start in moments))
    return smooth(track, smoothing)


def check_window(seconds: float) -> None:
    """Raise :class:`EmotionError` unless a track's window of `seconds` is one that the embedder can read."""
    if not LEAST_WINDOW_SECONDS <= seconds <= PART_FRAMES / FPS:
        raise EmotionError(
            f"The window is {seconds:g} s; expected {LEAST_WINDOW_SECONDS:g} to {PART_FRAMES / FPS:g} s."
        )


def _embedded(
    embedder: EmotionEmbedder,
    visual: torch.Tensor | None,
    audio: torch.Tensor | None,
    parts: Sequence[slice],
    residency: Residency,
    hooks: Hooks,
) -> PriorDistribution:
    """Priors of `parts`, which are slices of frames, ``(parts, dim)`` on the CPU."""
    # Rows of one tensor: small results that lie among the networks' large ones keep the memory of those from reuse.
    found = PriorDistribution(*(torch.empty(len(parts), embedder.config.dim) for _ in PriorDistribution._fields))
    with residency(embedder) as device, torch.no_grad():
        for start in range(0, len(parts), BATCH):
            hooks.check()
            batch = parts[start : start + BATCH]
            sequences = {}
            for kind, values, rate in (("visual", visual, 1), ("audio", audio, STEPS_PER_FRAME)):
                if values is not None:
                    cut = [values[rate * part.start : rate * part.stop].float() for part in batch]
                    sequences[kind] = torch.nn.utils.rnn.pad_sequence(cut, batch_first=True).to(device)
                    sequences[f"{kind}_lengths"] = torch.tensor([len(values) for values in cut])
            for rows, values in zip(found, embedder(**sequences), strict=True):
                rows[start : start + len(batch)] = values
            hooks.report("embed", start + len(batch), len(parts))
    return found


def _frames(embedder: EmotionEmbedder, visual: torch.Tensor | None, audio: torch.Tensor | None) -> int:
    """Length of a clip, as far as both its sequences reach."""
    if visual is None and audio is None:
        raise EmotionError("An emotion prior needs a face video, speech, or both; neither was given.")
    config = embedder.config
    for what, values, dim in (
        ("expression coefficients", visual, config.visual_dim),
        ("Whisper numbers a step", audio, config.audio_dim),
    ):
        if values is not None and values.shape[1] != dim:
            raise EmotionError(
                f"The reference has {values.shape[1]} {what}; the embedder was trained on {dim}. "
                "Read them as the embedder's training did."
            )
    lengths = [] if visual is None else [len(visual)]
    lengths += [] if audio is None else [len(audio) // STEPS_PER_FRAME]
    if min(lengths) < 1:
        raise EmotionError("The reference is shorter than one frame; at least 0.08 s are needed.")
    return min(lengths)
