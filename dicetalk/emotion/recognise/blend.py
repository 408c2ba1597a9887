"""Scores of the eight emotions become a prior, or a track, in the space of a model's own eight priors.

Nobody has published an embedder for the released model, but its eight priors are known. A face that looks 70 % happy
and 20 % surprised is taken to be ``neutral + 0.7 k (happy - neutral) + 0.2 k (surprised - neutral)``.
"""

from collections.abc import Mapping

import numpy as np
import torch

from dicetalk.emotion.algebra import smooth
from dicetalk.emotion.mix import NEUTRAL, check_weight
from dicetalk.emotion.prior import PRESET_NAMES, EmotionPrior, find_prior
from dicetalk.emotion.track import EmotionTrack


def blend(scores: np.ndarray, priors: Mapping[str, EmotionPrior], strength: float = 1.0) -> torch.Tensor:
    """``neutral + sum_i p_i k (mu_i - neutral)`` of every moment.

    Args:
        scores: probabilities p of the eight presets, ``(T, 8)``.
        priors: the eight priors, by name.
        strength: k, 0 to 2.

    Returns:
        float32 ``(T, 256)``.

    Raises:
        EmotionError: a prior is missing, or the strength is out of range.
    """
    check_weight(strength, "The strength")
    neutral = find_prior(NEUTRAL, priors).mu
    differences = torch.stack([find_prior(name, priors).mu for name in PRESET_NAMES]) - neutral
    return neutral + strength * torch.from_numpy(np.asarray(scores, np.float32)) @ differences


def blended_prior(mus: torch.Tensor, counted: np.ndarray, name: str) -> EmotionPrior:
    """Mean and spread over time of priors `mus` ``(T, 256)``; one moment has no spread that is known.

    Args:
        mus: of every moment.
        counted: true where the face was seen, ``(T,)``.
        name: of the prior.
    """
    seen = mus[torch.from_numpy(counted)]
    sigma = seen.std(dim=0, correction=0) if len(seen) > 1 else None
    return EmotionPrior(seen.mean(dim=0), sigma, name)


def blended_track(mus: torch.Tensor, smoothing: float, name: str) -> EmotionTrack:
    """A curve of one prior for each frame at 12.5 fps.

    Args:
        mus: of every frame, ``(T, 256)``.
        smoothing: standard deviation, in seconds, of the Gaussian that the curve is blurred with; the spread of what it
            takes away is the track's sigma.
        name: of the priors.

    Raises:
        EmotionError: the smoothing is out of range.
    """
    raw = EmotionTrack.curve([EmotionPrior(mu, name=name) for mu in mus])
    smoothed = smooth(raw, smoothing).at([keyframe.seconds for keyframe in raw.keyframes]).mu
    sigma = (mus - smoothed).square().mean(dim=0).sqrt() if len(mus) > 1 else None
    return EmotionTrack.curve([EmotionPrior(mu, sigma, name) for mu in smoothed])
