"""Plain words for emotions, by a table: ``a little annoyed``, ``very happy``, ``sad but relieved``, ``happy a lot``.

A word stands for weights of presets; what stands before it multiplies them, and so does a number after it. Several
words share the face: each of n has its weights divided by the square root of n. No weight exceeds 2. A stop at the
end does not count. Nothing is guessed: an unknown word is an error that lists what is known.
"""

import math
import re

from dicetalk.emotion.mix import MAX_WEIGHT, check_weight, preset_name
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.errors import EmotionError

DEGREES = {
    "barely": 0.25,
    "faintly": 0.3,
    "slightly": 0.4,
    "mildly": 0.45,
    "a little": 0.5,
    "a bit": 0.5,
    "a little bit": 0.5,
    "kind of": 0.6,
    "sort of": 0.6,
    "somewhat": 0.6,
    "moderately": 0.7,
    "fairly": 0.8,
    "pretty": 0.8,
    "rather": 0.85,
    "quite": 0.9,
    "really": 1.25,
    "so": 1.25,
    "very": 1.3,
    "deeply": 1.4,
    "totally": 1.5,
    "extremely": 1.6,
}
"""What may stand before a word, and the factor that it is."""

DEGREES_AFTER = {"a little": 0.5, "a bit": 0.5, "a little bit": 0.5, "a lot": 1.3, "very much": 1.3}
"""What may stand after it."""

WORDS: dict[str, dict[str, float]] = {
    # joy
    "content": {"happy": 0.4},
    "pleased": {"happy": 0.5},
    "friendly": {"happy": 0.45},
    "hopeful": {"happy": 0.45},
    "relieved": {"happy": 0.5},
    "glad": {"happy": 0.6},
    "amused": {"happy": 0.6},
    "smiling": {"happy": 0.7},
    "cheerful": {"happy": 0.8},
    "joyful": {"happy": 1.0},
    "delighted": {"happy": 1.1},
    "excited": {"happy": 0.9, "surprised": 0.3},
    "thrilled": {"happy": 1.2, "surprised": 0.3},
    "elated": {"happy": 1.3},
    "ecstatic": {"happy": 1.5},
    "proud": {"happy": 0.5, "contempt": 0.2},
    # sorrow
    "down": {"sad": 0.5},
    "disappointed": {"sad": 0.55},
    "gloomy": {"sad": 0.6},
    "unhappy": {"sad": 0.6},
    "melancholic": {"sad": 0.6},
    "lonely": {"sad": 0.65},
    "hurt": {"sad": 0.7, "angry": 0.1},
    "depressed": {"sad": 0.9},
    "sorrowful": {"sad": 1.0},
    "miserable": {"sad": 1.1},
    "grieving": {"sad": 1.2},
    "heartbroken": {"sad": 1.3},
    "devastated": {"sad": 1.4},
    # anger
    "impatient": {"angry": 0.35},
    "grumpy": {"angry": 0.4},
    "annoyed": {"angry": 0.5},
    "irritated": {"angry": 0.55},
    "cross": {"angry": 0.55},
    "frustrated": {"angry": 0.55, "sad": 0.2},
    "bitter": {"angry": 0.5, "contempt": 0.3},
    "mad": {"angry": 0.9},
    "hostile": {"angry": 0.9},
    "indignant": {"angry": 0.9, "contempt": 0.2},
    "outraged": {"angry": 1.3},
    "furious": {"angry": 1.4},
    "enraged": {"angry": 1.5},
    # surprise
    "curious": {"surprised": 0.3},
    "puzzled": {"surprised": 0.35},
    "confused": {"surprised": 0.4, "fear": 0.1},
    "amazed": {"surprised": 0.9, "happy": 0.3},
    "startled": {"surprised": 0.9, "fear": 0.3},
    "astonished": {"surprised": 1.2},
    "stunned": {"surprised": 1.2},
    "shocked": {"surprised": 1.1, "fear": 0.4},
    # fear
    "uneasy": {"fear": 0.35},
    "nervous": {"fear": 0.5},
    "worried": {"fear": 0.5, "sad": 0.15},
    "anxious": {"fear": 0.6},
    "frightened": {"fear": 1.0},
    "scared": {"fear": 1.0},
    "horrified": {"fear": 1.1, "disgusted": 0.4},
    "panicked": {"fear": 1.4},
    "terrified": {"fear": 1.5},
    # disgust
    "sickened": {"disgusted": 1.0},
    "repulsed": {"disgusted": 1.1},
    "revolted": {"disgusted": 1.2},
    # contempt
    "sarcastic": {"contempt": 0.6},
    "smug": {"contempt": 0.6, "happy": 0.2},
    "arrogant": {"contempt": 0.7},
    "mocking": {"contempt": 0.8},
    "sneering": {"contempt": 1.0},
    "scornful": {"contempt": 1.0},
    "disdainful": {"contempt": 1.0},
    # no emotion
    "calm": {},
    "relaxed": {},
    "serious": {},
    "indifferent": {},
}
"""Words beside the eight presets and their :data:`~dicetalk.emotion.prior.ALIASES`."""

_LONGEST_DEGREE = max(len(degree.split()) for degree in (*DEGREES, *DEGREES_AFTER))
_JOINTS = re.compile(r"\s*(?:,|;|\band\b|\bbut\b)\s*")
_NUMBER = re.compile(r"(?:\d{1,6}(?:\.\d{0,6})?|\.\d{1,6})(\s*%)?")


def describe_emotion(phrase: str) -> dict[str, float]:
    """Read plain words as weights of the presets, by name; neutral has none.

    Raises:
        EmotionError: a word is unknown, or a number is outside 0 to 2.
    """
    parts = [part for part in _JOINTS.split(phrase.strip().rstrip(".!?…,; ").lower()) if part]
    if not parts:
        raise EmotionError(f"Emotion {phrase!r} has no word. Write for example happy, or a little annoyed.")
    weights: dict[str, float] = {}
    for part in parts:
        for name, weight in _part(part, phrase).items():
            weights[name] = weights.get(name, 0.0) + weight / math.sqrt(len(parts))
    return {name: min(weight, MAX_WEIGHT) for name, weight in weights.items()}


def _part(part: str, phrase: str) -> dict[str, float]:
    """Weights of one word with what stands before and after it."""
    tokens = part.split()
    factor = 1.0
    number = _NUMBER.fullmatch(tokens[-1])
    if number and len(tokens) > 1:
        factor = float(tokens.pop().rstrip("%")) / (100 if number[1] else 1)
        check_weight(factor, f"Emotion {phrase!r}: the number")
    while degree := _degree(tokens, DEGREES, first=True):
        factor *= DEGREES[degree]
        del tokens[: len(degree.split())]
    if degree := _degree(tokens, DEGREES_AFTER, first=False):
        factor *= DEGREES_AFTER[degree]
        del tokens[-len(degree.split()) :]
    word = " ".join(tokens)
    preset = preset_name(word)
    if preset:
        return {} if preset == "neutral" else {preset: factor}
    if word not in WORDS:
        raise EmotionError(
            f"Emotion {_short(word)} is unknown. Known: {', '.join(PRESET_NAMES)}; with words as 'a little' or 'very' "
            f"before, and: {', '.join(WORDS)}."
        )
    return {name: factor * weight for name, weight in WORDS[word].items()}


def _degree(tokens: list[str], degrees: dict[str, float], first: bool) -> str | None:
    """The longest of `degrees` that `tokens` begin, or end, with, if a word is left then."""
    for length in range(min(_LONGEST_DEGREE, len(tokens) - 1), 0, -1):
        degree = " ".join(tokens[:length] if first else tokens[-length:])
        if degree in degrees:
            return degree
    return None


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:39]}…")
