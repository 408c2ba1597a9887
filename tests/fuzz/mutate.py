"""Random changes of bytes, texts, JSON, safetensors headers, archives and pickles."""

import io
import json
import pickletools
import random
import struct
import zipfile
from collections.abc import Sequence
from typing import Any

NUMBERS = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    (1 << 63) - 1,
    1 << 63,
)
STRINGS = (
    "",
    "\0",
    "..",
    "../../outside",
    "C:\\windows\\win.ini",
    "/etc/passwd",
    "CON",
    "nul.txt",
    "name.",
    "x" * 300,
    "\ud800",
    "\u202e[happy]",
    "［happy］",
    "null",
    "NaN",
    "-Infinity",
    "1e999",
    "9" * 5000,
    "[" * 2000,
    "{{",
    "&a [*a,*a]",
    "!!python/object/apply:os.system [id]",
    "happy:0.5+sad:0.3",
    "happy:" + "9" * 400,
    "+".join(["happy"] * 3000),
    "a little " * 2000,
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    2**64,
    10**400,
    0.5,
    -0.0,
    1e308,
    -1e308,
    5e-324,
    "",
    "happy",
    "neutral:2",
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"happy": 1},
)


def mutate_bytes(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """One to eight changes: bits, numbers, cuts, copies, and parts of `others`."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5, 8))):
        at = rng.randrange(len(changed) + 1)
        if rng.random() < 0.5:  # headers are where readers decide
            at = min(at, rng.choice((8, 64, 512, 4096)))
        length = rng.choice((1, 2, 4, 16, 256, 4096))
        kind = rng.randrange(9)
        if kind == 0 and changed:
            changed[at % len(changed)] ^= 1 << rng.randrange(8)
        elif kind == 1 and changed:
            changed[at % len(changed)] = rng.randrange(256)
        elif kind == 2:
            size = rng.choice("BHIQ")
            number = rng.choice(NUMBERS) & ((1 << 8 * struct.calcsize(f"<{size}")) - 1)
            packed = struct.pack(rng.choice("<>") + size, number)
            changed[at : at + len(packed)] = packed
        elif kind == 3:
            del changed[at:]
        elif kind == 4:
            del changed[at : at + length]
        elif kind == 5:
            changed[at:at] = changed[at : at + length] * rng.choice((1, 2, 100))
        elif kind == 6:
            changed[at:at] = rng.randbytes(length)
        elif kind == 7 and others:
            other = rng.choice(others)
            begin = rng.randrange(len(other) + 1)
            changed[at : at + length] = other[begin : begin + length]
        else:
            changed += rng.choice((b"\0" * length, rng.randbytes(length), changed[:length]))
    return bytes(changed)


def mutate_text(rng: random.Random, text: str, others: Sequence[str] = ()) -> bytes:
    """Changes of lines and words, in one of several encodings; sometimes of bytes."""
    lines = text.split("\n")
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(lines))
        kind = rng.randrange(8)
        if kind == 0:
            lines.insert(at, rng.choice(lines))
        elif kind == 1 and len(lines) > 1:
            del lines[at]
        elif kind == 2:
            lines[at] = _in_line(rng, lines[at], rng.choice(STRINGS))
        elif kind == 3:
            lines[at] = _in_line(rng, lines[at], str(rng.choice(VALUES[:15])))
        elif kind == 4:
            lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
        elif kind == 5 and others:
            lines[at:at] = rng.choice(others).split("\n")
        elif kind == 6:
            lines[at] = lines[at] * rng.choice((2, 10, 1000))
        else:
            lines[at] = _in_line(
                rng, lines[at], chr(rng.choice((0, 9, 13, 0x85, 0xA0, 0x3000, 0xFEFF, 0x2028, 0x1F600)))
            )
    encoding = rng.choice(("utf-8",) * 6 + ("utf-8-sig", "utf-16", "utf-16-le", "latin-1", "gb18030", "shift_jis"))
    data = rng.choice(("\n", "\n", "\n", "\r\n", "\r")).join(lines).encode(encoding, "replace")[: 8 << 20]
    return mutate_bytes(rng, data) if rng.random() < 0.15 else data


def _in_line(rng: random.Random, line: str, word: str) -> str:
    at = rng.randrange(len(line) + 1)
    return line[:at] + word + line[at + rng.choice((0, 0, 1, 5)) :]


def mutate_json(rng: random.Random, value: Any) -> bytes:
    """Changes of the tree, written as JSON; sometimes of the text."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        value = _changed(rng, value)
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    kind = rng.randrange(12)
    if kind == 0:
        depth = rng.choice((1000, 100_000))
        text = "[" * depth + "]" * depth
    elif kind == 1:
        text = text.replace("1", rng.choice(("NaN", "Infinity", "1e999", "9" * 5000, "-")), 1)
    elif kind < 4:
        return mutate_text(rng, text)
    return text.encode("utf-8", "surrogatepass")


def _changed(rng: random.Random, value: Any) -> Any:
    """`value` with one change somewhere in it."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        kind = rng.randrange(6)
        if kind == 0:
            return {k: v for k, v in value.items() if k != key}
        if kind == 1:
            return {**value, rng.choice(STRINGS): value[key]}
        return {**value, key: _changed(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        kind = rng.randrange(6)
        if kind == 0:
            return value[:at] + value[at + 1 :]
        if kind == 1:
            return value * rng.choice((2, 50, 2000)) if len(value) < 1000 else value
        return [*value[:at], _changed(rng, value[at]), *value[at + 1 :]]
    return rng.choice((*VALUES, *STRINGS, value))


def mutate_safetensors(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Changes of the header's JSON, of its length, or of any byte."""
    length = int.from_bytes(data[:8], "little")
    kind = rng.randrange(4)
    if kind == 0:
        return mutate_bytes(rng, data, others)
    if kind == 1:
        number = rng.choice((*NUMBERS, length - 1, length + 1, len(data), 100_000_000, 100_000_001))
        return struct.pack("<Q", number & (2**64 - 1)) + data[8:]
    header = json.loads(data[8 : 8 + length])
    entry = rng.choice(list(header))
    if kind == 2 and isinstance(header[entry], dict):  # one entry of one tensor, or of the metadata
        header[entry] = _changed(rng, header[entry])
        text = json.dumps(header).encode("utf-8", "surrogatepass")
    else:
        text = mutate_json(rng, header)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def mutate_zip(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Changes of an archive's members and of their names, or of any byte."""
    if rng.random() < 0.3:
        return mutate_bytes(rng, data, others)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = rng.randrange(len(members))
    name, content = members[at]
    kind = rng.randrange(6)
    if kind == 0:
        del members[at]
    elif kind == 1:
        members[at] = (rng.choice((*STRINGS[1:10], f"{name}/../x", "data.pkl")), content)
    elif kind == 2:
        members.append((name, mutate_bytes(rng, content)))
    elif kind == 3 and name.endswith(".pkl"):
        members[at] = (name, random_pickle(rng))
    elif name.endswith(".py"):
        members[at] = (name, mutate_text(rng, content.decode("utf-8", "replace")))
    else:
        members[at] = (name, mutate_bytes(rng, content, others))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name or "x"), content)
    return made.getvalue()


def random_pickle(rng: random.Random) -> bytes:
    """Instructions in any order, with arguments that they may have."""
    made = bytearray(b"\x80" + bytes([rng.randrange(6)]))
    for _ in range(rng.choice((3, 20, 200))):
        opcode = rng.choice(pickletools.opcodes)
        made += opcode.code.encode("latin-1")
        if opcode.arg is None:
            continue
        if opcode.name in ("GLOBAL", "INST"):
            made += rng.choice((b"os\nmkdir\n", b"numpy\nndarray\n", b"torch._utils\n_rebuild_tensor_v2\n", b"x\n"))
        elif opcode.arg.n > 0:
            made += rng.randbytes(opcode.arg.n)
        elif opcode.arg.n == pickletools.UP_TO_NEWLINE:
            made += rng.choice((b"1\n", b"-9999999999999999999\n", b"'a'\n", b"\n", b"00\n", b"x\n"))
        else:  # the length stands in front
            size = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT8U: 8}.get(opcode.arg.n, 4)
            content = rng.choice((b"", b"abc", b"numpy", b"ndarray", rng.randbytes(8)))
            length = rng.choice((len(content),) * 5 + (rng.choice(NUMBERS) % 256**size,))
            made += length.to_bytes(size, "little") + content
    return bytes(made) + rng.choice((b".", b""))


class Marks:
    """Pickled as a call of ``os.mkdir``: a folder tells that a reader has run what is in a file."""

    def __init__(self, folder: str):
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, (self.folder,)
