"""How far a mouth is open, measured in pixels."""

import numpy as np

from dicetalk.drawn.faces.identity import LIP_PALENESS
from dicetalk.drawn.faces.motion import PIXELS_PER_UNIT
from dicetalk.drawn.faces.mouth import INSIDE, OPENING

ROWS, COLUMNS = (0.57, 0.87), (0.3, 0.7)
"""Where the mouth can be, in heights and widths of the picture."""

MARGIN = 4.0
"""Redness below this belongs to lips, skin and noise."""

WIDEST = 0.06
"""The opening is measured over its highest columns, so many widths of the picture together."""

SEEN = 0.68
"""Share of the opening's height that is its dark inside, between the teeth and the tongue, in those columns."""


def measure_mouth(frames: np.ndarray) -> np.ndarray:
    """How far the mouth is open in frames that a :class:`dicetalk.drawn.faces.render.FaceRenderer` drew, or that a
    network made in their likeness.

    The inside of the mouth is redder, against its green and blue, than anything else on a face. A column's redness adds
    up to the height of the opening there, and stays so when the picture is blurred.

    Args:
        frames: uint8 RGB ``(N, H, W, 3)``.

    Returns:
        float32 ``(N,)``: 0 closed, about 1 fully open.
    """
    height, width = frames.shape[1:3]
    rows = slice(round(ROWS[0] * height), round(ROWS[1] * height))
    columns = slice(round(COLUMNS[0] * width), round(COLUMNS[1] * width))
    part = frames[:, rows, columns].astype(np.float32)
    redness = (part[..., 0] - part[..., 1:].max(-1) / LIP_PALENESS - MARGIN).clip(0)
    full = INSIDE[0] - max(INSIDE[1:]) / LIP_PALENESS - MARGIN
    heights = np.sort(redness.sum(1) / full, axis=1)[:, -max(round(WIDEST * width), 1) :].mean(1)
    return heights / (SEEN * OPENING * PIXELS_PER_UNIT * height)
