"""Emotion tracks over time: smoothing, resampling, and samples of a prior that drift slowly."""

import math

import torch
import torch.nn.functional as F

from dicetalk.emotion.timeline import Timeline
from dicetalk.emotion.track import MODEL_FPS, EmotionTrack, Gaussians
from dicetalk.errors import EmotionError
from dicetalk.hooks import Hooks
from dicetalk.media import listed

MAX_SMOOTHING_SECONDS = 10.0
REACH = 4
"""Standard deviations of a Gaussian kernel that are kept on either side."""


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
    timeline = Timeline.grid(track.end + REACH * seconds)
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
    timeline = Timeline.grid(end, fps)
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
        timeline = Timeline.of(track)
    else:
        timeline = Timeline.grid(max(track.end, seconds or 0.0))
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
