"""Draw the pack's icon and banner for the registry: the emotion pad's colours, and faces of the thumbnails.

python examples/registry/draw.py
"""

from math import cos, pi, sin
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).parent
TEMPLATES = HERE.parents[1] / "example_workflows"
ICON, BANNER = 400, (1260, 540)
FINE = 4
"""Drawn so many times larger, then reduced, for smooth edges."""

GROUND, PANEL, INK = (24, 26, 31), (38, 41, 48), (236, 238, 242)
COLOURS = ("#fb923c", "#facc15", "#2dd4bf", "#84cc16", "#f87171", "#60a5fa", "#c084fc")
"""Of the pad's corners from the top, clockwise."""

VOICE = (0.25, 0.55, 0.9, 0.45, 1.0, 0.7, 0.3)
FACES = (
    ("portrait_to_talking_video", 0),
    ("emotion_timeline", 1),
    ("full_picture_paste_back", 0),
    ("emotion_timeline", 3),
)
"""Template and which quarter of its thumbnail."""


def pad(size: int) -> Image.Image:
    """The pad with a voice in its middle, ``size`` pixels wide, on nothing."""
    side = size * FINE
    picture = Image.new("RGBA", (side, side))
    pen = ImageDraw.Draw(picture)
    middle, radius = side / 2, 0.46 * side
    angles = [2 * pi * n / len(COLOURS) - pi / 2 for n in range(len(COLOURS))]
    corners = [(middle + radius * cos(a), middle + 0.02 * side + radius * sin(a)) for a in angles]
    for n, colour in enumerate(COLOURS):
        after, before = corners[(n + 1) % len(corners)], corners[n - 1]
        edges = [between(before, corners[n]), corners[n], between(corners[n], after)]
        pen.polygon([(middle, middle + 0.02 * side), *edges], fill=colour)
    inner = 0.29 * side
    pen.ellipse(
        (middle - inner, middle - inner + 0.02 * side, middle + inner, middle + inner + 0.02 * side), fill=GROUND
    )
    step = 2 * inner * 0.8 / len(VOICE)
    for n, loud in enumerate(VOICE):
        x = middle + (n - (len(VOICE) - 1) / 2) * step
        half = 0.62 * inner * loud
        box = (x - 0.28 * step, middle - half + 0.02 * side, x + 0.28 * step, middle + half + 0.02 * side)
        pen.rounded_rectangle(box, 0.28 * step, fill=INK)
    return picture.resize((size, size), Image.Resampling.LANCZOS)


def between(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    """The point half-way."""
    return (a[0] + b[0]) / 2, (a[1] + b[1]) / 2


def icon() -> Image.Image:
    """The pad on a dark square."""
    picture = Image.new("RGB", (ICON, ICON), GROUND)
    shape = pad(ICON - 40)
    picture.paste(shape, (20, 20), shape)
    return picture


def banner() -> Image.Image:
    """The pad, the name, and four faces."""
    width, height = BANNER
    picture = Image.new("RGB", BANNER, GROUND)
    pen = ImageDraw.Draw(picture)
    shape = pad(170)
    picture.paste(shape, (60, 90), shape)
    pen.text((60, 290), "DICE-Talk", font=ImageFont.load_default(92), fill=INK)
    pen.text((62, 400), "A portrait, speech and an emotion", font=ImageFont.load_default(34), fill=(170, 176, 186))
    pen.text((62, 442), "become a talking video, in ComfyUI", font=ImageFont.load_default(34), fill=(170, 176, 186))
    side, gap = 234, 18
    for n, (name, quarter) in enumerate(FACES):
        sheet = Image.open(TEMPLATES / f"{name}.jpg").convert("RGB")
        part = sheet.width // 2
        left, top = part * (quarter % 2), part * (quarter // 2)
        face = sheet.crop((left, top, left + part, top + part)).resize((side, side), Image.Resampling.LANCZOS)
        x = width - 27 - (2 - n % 2) * (side + gap)
        y = (height - 2 * side - gap) // 2 + n // 2 * (side + gap)
        mask = Image.new("L", (side * FINE, side * FINE))
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, side * FINE - 1, side * FINE - 1), 18 * FINE, fill=255)
        picture.paste(face, (x, y), mask.resize((side, side), Image.Resampling.LANCZOS))
    return picture


if __name__ == "__main__":
    icon().save(HERE / "icon.png", optimize=True)
    banner().save(HERE / "banner.png", optimize=True)
