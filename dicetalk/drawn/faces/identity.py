"""Who is seen: everything about a made-up face that no expression changes, drawn from a seed.

Lengths are in face units: the distance from the middle of the face to the chin, roughly; y points down.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dicetalk.drawn.faces.expression import ACTION_UNITS, Manner
from dicetalk.errors import SettingError

Split = Literal["train", "test"]
Colour = tuple[float, float, float]
"""Red, green and blue, 0 to 255."""

SPLITS = {"train": range(100_000), "test": range(100_000, 101_000)}

SKINS = (
    (236, 200, 178),
    (232, 190, 162),
    (226, 178, 144),
    (206, 154, 116),
    (178, 126, 90),
    (146, 98, 68),
    (112, 74, 54),
)
NATURAL_HAIR = ((30, 26, 28), (58, 40, 32), (92, 60, 38), (134, 90, 52), (190, 146, 88), (222, 190, 130), (142, 74, 42))
GREY_HAIR = ((150, 148, 148), (206, 204, 202))
DYED_HAIR = ((70, 92, 150), (152, 84, 128), (64, 118, 112))
LIP_PALENESS = 0.57
"""The least green in lips, relative to red."""

EYES = ((62, 40, 28), (98, 66, 38), (122, 104, 56), (84, 122, 84), (88, 130, 168), (112, 124, 138))

HAIR_STYLES = (
    "bald", "buzz", "short", "parted", "quiff", "receding", "curly", "afro", "fringe", "bob", "long", "bun", "wavy",
)  # fmt: skip
LOW_VOICE_STYLES = HAIR_STYLES[:8]
HIGH_VOICE_STYLES = HAIR_STYLES[2:4] + HAIR_STYLES[6:]


@dataclass(frozen=True)
class Shape:
    """The outline of the head: half widths at four heights, and where the chin and the skull end."""

    temple: float
    cheek: float
    jaw: float
    chin: float
    chin_y: float
    skull_y: float
    lean: float
    ear: float


@dataclass(frozen=True)
class Eyes:
    """Half the distance between the eyes, their half width and height; `tilt` lifts the outer corners."""

    spacing: float
    y: float
    width: float
    height: float
    tilt: float
    iris: float
    colour: Colour
    uneven: float
    lashes: float


@dataclass(frozen=True)
class Brows:
    """Height above the eye, half length, thickness, arch; `uneven` lifts the left and lowers the right one."""

    gap: float
    length: float
    thickness: float
    arch: float
    colour: Colour
    uneven: float


@dataclass(frozen=True)
class Nose:
    """Tip height, half width at the nostrils and at the bridge; `bend` moves the tip sideways."""

    y: float
    width: float
    bridge: float
    bend: float


@dataclass(frozen=True)
class Mouth:
    """Height, half width and thickness of the lips; `slant` lifts the left corner and lowers the right one."""

    y: float
    width: float
    upper: float
    lower: float
    bow: float
    slant: float
    colour: Colour


@dataclass(frozen=True)
class Hair:
    """Style, colour, how far it stands off the skull, and the seed of its strands; `side` mirrors it."""

    style: str
    colour: Colour
    volume: float
    side: int
    seed: int


@dataclass(frozen=True)
class Extras:
    """Optional traits of a face: glasses, a beard, a mark, freckles, lines of age (0 to 1), earrings."""

    glasses: str
    frame_colour: Colour
    beard: str
    mark: tuple[float, float] | None
    freckles: int
    age: float
    earrings: bool


@dataclass(frozen=True)
class Identity:
    """One made-up person.

    Args:
        seed: what the person was drawn from.
        high_voice: which of the two sets of voices fits.
        skin: colour of the skin.
        shape: outline of the head.
        eyes: both eyes.
        brows: both brows.
        nose: the nose.
        mouth: the lips at rest.
        hair: on the head.
        extras: glasses, beard and other marks.
        manner: how this face shows what it feels.
    """

    seed: int
    high_voice: bool
    skin: Colour
    shape: Shape
    eyes: Eyes
    brows: Brows
    nose: Nose
    mouth: Mouth
    hair: Hair
    extras: Extras
    manner: Manner


def identity_seeds(split: Split) -> range:
    """The seeds whose faces may be trained on, or measured on; no seed is in both.

    Raises:
        SettingError: `split` is neither "train" nor "test".
    """
    if split not in SPLITS:
        raise SettingError(f"The split {split!r} is unknown. Known: {', '.join(SPLITS)}.")
    return SPLITS[split]


def sample_identity(seed: int) -> Identity:
    """The person that belongs to `seed`, always the same."""
    rng = np.random.default_rng([seed, 0x1D])
    high = bool(rng.random() < 0.5)
    skin_tone = rng.uniform(0, len(SKINS) - 1)
    skin = _mix(SKINS, skin_tone, rng, 5)
    age = float(rng.beta(1.2, 2.2))
    hair = _hair(rng, high, age, skin_tone)
    uneven = rng.normal(0, 1, 6).clip(-1.8, 1.8)
    shape = Shape(
        temple=rng.uniform(0.66, 0.76),
        cheek=rng.uniform(0.66, 0.82),
        jaw=rng.uniform(0.5, 0.64) if high else rng.uniform(0.54, 0.7),
        chin=rng.uniform(0.2, 0.3) if high else rng.uniform(0.22, 0.4),
        chin_y=rng.uniform(0.93, 1.05),
        skull_y=rng.uniform(-1.16, -1.06),
        lean=0.015 * uneven[0],
        ear=rng.uniform(0.85, 1.2),
    )
    eyes = Eyes(
        spacing=rng.uniform(0.3, 0.375),
        y=rng.uniform(-0.2, -0.1),
        width=rng.uniform(0.165, 0.215),
        height=rng.uniform(0.085, 0.125),
        tilt=rng.uniform(-0.02, 0.05),
        iris=rng.uniform(0.084, 0.1),
        colour=_mix(EYES, rng.uniform(0, len(EYES) - 1) if skin_tone < 3 else rng.uniform(0, 1.3), rng, 4),
        uneven=0.012 * uneven[1],
        lashes=rng.uniform(0.6, 1) if high else rng.uniform(0, 0.35),
    )
    red, green, blue = hair.colour
    brows = Brows(
        gap=rng.uniform(0.2, 0.26),
        length=rng.uniform(0.2, 0.25),
        thickness=rng.uniform(0.035, 0.055) if high else rng.uniform(0.045, 0.08),
        arch=rng.uniform(0.01, 0.06),
        colour=(0.64 * red, 0.64 * green, 0.64 * blue),
        uneven=0.013 * uneven[2],
    )
    nose = Nose(rng.uniform(0.2, 0.3), rng.uniform(0.12, 0.2), rng.uniform(0.06, 0.1), 0.02 * uneven[3])
    # Lips keep well over half as much green and blue as red: what is redder than that is the open mouth.
    paleness = LIP_PALENESS + rng.uniform(0.1, 0.6) * (skin[1] / skin[0] - LIP_PALENESS)
    lip = 0.93 * skin[0]
    mouth = Mouth(
        y=rng.uniform(0.5, 0.58),
        width=rng.uniform(0.24, 0.33),
        upper=rng.uniform(0.045, 0.085) if high else rng.uniform(0.03, 0.065),
        lower=rng.uniform(0.06, 0.11) if high else rng.uniform(0.05, 0.09),
        bow=rng.uniform(0.1, 0.45),
        slant=0.012 * uneven[4],
        colour=(lip, paleness * lip, 0.97 * paleness * lip),
    )
    return Identity(seed, high, skin, shape, eyes, brows, nose, mouth, hair, _extras(rng, high, age), _manner(rng))


def _hair(rng: np.random.Generator, high: bool, age: float, skin_tone: float) -> Hair:
    style = str(rng.choice(HIGH_VOICE_STYLES if high else LOW_VOICE_STYLES))
    palette: tuple[tuple[int, int, int], ...] = NATURAL_HAIR[:3] if skin_tone > 3.8 else NATURAL_HAIR
    palette = GREY_HAIR if rng.random() < max(0, 1.6 * age - 0.5) else palette
    palette = DYED_HAIR if rng.random() < 0.06 and style not in ("bald", "buzz") else palette
    colour = _mix(palette, int(rng.integers(len(palette))), rng, 6)
    return Hair(style, colour, rng.uniform(0.6, 1.4), int(rng.choice((-1, 1))), int(rng.integers(1 << 31)))


def _extras(rng: np.random.Generator, high: bool, age: float) -> Extras:
    glasses = str(rng.choice(("none", "round", "square"), p=(0.76, 0.12, 0.12)))
    beard = (
        "none" if high else str(rng.choice(("none", "stubble", "full", "goatee", "moustache"), p=(0.48, *[0.13] * 4)))
    )
    frame = ((30, 28, 32), (110, 70, 40), (150, 130, 90), (96, 56, 60))[rng.integers(4)]
    mark = (
        (float(rng.choice((-1, 1)) * rng.uniform(0.28, 0.5)), rng.uniform(0.08, 0.4)) if rng.random() < 0.25 else None
    )
    freckles = int(rng.integers(12, 30)) if rng.random() < 0.15 else 0
    return Extras(glasses, frame, beard, mark, freckles, age, bool(high and rng.random() < 0.4))


def _manner(rng: np.random.Generator) -> Manner:
    units = len(ACTION_UNITS)
    return Manner(
        gain=tuple(rng.normal(1, 0.13, units).clip(0.7, 1.3)),
        offset=tuple(rng.normal(0, 0.045, units).clip(-0.09, 0.09)),
        lopsided=float(np.clip(rng.normal(0, 0.1), -0.2, 0.2)),
    )


def _mix(palette: tuple[Colour, ...], at: float, rng: np.random.Generator, spread: float) -> Colour:
    """The colour at position `at` between the palette's entries, a little off."""
    low = min(int(at), len(palette) - 1)
    high = min(low + 1, len(palette) - 1)
    mixed = np.array(palette[low]) * (1 - at % 1) + np.array(palette[high]) * (at % 1)
    return tuple((mixed + rng.normal(0, spread) + rng.normal(0, spread / 3, 3)).clip(18, 250).tolist())
