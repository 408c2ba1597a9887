"""Captions that roll: each shows the line before it again, or the words before it, and adds some.

Automatic captions are made so. Read one by one, every line would be said twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

ROLLED_LINES = 4
"""Lines that may stay; nobody shows more."""

ROLLING_SHARE = 0.5
"""Where at least this part of the subtitles repeats the one before it, all of them roll. Speakers repeat themselves
less often."""


@dataclass(frozen=True)
class Line:
    """A line of a subtitle, and places in its text, in characters, of words with times of their own, in seconds."""

    text: str
    stamps: tuple[tuple[int, float], ...] = ()

    @property
    def words(self) -> str:
        """The text without the spaces that make no difference."""
        return " ".join(self.text.split())


def without_rolled(shown: Sequence[list[Line]]) -> list[list[Line]]:
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
        _cut(lines, words) if words else lines[again:]
        for lines, again, words in zip(shown, repeated, grown, strict=True)
    ]


def join_lines(lines: Sequence[Line]) -> tuple[str, list[tuple[int, float]]]:
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


def _cut(lines: list[Line], words: str) -> list[Line]:
    """`lines` whose first one begins after `words`."""
    first = lines[0]
    place, left = 0, sum(not character.isspace() for character in words)
    while left:
        left -= not first.text[place].isspace()
        place += 1
    stamps = tuple((at - place, seconds) for at, seconds in first.stamps if at >= place)
    return [Line(first.text[place:], stamps), *lines[1:]]
