"""Headers that promise more sound or less than there is, and films and sounds of which the end is missing."""

import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dicetalk.audio.speech import load_speech
from dicetalk.emotion.reference.clip import open_reference
from dicetalk.errors import SpeechError
from dicetalk.hooks import Hooks

RATE = 16_000
SECONDS = 3.0
BYTES = round(2 * RATE * SECONDS)
SOUND = np.random.default_rng(0).normal(0, 0.1, BYTES // 2).astype(np.float32).clip(-1, 1)


def au(content: bytearray, length: int) -> None:
    struct.pack_into(">I", content, 8, length & 0xFFFFFFFF)


def caf(content: bytearray, length: int) -> None:
    struct.pack_into(">q", content, content.index(b"data") + 4, length + 4 if length >= 0 else -1)


def aiff(content: bytearray, length: int, frames: bool = True, chunk: bool = True) -> None:
    if chunk:
        struct.pack_into(">I", content, content.index(b"SSND") + 4, length + 8 & 0xFFFFFFFF)
    if frames:
        struct.pack_into(">I", content, content.index(b"COMM") + 10, length // 2 & 0xFFFFFFFF)


def rf64(content: bytearray, length: int) -> None:
    struct.pack_into("<Q", content, content.index(b"ds64") + 16, length & (1 << 64) - 1)


def w64(content: bytearray, length: int) -> None:
    struct.pack_into("<Q", content, content.index(b"data\xf3\xac\xd3\x11") + 16, length + 24 & (1 << 64) - 1)


KINDS: dict[str, tuple[str, Callable[[bytearray, int], None]]] = {
    "AU": ("AU", au),
    "CAF": ("CAF", caf),
    "AIFF": ("AIFF", aiff),
    "AIFF, its chunk alone": ("AIFF", lambda content, length: aiff(content, length, frames=False)),
    "AIFF, its frames alone": ("AIFF", lambda content, length: aiff(content, length, chunk=False)),
    "RF64": ("RF64", rf64),
    "W64": ("W64", w64),
}


def read(path: Path) -> tuple[np.ndarray, list[str]]:
    notes: list[str] = []
    return load_speech(path, hooks=Hooks(notice=notes.append)).samples, notes


@pytest.mark.parametrize("length", [0, BYTES // 2, 2 * BYTES, 1 << 31, -1])
@pytest.mark.parametrize("name", KINDS)
def test_what_is_there_is_read_and_a_wrong_header_noted(name: str, length: int, tmp_path: Path) -> None:
    kind, change = KINDS[name]
    path = tmp_path / f"a.{kind.lower()}"
    soundfile.write(path, SOUND, RATE, "PCM_16", format=kind)
    content = bytearray(path.read_bytes())
    assert read(path)[1] == []
    change(content, length)
    path.write_bytes(content)
    samples, notes = read(path)
    assert len(samples) == len(SOUND) and np.abs(samples - SOUND).max() < 1e-3
    assert len(open_reference(path).speech()) / RATE == pytest.approx(SECONDS, abs=0.09)
    if name == "AIFF, its chunk alone" and length > BYTES:
        assert notes == []  # the number of frames is right
    elif length == -1:
        # In AU and CAF this says that the sound reaches to the file's end.
        assert len(notes) == (kind not in ("AU", "CAF"))
    else:
        (text,) = notes
        said = f"{length / 2 / RATE:.2f} s"
        unknown = kind == "RF64" and length == 0
        assert "does not say" in text if unknown else said in text
        assert ("is cut short" in text and "are missing" in text) == (length > BYTES)


@pytest.mark.parametrize("kind", ["AU", "CAF", "AIFF", "RF64", "W64"])
def test_a_copy_that_stopped_names_the_missing_seconds(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    soundfile.write(path, SOUND, RATE, "PCM_16", format=kind)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - BYTES // 3 | 1])  # in the middle of a sample
    samples, notes = read(path)
    assert len(samples) / RATE == pytest.approx(2, abs=0.02)
    assert len(notes) == 1 and "promises 3.00 s, and 2.0" in notes[0] and "s are missing" in notes[0]


@pytest.mark.parametrize("kind", ["AIFF", "CAF", "W64"])
def test_chunks_behind_the_sound_are_no_sound(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    soundfile.write(path, SOUND, RATE, "PCM_16", format=kind)
    extra = {
        "AIFF": struct.pack(">4sI", b"ANNO", 40),
        "CAF": struct.pack(">4sq", b"info", 40),
        "W64": b"list\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a" + struct.pack("<Q", 64),
    }[kind]
    with path.open("ab") as file:
        file.write(extra + b"a text of someb" * 2 + bytes(10))
    samples, notes = read(path)
    assert len(samples) == len(SOUND) and notes == []


@pytest.mark.parametrize("kind", ["AU", "CAF", "AIFF", "RF64", "W64"])
@pytest.mark.parametrize("length", [8, 20, 30, 44, 60])
def test_torn_headers_end_in_an_error_of_the_library(kind: str, length: int, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    soundfile.write(path, SOUND, RATE, "PCM_16", format=kind)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(SpeechError, match=f"a.{kind.lower()}"):
        read(path)


FILM = "-f lavfi -i testsrc=size=128x96:rate=25:duration=5 -f lavfi -i sine=frequency=300:duration=5"
TONE = "-f lavfi -i sine=frequency=300:duration=5"
CUTS = {
    "a.mp4": f"{FILM} -c:v mpeg4 -c:a aac -movflags +faststart",
    "a.mov": f"{TONE} -c:a pcm_s16le -movflags +faststart",
    "a.mkv": f"{FILM} -c:v mpeg4 -c:a aac",
    "a.webm": f"{FILM} -c:v libvpx -c:a libvorbis",
    "a.avi": f"{FILM} -c:v mpeg4 -c:a libmp3lame",
    "a.m4a": f"{TONE} -c:a aac -movflags +faststart",
    "a.mka": f"{TONE} -c:a libopus",
    "a.mp3": f"{TONE} -c:a libmp3lame",
    "a.flac": f"{TONE} -c:a flac",
    "a.ogg": f"{TONE} -c:a libvorbis",
    "a.opus": f"{TONE} -c:a libopus",
    "a.flv": f"{TONE} -c:a libmp3lame",
    "a.tta": f"{TONE} -c:a tta",
    "ms.wav": f"{TONE} -c:a adpcm_ms",
    "ima.wav": f"{TONE} -c:a adpcm_ima_wav",
    "mp3.wav": f"{TONE} -c:a libmp3lame",
    "mulaw.wav": f"{TONE} -c:a pcm_mulaw",
    "s24.wav": f"{TONE} -c:a pcm_s24le",
    "a.voc": f"{TONE} -c:a pcm_s16le",
    "a.aac": f"{TONE} -c:a aac",
    "a.ts": f"{TONE} -c:a mp2",
    "plain.mp3": f"{TONE} -c:a libmp3lame -write_xing 0",
    "slow.mp3": f"{TONE} -c:a libmp3lame -write_xing 0 -ar 16000",
}
WITHOUT_LENGTH = ("a.ogg", "a.opus", "a.voc", "a.aac", "a.ts", "plain.mp3", "slow.mp3")


NEEDS_FFMPEG = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="the program ffmpeg is not installed")


def made(arguments: str, *more: str) -> bytes:
    """Standard output of ffmpeg."""
    run = subprocess.run(["ffmpeg", "-v", "error", *arguments.split(), *more], capture_output=True)
    if run.returncode:
        pytest.skip(f"this ffmpeg cannot write it: {run.stderr[:100].decode(errors='replace')}")
    return run.stdout


@NEEDS_FFMPEG
@pytest.mark.parametrize("name", CUTS)
def test_the_last_tenth_is_missing(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    made(CUTS[name], str(path))
    assert read(path)[1] == [] and open_reference(path).problems == ()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 9 // 10])
    samples, notes = read(path)
    assert 3.9 < len(samples) / RATE < 4.8
    if name in WITHOUT_LENGTH:
        assert len(notes) == 1 and "ends in the middle" in notes[0]
        return
    (text,) = [text for text in notes if "is cut short" in text]
    missing = float(text.split("are there; ")[1].split()[0])
    assert missing == pytest.approx(5 - len(samples) / RATE, abs=0.08)  # padding of the codec
    reference = open_reference(path)
    if reference.pictures is not None:
        assert any("is cut short: its last 0." in problem for problem in reference.problems)


UNKNOWN, ZERO = "does not say how long it is", "its header says 0.00 s"
PIPES = {
    "wav": ("-f wav", UNKNOWN),
    "float wav": ("-f wav -c:a pcm_f32le", UNKNOWN),
    "adpcm wav": ("-f wav -c:a adpcm_ms", UNKNOWN),
    "mp3 wav": ("-f wav -c:a libmp3lame", UNKNOWN),
    "rf64": ("-f wav -rf64 always", UNKNOWN),
    "w64": ("-f w64 -c:a pcm_s24le", UNKNOWN),
    "aiff": ("-f aiff", ZERO),
    "alaw aiff": ("-f aiff -c:a pcm_alaw", ZERO),
    "adpcm aiff": ("-f aiff -c:a adpcm_ima_qt", ZERO),
    "au": ("-f au -ac 6", None),  # says that it reaches to the file's end, as the next ones
    "caf": ("-f caf", None),
    "mulaw caf": ("-f caf -c:a pcm_mulaw", None),
    "flac": ("-f flac", None),
    "mp3": ("-f mp3", None),
    "ogg": ("-f ogg", None),
    "matroska": ("-f matroska", None),
    "flv": ("-f flv", None),
    "mpegts": ("-f mpegts", None),
    "mp4": ("-f mp4 -movflags frag_keyframe+empty_moov", None),
    "asf": ("-f asf", None),
}


@NEEDS_FFMPEG
@pytest.mark.parametrize("name", PIPES)
def test_what_a_program_wrote_into_a_pipe_is_read_whole(name: str, tmp_path: Path) -> None:
    arguments, expected = PIPES[name]
    path = tmp_path / "piped"
    path.write_bytes(made(f"{TONE} {arguments} pipe:1"))
    samples, notes = read(path)
    assert len(samples) / RATE == pytest.approx(5, abs=0.15)
    assert len(notes) == (expected is not None) and all(str(expected) in text for text in notes)
