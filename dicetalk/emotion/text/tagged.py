"""Text with emotions in brackets, for example ``[happy 0.8] Good morning! [sad] It rains.``.

Brackets of East Asian keyboards are brackets too: ``【开心】早上好！［悲伤 ０．８］下雨了。``
"""

import itertools
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dicetalk.emotion.mix import parse_weights
from dicetalk.emotion.prior import ALIASES, PRESET_NAMES, suggestion
from dicetalk.emotion.text.words import describe_emotion, known_preset
from dicetalk.errors import EmotionError

MAX_TEXT = 200_000
"""Characters; an hour of fast speech has about 80 000."""

OPENING, CLOSING = "［【〔〖〘〚❲⟦﹝", "］】〕〗〙〛❳⟧﹞"
"""Characters taken for ``[`` and ``]``. Corner brackets are quotation marks, and parentheses are said aloud."""

_BRACKETS = str.maketrans(dict.fromkeys(OPENING, "[") | dict.fromkeys(CLOSING, "]"))
_TAG = re.compile(r"\[([^\[\]]*)\]")
_IDEOGRAPH_LETTERS = 3.5
"""A Chinese character takes about as long to say as this many letters."""


@dataclass(frozen=True)
class TaggedText:
    """Text that is spoken with one emotion.

    Args:
        text: what is said, without the tag; may be empty.
        weights: of the presets by name; `None` if no tag has come yet.
        tag: the tag's own text.
        at: where in the whole text the part starts, in characters: at its tag.
    """

    text: str
    weights: dict[str, float] | None
    tag: str = field(default="", compare=False)
    at: int = field(default=0, compare=False)

    @property
    def length(self) -> float:
        """How long it takes to say, in letters."""
        return sum(map(letters_of, self.text))


def letters_of(character: str) -> float:
    """How long a character takes to say, in letters; 0 for what is not said."""
    if not character.isalnum():
        return 0.0
    return _IDEOGRAPH_LETTERS if unicodedata.east_asian_width(character) in "WF" else 1.0


def letters_before(text: str) -> list[float]:
    """Letters that are said before each character of a tagged `text`, and of the whole as the last entry."""
    said = [letters_of(character) for character in text]
    for match in _TAG.finditer(text):
        said[match.start() : match.end()] = [0.0] * (match.end() - match.start())
    return list(itertools.accumulate(said, initial=0.0))


def plain_brackets(text: str) -> str:
    """`text` of the same length with ``[`` and ``]`` for every kind of bracket that a tag may have."""
    return text.translate(_BRACKETS)


def has_tag(text: str) -> bool:
    """Whether `text` is one with tags, also one whose tag is left open."""
    return "[" in plain_brackets(text)


def line_of(text: str, at: int) -> int:
    """Number of the line, from 1, of the character `at`."""
    return text.count("\n", 0, at) + 1


def count_known_tags(text: str) -> int:
    """How many tags of `text` are emotions; of two ways to decode a text, the right one has more."""
    known = 0
    for match in itertools.islice(_TAG.finditer(plain_brackets(text)), 100):
        try:
            known += bool(_read_tag(match[1]) is not None)
        except EmotionError:
            continue
    return known


def read_weights(emotion: str) -> dict[str, float]:
    """An emotion as weights of presets, by name: ``happy:0.5+sad:0.3``, ``happy 0.8`` or ``a little annoyed``.

    Raises:
        EmotionError: it is none of these.
    """
    plain = unicodedata.normalize("NFKC", emotion)
    if ":" not in plain and "+" not in plain:
        return describe_emotion(emotion)
    plain = re.sub(r"(?<=\d),(?=\d)", ".", plain)  # 0,8 in most of Europe
    parts = [part.partition(":") for part in plain.split("+")]
    return parse_weights("+".join(f"{known_preset(name) or name}{colon}{number}" for name, colon, number in parts))


def parse_tagged(text: str, leave: Callable[[str, EmotionError], None] | None = None) -> list[TaggedText]:
    """Split `text` at its tags; each holds until the next one.

    A part before the first tag has no weights. There is always one part or more.

    Args:
        text: what is said, with tags.
        leave: hears of a tag that is no emotion, and why; it is left out then, as ``[music]`` is not said. If `None`,
            it is refused.

    Raises:
        EmotionError: the text is too long, a bracket is left open, or a tag is no emotion.
    """
    if len(text) > MAX_TEXT:
        raise EmotionError(f"The text has {len(text)} characters; expected at most {MAX_TEXT}.")
    text = plain_brackets(text)
    found: list[tuple[list[str], dict[str, float] | None, str, int]] = [([], None, "", 0)]
    end = 0
    for match in _TAG.finditer(text):
        found[-1][0].append(text[end : match.start()].strip())
        end = match.end()
        try:
            found.append(([], _read_tag(match[1]), match[1], match.start()))
        except EmotionError as error:
            if leave is None:
                where = f" in line {line_of(text, match.start())}" if "\n" in text.strip() else ""
                raise EmotionError(f"The tag [{match[1][:60]}]{where}: {error}") from error
            leave(match[1], error)
    found[-1][0].append(text[end:].strip())
    if len(found) > 1 and not any(found[0][0]):
        del found[0]  # nothing stands before the first tag
    parts = [TaggedText(" ".join(filter(None, words)), weights, tag, at) for words, weights, tag, at in found]
    for part in parts:
        if "[" in part.text or "]" in part.text:
            raise EmotionError(f"A bracket is left open in {part.text[:60]!r}. Write tags as [happy 0.8].")
    return parts


def without_words(parts: Sequence[TaggedText]) -> list[TaggedText]:
    """Parts with a tag that another tag follows before anything is said: they are never seen."""
    return [
        part
        for part, following in itertools.pairwise(parts)
        if part.weights is not None and not part.length and following.weights is not None
    ]


def _read_tag(tag: str) -> dict[str, float]:
    weights = read_weights(tag)
    unknown = [name for name in weights if name not in PRESET_NAMES]
    if unknown:
        meant = suggestion(unknown[0], [*PRESET_NAMES, *ALIASES])
        raise EmotionError(f"Emotion {unknown[0][:40]!r} is unknown.{meant} Known: {', '.join(PRESET_NAMES)}.")
    return weights
