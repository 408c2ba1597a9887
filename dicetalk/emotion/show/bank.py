"""Prototypes of the emotion bank that an emotion attends to."""

from collections.abc import Sequence

import numpy as np
import torch

from dicetalk.emotion.compare import entropy_bits
from dicetalk.emotion.show.figure import COLOURS_ON_DARK, DARK, INK, LIGHT, new_figure, pixels
from dicetalk.errors import EmotionError

MAX_ROWS = 100


def plot_bank_attention(
    names: Sequence[str], weights: torch.Tensor, *, width: int = 1000, dark: bool = False
) -> np.ndarray:
    """Draw the attention to each prototype, one row for each emotion, and its entropy.

    Args:
        names: of the emotions.
        weights: what :func:`dicetalk.emotion.compare.bank_attention` returned, ``(R, bank_size)``; without columns
            the picture says that there is no bank.
        width: of the picture in pixels.
        dark: light letters on a dark ground, the presets' names in their colours.

    Returns:
        uint8 RGB ``(H, width, 3)``.

    Raises:
        EmotionError: there are no emotions, more than 100, or not as many names as rows.
        SettingError: matplotlib is not installed.
    """
    if not 0 < len(names) == len(weights) <= MAX_ROWS:
        raise EmotionError(
            f"Got {len(names)} names and {len(weights)} rows of attention; expected 1 to {MAX_ROWS} of each."
        )
    ink = LIGHT if dark else INK
    figure = new_figure(width, 150 + 26 * len(names))
    if dark:
        figure.set_facecolor(DARK)
    axes = figure.subplots()
    if not weights.shape[1]:
        axes.axis("off")
        axes.text(0.5, 0.5, "this model was trained without the emotion bank", ha="center", color=ink)
        return pixels(figure)
    shares = weights.numpy() * weights.shape[1]
    cmap = "magma" if dark else "BuPu"
    image = axes.imshow(shares, aspect="auto", cmap=cmap, vmin=0, vmax=max(2, shares.max()), interpolation="nearest")
    axes.set_yticks(range(len(names)), [name if len(name) <= 24 else f"{name[:23]}…" for name in names], fontsize=9)
    axes.set_xlabel("prototype of the emotion bank", color=ink)
    axes.tick_params(colors=ink, length=0)
    if dark:
        for name, label in zip(names, axes.get_yticklabels(), strict=True):
            label.set_color(COLOURS_ON_DARK.get(name, ink))
    axes.spines[:].set_visible(False)
    side = axes.secondary_yaxis("right")
    side.set_yticks(range(len(names)), [f"{bits:.2f} bit" for bits in entropy_bits(weights).tolist()], fontsize=9)
    side.tick_params(colors=ink, length=0)
    side.spines[:].set_visible(False)
    most = np.log2(weights.shape[1])
    title = f"attention, 1 being an even share; its entropy, at most {most:.2f} bit"
    axes.set_title(title, loc="left", fontsize=11, color=ink)
    bar = figure.colorbar(image, ax=axes, fraction=0.025, pad=0.09)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=ink, labelsize=8, length=0)
    return pixels(figure)
