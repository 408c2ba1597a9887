"""Colour profiles as cameras and print shops have them, written byte by byte (ICC.1)."""

import itertools
import struct

import numpy as np

D50 = (0.9642, 1.0, 0.8249)
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
"""Red, green and blue as XYZ under D50, of Adobe RGB (1998)."""

PROPHOTO = ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.00009), (0.03134, 0.00009, 0.82491))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71688, 0.09708), (0.14307, 0.06061, 0.71410))


def fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + fixed(*values)


def profile(name: str, kind: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A whole profile: header, table of tags, tags."""
    text = name.encode() + b"\0"
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78), b"wtpt": xyz(*D50)} | tags
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        content += bytes(-len(content) % 4)
        table += tag + struct.pack(">II", start + len(data), len(content))
        data += content
    body = struct.pack(">I", len(tags)) + table + data
    header = struct.pack(">I4sI", 128 + len(body), bytes(4), 0x02400000) + kind + space + pcs + bytes(12) + b"acsp"
    return header.ljust(68, b"\0") + fixed(*D50) + bytes(48) + body


def rgb_profile(name: str, columns: tuple[tuple[float, ...], ...], gamma: float) -> bytes:
    """Three primaries and a curve."""
    tags = {f"{letter}XYZ".encode(): xyz(*column) for letter, column in zip("rgb", columns, strict=True)}
    return profile(name, b"mntr", b"RGB ", b"XYZ ", tags | {f"{letter}TRC".encode(): curve(gamma) for letter in "rgb"})


def grey_profile(gamma: float) -> bytes:
    return profile(f"Grey {gamma:g}", b"mntr", b"GRAY", b"XYZ ", {b"kTRC": curve(gamma)})


def cmyk_profile() -> bytes:
    """A press whose inks are weaker than a screen's colours: a table of the sixteen full tones."""
    tones = np.array([_lab(inks) for inks in itertools.product((0.0, 1.0), repeat=4)])
    numbers = np.rint(tones * [2.55, 1, 1] + [0, 128, 128]).clip(0, 255).astype(np.uint8)
    straight = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += straight * 4 + numbers.tobytes() + straight * 3
    return profile("Press", b"prtr", b"CMYK", b"Lab ", {b"A2B0": table, b"A2B1": table})


def _lab(inks: tuple[float, ...]) -> list[float]:
    """CIE Lab of paper with full tones of cyan, magenta, yellow and black on it."""
    *colours, black = inks
    light = [(1 - 0.85 * ink) * (1 - 0.9 * black) * 0.85 for ink in colours]
    x, y, z = np.array(light) @ np.array(SRGB) / D50
    x, y, z = (value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116 for value in (x, y, z))
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)]
