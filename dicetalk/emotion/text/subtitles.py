"""SRT and WebVTT: texts with times. What decorates them is left out."""

import html
import re
from dataclasses import dataclass
from pathlib import Path

from dicetalk.errors import EmotionError

MAX_FILE_BYTES = 4 << 20
MAX_CUES = 20_000

_TIME = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{2})[.,](\d{3})"
_ARROW = re.compile(rf"^\s*{_TIME}\s+-->\s+{_TIME}(?:\s.*)?$")
_MARKUP = re.compile(r"</?[a-zA-Z0-9][^<>]*>|\{\\[^{}]*\}")
_BLANK = re.compile(r"\n[ \t]*\n")


@dataclass(frozen=True)
class Cue:
    """A text, and from when to when it is said, in seconds."""

    start: float
    end: float
    text: str


def read_text(path: Path) -> str:
    """A text file in UTF-8, of up to 4 MB.

    Raises:
        EmotionError: it cannot be read, or is not such a file; the message does not name it.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise EmotionError(f"the file cannot be read ({error.strerror}).") from error
    if len(content) > MAX_FILE_BYTES:
        raise EmotionError(f"the text is larger than {MAX_FILE_BYTES >> 20} MB.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EmotionError(f"the text is not UTF-8 (byte {error.start}). Save it as UTF-8.") from error


def parse_subtitles(text: str) -> list[Cue]:
    """The cues of SRT or WebVTT, in order of time; notes, styles, positions and markup are left out.

    Raises:
        EmotionError: there is none, there are more than 20 000, or one ends before it starts.
    """
    cues = []
    for block in _BLANK.split(text.replace("\r\n", "\n").replace("\r", "\n")):
        lines = block.strip("\n").split("\n")
        # A number or a name may stand before the times.
        for i, line in enumerate(lines[:2]):
            if match := _ARROW.match(line):
                cues.append(_cue(match, lines[i + 1 :]))
                break
    if not 0 < len(cues) <= MAX_CUES:
        raise EmotionError(f"there are {len(cues)} subtitles; expected 1 to {MAX_CUES}, in SRT or WebVTT.")
    return sorted(cues, key=lambda cue: (cue.start, cue.end))


def _cue(match: re.Match[str], lines: list[str]) -> Cue:
    start, end = _seconds(match.groups()[:4]), _seconds(match.groups()[4:])
    if end < start:
        raise EmotionError(f"a subtitle ends at {end:g} s, before its start at {start:g} s.")
    return Cue(start, end, html.unescape(_MARKUP.sub("", " ".join(lines))).strip())


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, milliseconds = (int(part or 0) for part in parts)
    return 3600 * hours + 60 * minutes + seconds + milliseconds / 1000
