"""Text with emotions in brackets: ``[happy 0.8] Good morning! [sad] It rains.``"""

import re
import unicodedata
from dataclasses import dataclass

from dicetalk.emotion.mix import parse_emotion
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


def parse_tagged(text: str) -> list[TaggedText]:
    """Split `text` at its tags; each holds until the next one.

    A part before the first tag has no weights. There is always one part or more.

    Raises:
        EmotionError: the text is too long, a bracket is left open, or a tag is no emotion.
    """
    if len(text) > MAX_TEXT:
        raise EmotionError(f"The text has {len(text)} characters; expected at most {MAX_TEXT}.")
    said = _TAG.split(text)
    parts = [TaggedText(said[0].strip(), None)] if said[0].strip() or len(said) == 1 else []
    for tag, words in zip(said[1::2], said[2::2], strict=True):
        try:
            parts.append(TaggedText(words.strip(), read_weights(tag)))
        except EmotionError as error:
            raise EmotionError(f"The tag [{tag[:60]}]: {error}") from error
    for part in parts:
        if "[" in part.text or "]" in part.text:
            raise EmotionError(f"A bracket is left open in {part.text[:60]!r}. Write tags as [happy 0.8].")
    return parts
