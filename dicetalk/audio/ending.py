"""Marks of a sound file's end: those that a copy lacks which stopped early."""

import os
from pathlib import Path
from typing import Any

import av

_LAST_PAGES = 1 << 17
_MPEG_KILOBITS = (
    (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
"""A second of MPEG 1, layers II and III, and of both in MPEG 2."""

_MPEG_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Samples a second, by the version's bits: MPEG 1, 2 and 2.5."""


def lacks_ogg_end(path: Path) -> bool:
    """Whether the last page of an Ogg file is not marked as the last one, or not whole (RFC 3533, 6)."""
    with path.open("rb") as file:
        if file.read(4) != b"OggS":
            return False
        file.seek(max(os.fstat(file.fileno()).st_size - _LAST_PAGES, 0))
        tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0 or len(tail) < page + 27:
        return True
    lengths = tail[page + 27 :][: tail[page + 26]]
    return not tail[page + 5] & 4 or len(tail) < page + 27 + tail[page + 26] + sum(lengths)


def is_torn(packet: "av.Packet[Any]", codec: str) -> bool:
    """Whether a packet is shorter than it says: FFmpeg's mark, or a frame of MP2 or MP3 (ISO 11172-3, 2.4.1.3)."""
    if packet.is_corrupt:
        return True
    head = bytes(packet)[:4] if codec.startswith(("mp2", "mp3")) else b""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return False
    version, layer, kilobits, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer not in (1, 2) or kilobits in (0, 15) or rate == 3:
        return False
    thousands = _MPEG_KILOBITS[2 if version != 3 else 2 - layer][kilobits - 1]
    slots = 72 if version != 3 and layer == 1 else 144
    return packet.size < slots * 1000 * thousands // _MPEG_RATES[version][rate] + (head[2] >> 1 & 1)
