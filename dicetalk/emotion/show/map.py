"""A map of emotions among the eight presets."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from dicetalk.emotion.prior import PRESET_NAMES, EmotionPrior, find_prior
from dicetalk.emotion.show.figure import COLOURS, FAINT, INK, new_figure, pixels
from dicetalk.emotion.track import EmotionTrack
from dicetalk.errors import SettingError

METHODS = ("pca", "tsne")
TRACK_POINTS = 100
"""Moments of a track that are drawn."""

LEAST_MOVE = 0.02
"""Those nearer to the one before, as a part of how far the track goes, are left out: t-SNE would tangle them."""

MAX_LABEL = 24
LETTER = 7.2
"""Width of a letter in pixels, about."""


class _Label(NamedTuple):
    text: str
    place: np.ndarray
    colour: str


def plot_priors(
    emotions: Mapping[str, EmotionPrior | EmotionTrack],
    priors: Mapping[str, EmotionPrior],
    methods: Sequence[str] = METHODS,
    *,
    panel: int = 560,
) -> np.ndarray:
    """Draw emotions as points, and tracks as ways, on maps with the eight presets as anchors.

    The axes of ``pca`` are the two main directions of the eight presets, so that they lie alike on every map.
    ``tsne`` shows who is near whom, not how far; its map is made anew from what is drawn. The way of a track goes from
    dark to light, and a diamond is its end.

    Args:
        emotions: priors and tracks by the name to write beside them; may be empty.
        priors: the eight presets by name.
        methods: one map for each, of :data:`METHODS`.
        panel: width and height of each map in pixels.

    Returns:
        uint8 RGB ``(panel, panel * len(methods), 3)``.

    Raises:
        EmotionError: a preset is missing.
        SettingError: there is no method or an unknown one, or matplotlib or scikit-learn is not installed.
    """
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods:
        raise SettingError(f"The map {str((unknown or [''])[0])!r} is unknown. Known: {', '.join(METHODS)}.")
    anchors = torch.stack([find_prior(name, priors).mu for name in PRESET_NAMES])
    groups = [_rows(emotion) for emotion in emotions.values()]
    rows = torch.cat([anchors, *groups]).double().numpy()
    figure = new_figure(panel * len(methods), panel)
    maps = []
    for axes, method in zip(figure.subplots(1, len(methods), squeeze=False)[0], methods, strict=True):
        places = _pca(rows) if method == "pca" else _tsne(rows)
        _frame(axes, {"pca": "PCA of the presets", "tsne": "t-SNE"}[method])
        labels = _draw_anchors(axes, places[: len(PRESET_NAMES)])
        start = len(PRESET_NAMES)
        for name, group in zip(emotions, groups, strict=True):
            labels.append(_draw_emotion(axes, places[start : start + len(group)], name))
            start += len(group)
        maps.append((axes, labels, places))
    figure.draw_without_rendering()  # only now the layout has decided where points lie
    for labelled in maps:
        _write(*labelled)
    return pixels(figure)


def _rows(emotion: EmotionPrior | EmotionTrack) -> torch.Tensor:
    if isinstance(emotion, EmotionPrior):
        return emotion.mu[None]
    if emotion.is_constant:
        return emotion.at([0.0]).mu
    rows = emotion.at(np.linspace(emotion.keyframes[0].seconds, emotion.end, TRACK_POINTS).tolist()).mu
    least = LEAST_MOVE * (rows - rows[0]).norm(dim=1).max()
    kept = [0]
    for i in range(1, len(rows)):
        if (rows[i] - rows[kept[-1]]).norm() > least:
            kept.append(i)
    return rows[kept]


def _pca(rows: np.ndarray) -> np.ndarray:
    try:
        from sklearn.decomposition import PCA
    except ImportError as error:
        raise SettingError("Maps need scikit-learn: pip install 'dicetalk[plots]'.") from error
    return PCA(2, svd_solver="full").fit(rows[: len(PRESET_NAMES)]).transform(rows)


def _tsne(rows: np.ndarray) -> np.ndarray:
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise SettingError("Maps need scikit-learn: pip install 'dicetalk[plots]'.") from error
    perplexity = min(30.0, (len(rows) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(rows)


def _frame(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.margins(0.16)
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[:].set_color(FAINT)


def _draw_anchors(axes: Any, places: np.ndarray) -> list[_Label]:
    axes.scatter(*places.T, s=90, color=[COLOURS[name] for name in PRESET_NAMES], edgecolor="white", zorder=3)
    return [_Label(name, place, COLOURS[name]) for name, place in zip(PRESET_NAMES, places, strict=True)]


def _draw_emotion(axes: Any, places: np.ndarray, name: str) -> _Label:
    """A diamond; of a track the way as well, from dark to light, and the diamond at its end."""
    if len(places) > 1:
        axes.plot(*places.T, color=INK, linewidth=1, alpha=0.5, zorder=2)
        axes.scatter(*places.T, c=np.linspace(0, 0.95, len(places)), cmap="viridis", s=12, zorder=3.5)
    axes.scatter(*places[-1], marker="D", s=34, facecolor="none", edgecolor=INK, linewidth=1.5, zorder=4)
    return _Label(name, places[0], INK)


def _write(axes: Any, labels: list[_Label], places: np.ndarray) -> None:
    """Write each label beside its point, on the side where it covers least of all `places` and labels."""
    points = axes.transData.transform(np.stack([label.place for label in labels]))
    boxes = [(x - 7, y - 7, x + 7, y + 7) for x, y in axes.transData.transform(places)]
    frame = axes.bbox.extents
    for label, (x, y) in zip(labels, points, strict=True):
        text = label.text if len(label.text) <= MAX_LABEL else f"{label.text[: MAX_LABEL - 1]}…"
        width, height = LETTER * len(text), 1.9 * LETTER
        choices = [
            (x + dx * 10 - (dx < 0) * width - (dx == 0) * width / 2, y + dy * 18 - height / 2)
            for dx, dy in ((1, 0), (1, 0.7), (1, -0.7), (0, 1.2), (0, -1.2), (-1, 0), (-1, 0.7), (-1, -0.7))
        ]
        left, bottom = min(choices, key=lambda at: _covered((*at, at[0] + width, at[1] + height), boxes, frame))
        boxes.append((left, bottom, left + width, bottom + height))
        axes.annotate(
            text, (left, bottom + height / 2), xycoords="figure pixels", va="center", fontsize=9, color=label.colour
        ).set_zorder(5)


def _covered(box: Any, boxes: list[Any], frame: Any) -> float:
    """The area of `box` that lies on `boxes` or outside `frame`; boxes are left, bottom, right, top."""
    inside = _overlap(box, frame)
    return sum(_overlap(box, other) for other in boxes) + 10 * ((box[2] - box[0]) * (box[3] - box[1]) - inside)


def _overlap(a: Any, b: Any) -> float:
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
