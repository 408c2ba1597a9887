"""Arithmetic of emotion tracks: pure functions that act on the difference to neutral.

With ``d(t) = mu(t) - neutral`` every operation here turns differences into a difference, for each moment alone. Weights
and intensities are numbers or :class:`~dicetalk.emotion.curve.Curve`, 0 to 2 as in :mod:`dicetalk.emotion.mix`. Results
are exact at the model's frames, ``i / 12.5`` s, also where easings are bent.

Variances are averaged by the share that each track takes, neutral taking what the weights leave of 1: a mixture is no
sharper than its parts. A neutral of unknown spread counts as a point; a track of unknown spread makes the result's
unknown.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from dicetalk.emotion.curve import Curve
from dicetalk.emotion.mix import MAX_WEIGHT, NEUTRAL, shared_sigma
from dicetalk.emotion.prior import EmotionPrior, find_prior
from dicetalk.emotion.timeline import Timeline
from dicetalk.emotion.track import EmotionTrack, Gaussians
from dicetalk.errors import EmotionError

Weight = float | Curve

PATHS = ("linear", "sphere", "neutral")
"""Ways from one emotion to another: straight, around neutral, or through it."""


def weighted_mix(parts: Sequence[tuple[EmotionTrack, Weight]], neutral: EmotionPrior) -> EmotionTrack:
    """``neutral + sum_i w_i(t) d_i(t)``.

    Args:
        parts: tracks with their weights; none at all are neutral.
        neutral: what differences are taken to.

    Raises:
        EmotionError: a weight is outside 0 to 2, or a track that must be evaluated frame by frame is longer than
            :data:`~dicetalk.emotion.timeline.MAX_SECONDS`.
    """
    tracks = [track for track, _ in parts]
    curves = [_curve(weight, "A weight") for _, weight in parts]
    timeline = Timeline.shared(tracks, curves)
    base = neutral.mu.expand(len(timeline.seconds), -1)
    mu = base
    shares: list[tuple[torch.Tensor, torch.Tensor | None]] = []
    for track, curve in zip(tracks, curves, strict=True):
        weights = torch.from_numpy(curve.at(timeline.seconds)).float()[:, None]
        values = track.at(timeline.seconds)
        # Weights 0 and 1 of the first track are exact this way.
        mu = base.lerp(values.mu, weights) if mu is base else mu + weights * (values.mu - base)
        shares.append((weights, values.sigma))
    sigma = shared_sigma(shares, base.shape, neutral)
    return timeline.track(Gaussians(mu, sigma), _joined(tracks) if tracks else NEUTRAL)


def scale(track: EmotionTrack, intensity: Weight, neutral: EmotionPrior) -> EmotionTrack:
    """``neutral + intensity(t) d(t)``: 0 is neutral, 1 the track itself, more exaggerates it.

    Raises:
        EmotionError: as :func:`weighted_mix`.
    """
    return weighted_mix([(track, intensity)], neutral)


def add(track: EmotionTrack, other: EmotionTrack, neutral: EmotionPrior) -> EmotionTrack:
    """``neutral + d(t) + d'(t)``: both emotions in full; :func:`limit` keeps the sum where the network knows priors.

    Raises:
        EmotionError: as :func:`weighted_mix`.
    """
    return weighted_mix([(track, 1.0), (other, 1.0)], neutral)


def interpolate(
    start: EmotionTrack, end: EmotionTrack, amount: Weight, neutral: EmotionPrior, path: str = "linear"
) -> EmotionTrack:
    """From `start` (amount 0) to `end` (amount 1).

    The straight way (``linear``) passes near neutral where the two are opposed, so that the emotion fades in the
    middle. Along the ``sphere`` around neutral the difference to it turns, and its length changes evenly: the emotion
    stays as strong. It turns at constant speed if both are equally strong, otherwise nearer to the weaker one, so that
    an emotion that hardly differs from neutral does not decide where the way leads. Where both are exactly opposed
    there is no such way, and the straight one is taken. Through ``neutral`` the first fades out before the second
    begins, so that no moment shows both: a network that jumps between two mixed emotions still knows each at less
    intensity.

    Args:
        start: shown at amount 0.
        end: shown at amount 1.
        amount: 0 to 1.
        neutral: the centre.
        path: one of :data:`PATHS`.

    Raises:
        EmotionError: the amount is outside 0 to 1, the path is unknown, or a track is too long to combine.
    """
    if path not in PATHS:
        raise EmotionError(f"The path {path!r} is unknown. Known: {', '.join(PATHS)}.")
    curve = _curve(amount, "The amount", most=1.0)
    timeline = Timeline.shared([start, end], [curve])
    if path != "linear" and len(timeline.seconds) > 1:
        timeline = Timeline.grid(timeline.seconds[-1])  # between keyframes the way is bent
    way = torch.from_numpy(curve.at(timeline.seconds)).float()[:, None]
    first, last = start.at(timeline.seconds), end.at(timeline.seconds)
    if path == "neutral":
        shares = [((1 - 2 * way).clamp(min=0), first.sigma), ((2 * way - 1).clamp(min=0), last.sigma)]
        mu = neutral.mu.lerp(first.mu, shares[0][0]) + shares[1][0] * (last.mu - neutral.mu)
        return timeline.track(Gaussians(mu, shared_sigma(shares, mu.shape, neutral)), _joined([start, end]))
    if path == "linear":
        mu = first.mu.lerp(last.mu, way)
    else:
        mu = neutral.mu + _along_sphere(first.mu - neutral.mu, last.mu - neutral.mu, way)
    sigma = None
    if first.sigma is not None and last.sigma is not None:
        sigma = first.sigma.square().lerp(last.sigma.square(), way).sqrt()
    return timeline.track(Gaussians(mu, sigma), _joined([start, end]))


def limit(track: EmotionTrack, radius: float, neutral: EmotionPrior) -> EmotionTrack:
    """Keep every prior within `radius` of neutral; those further out move straight towards it. Spread stays.

    Args:
        track: what to limit.
        radius: largest distance, in the priors' own measure; :func:`preset_radius` gives a scale.
        neutral: the centre.

    Raises:
        EmotionError: `radius` is negative or no number, or the track is too long.
    """
    if not radius >= 0:
        raise EmotionError(f"The limit is {radius:g}; expected a distance of 0 or more.")
    timeline = Timeline.of(track)
    # What lies between priors inside a ball is inside as well.
    if _distances(track.at(timeline.seconds).mu, neutral).max() <= radius * (1 + 1e-6):
        return track
    if not track.is_constant:
        timeline = Timeline.grid(track.end)
    values = track.at(timeline.seconds)
    factor = (radius / _distances(values.mu, neutral).clamp(min=1e-12)).clamp(max=1)
    mu = neutral.mu + factor * (values.mu - neutral.mu)
    return timeline.track(Gaussians(mu, values.sigma), _joined([track]))


def preset_radius(priors: Mapping[str, EmotionPrior]) -> float:
    """Distance from neutral to the farthest of `priors`.

    Raises:
        EmotionError: neutral is not among them.
    """
    neutral = find_prior(NEUTRAL, priors)
    return float(_distances(torch.stack([prior.mu for prior in priors.values()]), neutral).max())


def _along_sphere(first: torch.Tensor, last: torch.Tensor, way: torch.Tensor) -> torch.Tensor:
    """Spherical interpolation of rows, with lengths between the two lengths."""
    first, last, way = first.double(), last.double(), way.double()
    straight = first.lerp(last, way)
    lengths = first.norm(dim=1, keepdim=True), last.norm(dim=1, keepdim=True)
    length = lengths[0].lerp(lengths[1], way)
    turn = way * lengths[1] / length.clamp(min=1e-12)  # the share that the second has in the length
    directions = [x / norm.clamp(min=1e-12) for x, norm in zip((first, last), lengths, strict=True)]
    # More exact than the arc cosine at small angles, and defined at all.
    angle = 2 * torch.atan2(
        (directions[0] - directions[1]).norm(dim=1, keepdim=True),
        (directions[0] + directions[1]).norm(dim=1, keepdim=True),
    )
    sine = angle.sin()
    safe = sine.clamp(min=1e-12)
    turned = ((1 - turn) * angle).sin() / safe * directions[0] + (turn * angle).sin() / safe * directions[1]
    defined = (sine > 1e-6) & (lengths[0] > 1e-9) & (lengths[1] > 1e-9)
    return torch.where(defined, length * turned, straight).float()


def _distances(mu: torch.Tensor, neutral: EmotionPrior) -> torch.Tensor:
    return (mu - neutral.mu).norm(dim=1, keepdim=True)


def _curve(weight: Weight, what: str, most: float = MAX_WEIGHT) -> Curve:
    values = weight.values if isinstance(weight, Curve) else np.array([weight], dtype=np.float64)
    for value in (values.min(), values.max()):
        if not 0 <= value <= most:  # NaN as well
            raise EmotionError(f"{what} is {value:g}; expected 0 to {most:g}.")
    return weight if isinstance(weight, Curve) else Curve.constant(weight)


def _joined(tracks: Sequence[EmotionTrack]) -> str:
    """The names of `tracks`, each once."""
    return "+".join(dict.fromkeys(track.keyframes[0].prior.name for track in tracks))
