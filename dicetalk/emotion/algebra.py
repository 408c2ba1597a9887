"""Arithmetic of emotion tracks: pure functions that act on the difference to neutral, or along time.

With ``d(t) = mu(t) - neutral``, mixing, scaling, limiting and interpolating turn differences into a difference, for
each moment alone. Weights and intensities are numbers or :class:`~dicetalk.emotion.track.Curve`, 0 to 2 as in
:mod:`dicetalk.emotion.mix`. Results are exact at the model's frames, ``i / 12.5`` s, also where easings are bent.

Variances are averaged by the share that each track takes, neutral taking what the weights leave of 1: a mixture is no
sharper than its parts. A neutral of unknown spread counts as a point; a track of unknown spread makes the result's
unknown. Smoothing, resampling and sampling evaluate a track on a grid of moments.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from dicetalk.emotion.mix import MAX_WEIGHT, NEUTRAL, shared_sigma
from dicetalk.emotion.prior import EmotionPrior, find_prior
from dicetalk.emotion.track import MODEL_FPS, Curve, EmotionTrack, Gaussians, KeyframeTimes
from dicetalk.errors import EmotionError
from dicetalk.hooks import Hooks
from dicetalk.media import listed

Weight = float | Curve

PATHS = ("linear", "sphere", "neutral")
"""Ways from one emotion to another: straight, around neutral, or through it."""

MAX_SMOOTHING_SECONDS = 10.0
REACH = 4
"""Standard deviations of a Gaussian kernel that are kept on either side."""


def weighted_mix(parts: Sequence[tuple[EmotionTrack, Weight]], neutral: EmotionPrior) -> EmotionTrack:
    """``neutral + sum_i w_i(t) d_i(t)``.

    Args:
        parts: tracks with their weights; none at all are neutral.
        neutral: what differences are taken to.

    Raises:
        EmotionError: a weight is outside 0 to 2, or a track that must be evaluated frame by frame is longer than
            :data:`~dicetalk.emotion.track.MAX_SECONDS`.
    """
    tracks = [track for track, _ in parts]
    curves = [_curve(weight, "A weight") for _, weight in parts]
    timeline = KeyframeTimes.shared(tracks, curves)
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
    timeline = KeyframeTimes.shared([start, end], [curve])
    if path != "linear" and len(timeline.seconds) > 1:
        timeline = KeyframeTimes.grid(timeline.seconds[-1])  # between keyframes the way is bent
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
    timeline = KeyframeTimes.of(track)
    # What lies between priors inside a ball is inside as well.
    if _distances(track.at(timeline.seconds).mu, neutral).max() <= radius * (1 + 1e-6):
        return track
    if not track.is_constant:
        timeline = KeyframeTimes.grid(track.end)
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


def smooth(track: EmotionTrack, seconds: float) -> EmotionTrack:
    """Blur a track with a Gaussian of standard deviation `seconds`, at the model's frames and without delay.

    Before the first and after the last keyframe the emotion is held, as everywhere, so the track's ends stay what they
    are and its changes may begin earlier and end later. Variances are averaged in the same way.

    Raises:
        EmotionError: `seconds` is outside 0 to 10, or the track is too long.
    """
    if not 0 <= seconds <= MAX_SMOOTHING_SECONDS:
        raise EmotionError(f"The smoothing is {seconds:g} s; expected 0 to {MAX_SMOOTHING_SECONDS:g} s.")
    if seconds == 0 or track.is_constant:
        return track
    timeline = KeyframeTimes.grid(track.end + REACH * seconds)
    values = track.at(timeline.seconds)
    sigma = None if values.sigma is None else _blur(values.sigma.square(), seconds * MODEL_FPS).clamp(min=0).sqrt()
    return timeline.track(Gaussians(_blur(values.mu, seconds * MODEL_FPS), sigma), track.keyframes[0].prior.name)


def resample(track: EmotionTrack, fps: float = MODEL_FPS, seconds: float | None = None) -> EmotionTrack:
    """One linear keyframe for each moment ``i / fps``: what a table of values or another program wants.

    Args:
        track: what to evaluate.
        fps: moments a second, at most 1000.
        seconds: how much of the track; up to its last keyframe if none.

    Raises:
        EmotionError: `fps` or `seconds` is out of range, or the track is too long or would have more than 100 000
            keyframes.
    """
    if not 0 < fps <= 1000:
        raise EmotionError(f"The frame rate of a track is {fps:g}; expected more than 0, up to 1000.")
    end = track.end if seconds is None else seconds
    if not end >= 0:
        raise EmotionError(f"The length of a track is {end:g} s; expected 0 s or more.")
    timeline = KeyframeTimes.grid(end, fps)
    return timeline.track(track.at(timeline.seconds), track.keyframes[0].prior.name)


def sample(
    track: EmotionTrack,
    temperature: float,
    seed: int,
    *,
    drift_seconds: float | None = None,
    seconds: float | None = None,
) -> EmotionTrack:
    """``mu(t) + temperature * sigma(t) * eps(t)``: one way of showing the emotion out of many (eq. 6).

    Without `drift_seconds` eps is one standard normal vector, the same throughout. With it, eps is a stationary
    Gaussian process, at every moment standard normal, whose correlation over a time difference ``dt`` is
    ``exp(-dt**2 / (2 * drift_seconds**2))``: smooth, and after two or three `drift_seconds` a different sample. The
    beginning does not depend on the length. A sample has no spread left.

    Args:
        track: with a known spread.
        temperature: 0 gives the mean, 1 the paper's sample; 0 to 3.
        seed: of a local generator on the CPU.
        drift_seconds: time constant of the slow change, 0.2 to 30 s.
        seconds: length of the clip that eps changes over; up to the last keyframe if none.

    Raises:
        EmotionError: the spread is unknown, or a number is out of range.
    """
    if not 0 <= temperature <= 3:
        raise EmotionError(f"The temperature is {temperature:g}; expected 0 to 3.")
    if drift_seconds is not None and not 0.2 <= drift_seconds <= 30:
        raise EmotionError(f"The time constant of the drift is {drift_seconds:g} s; expected 0.2 to 30 s.")
    if not -(2**63) <= seed < 2**64:
        raise EmotionError(f"The seed is {str(seed)[:40]}; expected -2**63 to 2**64 - 1.")
    name = track.keyframes[0].prior.name
    if track.is_constant and drift_seconds is None:
        timeline = KeyframeTimes.of(track)
    else:
        timeline = KeyframeTimes.grid(max(track.end, seconds or 0.0))
    values = track.at(timeline.seconds)
    if temperature == 0:
        return timeline.track(Gaussians(values.mu, None), name)
    if values.sigma is None:
        raise EmotionError(
            f"The emotion {name!r} has no known spread to sample from. Take it from a reference clip, "
            "or set the temperature to 0."
        )
    generator = torch.Generator().manual_seed(seed)
    dim = values.mu.shape[1]
    if drift_seconds is None:
        eps = torch.randn(1, dim, generator=generator)
    else:
        eps = _drift(len(timeline.seconds), dim, drift_seconds * MODEL_FPS, generator)
    return timeline.track(Gaussians(values.mu + temperature * values.sigma * eps, None), name)


def note_unused_end(track: EmotionTrack, seconds: float, hooks: Hooks) -> EmotionTrack:
    """`track`, with a notice if it goes on more than a frame after the speech has ended."""
    if track.end > seconds + 1 / MODEL_FPS:
        late = [f"{keyframe.seconds:.2f} s" for keyframe in track.keyframes if keyframe.seconds > seconds]
        hooks.notice(
            f"The emotion track goes on to {track.end:.2f} s, the speech to {seconds:.2f} s: "
            f"{len(late)} of its {len(track.keyframes)} keyframes are not used (at {listed(late)})."
        )
    return track


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


def _drift(steps: int, dim: int, time_constant: float, generator: torch.Generator) -> torch.Tensor:
    """White noise blurred so that its correlation is a Gaussian of standard deviation `time_constant` (in steps)."""
    # A kernel of standard deviation s correlates noise like a Gaussian of standard deviation s * sqrt(2).
    kernel = _gaussian(time_constant / math.sqrt(2))
    kernel = kernel / kernel.square().sum().sqrt()
    white = torch.randn(steps + len(kernel) - 1, dim, generator=generator)
    return F.conv1d(white.T[:, None], kernel[None, None]).squeeze(1).T


def _blur(rows: torch.Tensor, deviation: float) -> torch.Tensor:
    """Convolve each column of `rows` ``(T, D)`` over time, its ends held."""
    kernel = _gaussian(deviation)
    kernel = kernel / kernel.sum()
    reach = len(kernel) // 2
    first = rows[:1]  # taken away first, so that what does not change stays exactly what it is
    padded = F.pad((rows - first).T[:, None], (reach, reach), mode="replicate")
    return F.conv1d(padded, kernel[None, None]).squeeze(1).T + first


def _gaussian(deviation: float) -> torch.Tensor:
    reach = math.ceil(REACH * deviation)
    return torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation).square())
