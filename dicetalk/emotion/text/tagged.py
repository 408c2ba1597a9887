"""Text with emotions in brackets: ``[happy 0.8] Good morning! [sad] It rains.``"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from dicetalk.emotion.mix import parse_emotion
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.emotion.text.words import describe_emotion
from dicetalk.errors import EmotionError

MAX_TEXT = 200_000
"""Characters; an hour of fast speech has about 80 000."""

_TAG = re.compile(r"\[([^\[\]]*)\]")
_IDEOGRAPH_LETTERS = 3.5
"""A Chinese character takes about as long to say as this many letters."""


@dataclass(frozen=True)
class TaggedText:
    """What is said with one emotion.

    Args:
        text: what is said, without the tag; may be empty.
        weights: of the presets by name; none if no tag has come yet.
    """

    text: str
    weights: dict[str, float] | None

    @property
    def length(self) -> float:
        """How long it takes to say, in letters."""
        return sum(
            _IDEOGRAPH_LETTERS if unicodedata.east_asian_width(character) in "WF" else 1.0
            for character in self.text
            if character.isalnum()
        )


def read_weights(emotion: str) -> dict[str, float]:
    """An emotion as weights of presets, by name: ``happy:0.5+sad:0.3``, ``happy 0.8`` or ``a little annoyed``.

    Raises:
        EmotionError: it is none of these.
    """
    return parse_emotion(emotion) if ":" in emotion or "+" in emotion else describe_emotion(emotion)


def parse_tagged(text: str, leave: Callable[[str, EmotionError], None] | None = None) -> list[TaggedText]:
    """Split `text` at its tags; each holds until the next one.

    A part before the first tag has no weights. There is always one part or more.

    Args:
        text: what is said, with tags.
        leave: hears of a tag that is no emotion, and why; it is left out then, as ``[music]`` is not said. If none, it
            is refused.

    Raises:
        EmotionError: the text is too long, a bracket is left open, or a tag is no emotion.
    """
    if len(text) > MAX_TEXT:
        raise EmotionError(f"The text has {len(text)} characters; expected at most {MAX_TEXT}.")
    first, *rest = _TAG.split(text)
    found: list[tuple[list[str], dict[str, float] | None]] = [([first.strip()], None)]
    for tag, words in zip(rest[::2], rest[1::2], strict=True):
        try:
            found.append(([words.strip()], _read_tag(tag)))
        except EmotionError as error:
            if leave is None:
                raise EmotionError(f"The tag [{tag[:60]}]: {error}") from error
            leave(tag, error)
            found[-1][0].append(words.strip())
    if len(found) > 1 and not any(found[0][0]):
        del found[0]  # nothing stands before the first tag
    parts = [TaggedText(" ".join(filter(None, words)), weights) for words, weights in found]
    for part in parts:
        if "[" in part.text or "]" in part.text:
            raise EmotionError(f"A bracket is left open in {part.text[:60]!r}. Write tags as [happy 0.8].")
    return parts


def _read_tag(tag: str) -> dict[str, float]:
    weights = read_weights(tag)
    unknown = [name for name in weights if name not in PRESET_NAMES]
    if unknown:
        raise EmotionError(f"Emotion {unknown[0][:40]!r} is unknown. Known: {', '.join(PRESET_NAMES)}.")
    return weights
