"""Draw ``reference.mp4``: the example portrait's smile in slow motion towards the camera, with the example speech.

    python examples/reference.py

A clip to take an emotion from: one real face from the front that nobody's rights hold.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dicetalk.audio.speech import load_speech
from dicetalk.video import write_mp4

HERE = Path(__file__).parent
SIZE, FPS, SECONDS = 320, 25, 2.0
FACE = (62, 0, 382, 320)
"""Part of the picture, in pixels: left, top, right, bottom."""
ZOOM = 24
"""Pixels by which each side of it has moved inwards at the end."""


def frames(picture: Image.Image, count: int) -> Iterator[torch.Tensor]:
    """`count` frames ``(1, 3, SIZE, SIZE)`` in 0..1."""
    for inwards in np.linspace(0, ZOOM, count):
        left, top, right, bottom = FACE
        box = (left + inwards, top + inwards, right - inwards, bottom - inwards)
        frame = picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS, box=box)
        yield torch.from_numpy(np.array(frame)).permute(2, 0, 1)[None].float() / 255


def main() -> None:
    """Write the clip beside this file."""
    picture = Image.open(HERE / "portrait.jpg").convert("RGB")
    speech = load_speech(HERE / "speech.wav", duration=SECONDS)
    count = round(SECONDS * FPS)
    sound = (speech.sound, speech.sound_sample_rate)
    write_mp4(HERE / "reference.mp4", frames(picture, count), fps=Fraction(FPS), sound=sound, total=count)


if __name__ == "__main__":
    main()
