"""A track over the speech."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dicetalk.emotion.compare import FEELINGS, differences, preset_weights
from dicetalk.emotion.prior import EmotionPrior
from dicetalk.emotion.show.figure import COLOURS, FAINT, INK, new_figure, pixels, plain_axes
from dicetalk.emotion.track import MAX_SECONDS, MODEL_FPS, EmotionTrack
from dicetalk.errors import EmotionError

VISIBLE_WEIGHT = 0.04
"""Presets that never weigh more are left out."""


def plot_track(
    track: EmotionTrack,
    priors: Mapping[str, EmotionPrior],
    waveform: tuple[np.ndarray, int] | None = None,
    *,
    seconds: float | None = None,
    title: str = "",
    width: int = 1000,
    height: int = 480,
) -> np.ndarray:
    """Draw what a track is made of over time: the weights of the presets and, below, the waveform.

    The dashed line is the distance to neutral, 1 being the average preset's; where it lies far above the weights, the
    emotion is one that the presets do not make up.

    Args:
        track: what to draw.
        priors: the eight presets by name.
        waveform: mono samples ``(n,)`` and their sample rate.
        seconds: how much of the track; if none, the waveform's length, or up to the last keyframe.
        title: above the picture.
        width: of the picture in pixels.
        height: likewise.

    Returns:
        uint8 RGB ``(height, width, 3)``.

    Raises:
        EmotionError: a preset is missing, or the length is not more than 0 and up to an hour.
        SettingError: matplotlib is not installed.
    """
    if seconds is None:
        seconds = max(track.end, 1.0) if waveform is None else len(waveform[0]) / waveform[1]
    if not 0 < seconds <= MAX_SECONDS:
        raise EmotionError(
            f"The length of the picture is {seconds:g} s; expected more than 0, up to {MAX_SECONDS:g} s."
        )
    # At most about two moments for each pixel.
    moments = np.linspace(0, seconds, min(math.ceil(seconds * MODEL_FPS) + 1, 2 * width))
    mu = track.at(moments.tolist()).mu
    weights = preset_weights(mu, priors).numpy()
    neutral, presets = differences(priors)
    strength = ((mu - neutral).norm(dim=1) / presets.norm(dim=1).mean()).numpy()

    figure = new_figure(width, height)
    if waveform is None:
        axes = figure.subplots()
    else:
        axes, sound = figure.subplots(2, 1, sharex=True, height_ratios=[2.6, 1])
        _draw_waveform(sound, *waveform, seconds, width)
    _draw_weights(axes, moments, weights, strength)
    (axes if waveform is None else sound).set_xlabel("seconds", color=INK)
    axes.set_xlim(0, seconds)
    if title:
        axes.set_title(title, loc="left", fontsize=11, color=INK)
    return pixels(figure)


def _draw_weights(axes: Any, moments: np.ndarray, weights: np.ndarray, strength: np.ndarray) -> None:
    for i, name in enumerate(FEELINGS):
        if weights[:, i].max() > VISIBLE_WEIGHT:
            axes.plot(moments, weights[:, i], color=COLOURS[name], linewidth=2, label=name, solid_capstyle="round")
            axes.fill_between(moments, weights[:, i], color=COLOURS[name], alpha=0.12, linewidth=0)
    axes.plot(moments, strength, color=INK, linewidth=1.2, linestyle=(0, (4, 3)), label="distance to neutral")
    axes.set_ylim(0, max(1.05, 1.08 * float(strength.max()), 1.08 * float(weights.max())))
    axes.set_ylabel("weight of the preset", color=INK)
    axes.grid(axis="y", color=FAINT, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9, labelcolor=INK)
    plain_axes(axes)


def _draw_waveform(axes: Any, samples: np.ndarray, sample_rate: int, seconds: float, width: int) -> None:
    samples = samples[: max(round(seconds * sample_rate), 1)]
    columns = min(width, len(samples))
    edges = np.linspace(0, len(samples), columns + 1).astype(int)[:-1]
    low, high = np.minimum.reduceat(samples, edges), np.maximum.reduceat(samples, edges)
    axes.fill_between(edges / sample_rate, low, high, color=INK, alpha=0.75, linewidth=0)
    peak = max(float(np.abs(samples).max()), 1e-3)
    axes.set_ylim(-1.05 * peak, 1.05 * peak)
    axes.set_yticks([])
    axes.set_ylabel("speech", color=INK)
    plain_axes(axes)
