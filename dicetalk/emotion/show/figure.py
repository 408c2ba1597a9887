"""Figures that belong to nobody: no window, no global state of pyplot."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from dicetalk.errors import SettingError

if TYPE_CHECKING:  # takes a second to import, and is optional
    from matplotlib.figure import Figure

DPI = 100

COLOURS = {
    "neutral": "#7f7f7f",
    "happy": "#e69f00",
    "sad": "#0072b2",
    "angry": "#d62728",
    "surprised": "#cc79a7",
    "fear": "#6a3d9a",
    "disgusted": "#009e73",
    "contempt": "#8c564b",
}
"""Of the eight presets, everywhere."""

PLOT_PACKAGES = {"matplotlib": "matplotlib", "sklearn": "scikit-learn"}

INK, FAINT = "#333333", "#bbbbbb"

DARK, LIGHT = "#1e1f22", "#d8d8dc"
"""Ground and letters of pictures for dark pages."""

COLOURS_ON_DARK = {
    "neutral": "#b0b0b0",
    "happy": "#ffb000",
    "sad": "#5aa9ff",
    "angry": "#ff6b6b",
    "surprised": "#ff9f55",
    "fear": "#c08cff",
    "disgusted": "#8fd14f",
    "contempt": "#3fd0c0",
}
"""Of the eight presets on :data:`DARK`, as on the emotion pad."""


def check_plots() -> None:
    """Find out before the work whether pictures can be drawn; nothing is imported.

    Raises:
        SettingError: matplotlib or scikit-learn is not installed.
    """
    absent = [name for module, name in PLOT_PACKAGES.items() if find_spec(module) is None]
    if absent:
        raise SettingError(f"Pictures need {' and '.join(absent)}: pip install 'dicetalk[plots]'.")


def new_figure(width: int, height: int) -> "Figure":
    """An empty figure of `width` x `height` pixels.

    Raises:
        SettingError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingError("Plots need matplotlib: pip install 'dicetalk[plots]'.") from error
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def pixels(figure: "Figure") -> np.ndarray:
    """`figure` as uint8 RGB ``(H, W, 3)``."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def plain_axes(axes: Any) -> None:
    """Leave out the frame's upper and right side, and make what stays quiet."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9)
