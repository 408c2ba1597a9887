"""SRT and WebVTT: texts with times, read as players read them.

A line of two times begins a subtitle wherever it stands; blank lines, indices and hours may be missing. What decorates
the text is left out. Words with times of their own keep them.

Automatic captions roll: each shows the line before it again, or the words before it, and adds some. A line that stays
on the screen while the next one rolls in counts once, or every line would be said twice.
"""

import html
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dicetalk.emotion.text.encoding import decode_text
from dicetalk.emotion.text.tagged import has_tag
from dicetalk.errors import EmotionError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.paths import read_limited

MAX_FILE_BYTES = 4 << 20
MAX_CUES = 20_000
UNKNOWN_END_SECONDS = 2.0
"""How long the last subtitle is shown if its end is no later than its start."""

_SEPARATOR = r"[ \t]?:[ \t]?"
_TIME = (
    rf"(-?)(?:(\d{{1,4}}){_SEPARATOR})?(-?\d{{1,4}}){_SEPARATOR}(-?\d{{1,2}})(?:[ \t]?[.,;:][ \t]?(-?\d{{1,9}}))?(?!\d)"
)
_START, _END = re.compile(rf"\s{{0,40}}{_TIME}"), re.compile(_TIME)
_ARROW = re.compile(r"\s{0,9}(?:(?:-{1,3}|[–—])>|→)\s{0,9}")
_STAMP = re.compile(r"<(?:\d{1,4}:)?\d{1,2}:\d{2}[.,]\d{1,9}>")
_RUBY = re.compile(r"<rt\b[^<>]{0,99}>[^<>]*(?:</rt>)?", re.IGNORECASE)
_MARKUP = re.compile(r"</?[a-zA-Z0-9][^<>]*>|\{\\[^{}]*\}|\{[a-zA-Z]:[^{}]{0,99}\}")
_LIKE_TIMES = re.compile(r"\s{0,9}-?\d[^\[\]]{0,40}-->")
_APART = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")
"""First words of WebVTT's blocks that are no subtitles."""

ROLLED_LINES = 4
"""Lines that may stay; nobody shows more."""

ROLLING_SHARE = 0.5
"""Where at least this part of the subtitles repeats the one before it, all of them roll. Speakers repeat themselves
less often."""


@dataclass(frozen=True)
class Cue:
    """A text, and from when to when it is said, in seconds.

    Args:
        start: in seconds.
        end: likewise.
        text: without markup.
        stamps: places in `text`, in characters, and when the words there start, in order.
        line: of the file, from 1, in which its times stand.
    """

    start: float
    end: float
    text: str
    stamps: tuple[tuple[int, float], ...] = field(default=(), compare=False)
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Line:
    """A line of a subtitle, and places in its text, in characters, of words with times of their own, in seconds."""

    text: str
    stamps: tuple[tuple[int, float], ...] = ()

    @property
    def words(self) -> str:
        """The text without the spaces that make no difference."""
        return " ".join(self.text.split())


@dataclass
class _Block:
    """Text under a line of times; `start` is `None` if it has no times that can be read."""

    number: int
    times: str
    start: float | None
    end: float
    lines: list[str] = field(default_factory=list)


def read_text(path: Path, hooks: Hooks = SILENT) -> str:
    """A text file of up to 4 MB, in any usual encoding; a notice tells what was assumed of it.

    Raises:
        EmotionError: it cannot be read, or is not such a file; the message does not name it.
    """
    content = read_limited(path, MAX_FILE_BYTES, EmotionError, "the text", named=False)
    text, assumed = decode_text(content)
    if assumed:
        hooks.notice(f"{path}: {assumed}")
    return text


def parse_subtitles(text: str, leave: Callable[[str], None] | None = None) -> list[Cue]:
    """The cues of SRT or WebVTT, in order of time; notes, styles, positions and markup are left out.

    Args:
        text: the file's.
        leave: hears of what cannot be used as it stands, one phrase each with its line.

    Raises:
        EmotionError: there is none, or there are more than 20 000.
    """
    leave = leave or (lambda _: None)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff").split("\n")
    blocks = [(block.start, block) for block in _blocks(lines, leave) if block.start is not None]
    if not 0 < len(blocks) <= MAX_CUES:
        raise EmotionError(f"there are {len(blocks)} subtitles; expected 1 to {MAX_CUES}, in SRT or WebVTT.")
    blocks.sort(key=lambda timed: (timed[0], timed[1].end))
    starts = [start for start, _ in blocks]
    texts = _without_rolled([_lines(block) for _, block in blocks])
    cues = []
    for i, ((start, block), said) in enumerate(zip(blocks, texts, strict=True)):
        end = block.end
        if end < start:
            later = next((other for other in starts[i + 1 : i + 9] if other > start), start + UNKNOWN_END_SECONDS)
            leave(f"the end of the subtitle in line {block.number}, {end:g} s, before its start at {start:g} s")
            end = later
        if start < 0:
            leave(f"the time before 0 s of the subtitle in line {block.number}, which starts at {start:g} s")
        joined, stamps = _join_lines(said)
        start, end = max(start, 0.0), max(end, 0.0)
        cues.append(Cue(start, end, joined, _in_order(stamps, start, end), block.number))
    return cues


def _blocks(lines: Sequence[str], leave: Callable[[str], None]) -> list[_Block]:
    """The subtitles of a file in its order, with the lines of their text."""
    web = lines[0].lstrip().startswith("WEBVTT")
    found: list[_Block] = []
    apart = web  # the header is a block of its own
    stray: int | None = None
    for number, line in enumerate(lines, start=1):
        times = _times(line)
        if times is not None or (not apart and _LIKE_TIMES.match(line)):
            if found and not apart:
                _drop_index(found[-1].lines, web)
            start, end = times or (None, 0.0)
            if times is None:
                leave(f"the subtitle in line {number}, whose times cannot be read ({line.strip()[:40]!r})")
            found.append(_Block(number, line, start, end))
            apart = False
        elif not line:
            # Only an empty line ends a subtitle of WebVTT; one of a space is part of it.
            apart = False
            if found:
                found[-1].lines.append("")
        elif apart:
            continue
        elif _APART.match(line) and (not found or found[-1].lines[-1:] == [""]):
            apart = True
        elif found:
            found[-1].lines.append(line)
        elif stray is None and has_tag(line):
            stray = number
    if stray is not None:
        leave(f"the text in line {stray}, which stands before the first times")
    if web:
        for block in found:
            _end_at_blank(block, leave)
    return found


def _drop_index(lines: list[str], web: bool) -> None:
    """Remove the number, or WebVTT's name, of the next subtitle from the end of this one's `lines`."""
    if not lines or not lines[-1].strip():
        return
    # A line of a space may part two subtitles, or be the first of one.
    apart = lines[-2:-1] == [""] or (len(lines) > 2 and not lines[-2].strip() and any(map(str.strip, lines[:-2])))
    if lines[-1].strip().isdecimal() or (web and apart):
        del lines[-1]


def _end_at_blank(block: _Block, leave: Callable[[str], None]) -> None:
    """Keep what WebVTT shows: the lines up to an empty one."""
    if "" in block.lines:
        end = block.lines.index("")
        if any(map(has_tag, block.lines[end:])):
            leave(f"the text after the empty line {block.number + 1 + end}, which no times stand before")
        del block.lines[end:]


def _times(line: str) -> tuple[float, float] | None:
    """Start and end in seconds of a line of times; `None` if it is none. Positions may follow."""
    line = unicodedata.normalize("NFKC", html.unescape(line[:1000]))
    start = _START.match(line)
    arrow = _ARROW.match(line, start.end()) if start else None
    end = _END.match(line, arrow.end()) if arrow else None
    return (_seconds(start.groups()), _seconds(end.groups())) if start and end else None


def _seconds(parts: Sequence[str | None]) -> float:
    sign, *numbers, fraction = parts
    hours, minutes, seconds = (abs(int(number or 0)) for number in numbers)
    digits = (fraction or "0").lstrip("-")
    # As players do: up to three digits count milliseconds, whose zeros some programs leave out.
    part = int(digits) / 1000 if len(digits) <= 3 else int(digits) / 10 ** len(digits)
    negative = sign or any((number or "").startswith("-") for number in (*numbers, fraction))
    return (3600 * hours + 60 * minutes + seconds + part) * (-1 if negative else 1)


def _lines(block: _Block) -> list[Line]:
    lines = []
    for line in block.lines:
        pieces, times = _STAMP.split(line), _STAMP.findall(line)
        text, stamps = "", []
        for i, piece in enumerate(pieces):
            text += html.unescape(_MARKUP.sub("", _RUBY.sub("", piece)))
            if i < len(times):
                match = _END.match(times[i][1:-1])
                if match is not None:
                    stamps.append((len(text), _seconds(match.groups())))
        if text.strip():
            lines.append(Line(text, tuple(stamps)))
    return lines


def _in_order(stamps: Sequence[tuple[int, float]], start: float, end: float) -> tuple[tuple[int, float], ...]:
    """Those of `stamps` that lie in the subtitle and after the one before."""
    kept: list[tuple[int, float]] = []
    for place, seconds in stamps:
        if (kept[-1][1] if kept else start) <= seconds <= end:
            kept.append((place, seconds))
    return tuple(kept)


def _without_rolled(shown: Sequence[list[Line]]) -> list[list[Line]]:
    """The lines of each subtitle without those, or the words, that the one before it has shown; all if none roll."""
    repeated = [0] * len(shown)
    grown = [""] * len(shown)
    for i in range(1, len(shown)):
        repeated[i] = _lines_again(shown[i - 1], shown[i])
        if not repeated[i]:
            grown[i] = _words_again(shown[i - 1], shown[i])
    pairs = sum(bool(shown[i - 1] and shown[i]) for i in range(1, len(shown)))
    rolling = sum(bool(repeated[i] or grown[i]) for i in range(1, len(shown)))
    if not rolling or rolling < ROLLING_SHARE * pairs:
        return [list(lines) for lines in shown]
    return [
        _without_start(lines, words) if words else lines[again:]
        for lines, again, words in zip(shown, repeated, grown, strict=True)
    ]


def _join_lines(lines: Sequence[Line]) -> tuple[str, list[tuple[int, float]]]:
    """The text of a subtitle, its lines joined by a space, and the places and times of words in it."""
    text, stamps = "", []
    for line in lines:
        lead = len(line.text) - len(line.text.lstrip())
        body = line.text.strip()
        start = len(text) + bool(text)
        stamps += [(start + min(max(place - lead, 0), len(body)), seconds) for place, seconds in line.stamps]
        text = f"{text} {body}" if text else body
    return text, stamps


def _lines_again(before: Sequence[Line], now: Sequence[Line]) -> int:
    """How many of the first lines of `now` are the last ones of `before`."""
    for count in range(min(len(before), len(now), ROLLED_LINES), 0, -1):
        if [line.words for line in before[-count:]] == [line.words for line in now[:count]]:
            return count
    return 0


def _words_again(before: Sequence[Line], now: Sequence[Line]) -> str:
    """The last line of `before` if the first of `now` begins with its words and goes on."""
    if not before or not now:
        return ""
    words = before[-1].words
    return words if words and now[0].words.startswith(f"{words} ") else ""


def _without_start(lines: list[Line], words: str) -> list[Line]:
    """`lines` whose first one begins after `words`."""
    first = lines[0]
    place, left = 0, sum(not character.isspace() for character in words)
    while left:
        left -= not first.text[place].isspace()
        place += 1
    stamps = tuple((at - place, seconds) for at, seconds in first.stamps if at >= place)
    return [Line(first.text[place:], stamps), *lines[1:]]
