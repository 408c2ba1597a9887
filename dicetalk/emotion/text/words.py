"""Plain words for emotions, by a table: ``a little annoyed``, ``very happy``, ``sad but relieved``, ``happy a lot``.

A word stands for weights of presets; what stands before it multiplies them, and so does a number after it. Several
words share the face: each of n has its weights divided by the square root of n. No weight exceeds 2. A stop at the
end does not count. Case, accents and full width do not matter. Nothing is guessed: an unknown word is an error that
lists what is known.

The words of other languages are in :mod:`dicetalk.emotion.text.languages`: ``sehr traurig``, ``un peu fâchée``,
``muy feliz``, ``有点生气``, ``とても嬉しい``.
"""

import math
import re
import unicodedata

from dicetalk.emotion.mix import MAX_WEIGHT, check_weight
from dicetalk.emotion.prior import ALIASES, PRESET_NAMES, preset_name, suggestion
from dicetalk.emotion.text.languages import LANGUAGES
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
"""Words that may stand before an emotion word, and the factor that each is."""

DEGREES_AFTER = {"a little": 0.5, "a bit": 0.5, "a little bit": 0.5, "a lot": 1.3, "very much": 1.3}
"""Words that may stand after it."""

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

MAX_PHRASE = 500
"""Characters of a description; the longest tags that people write have about 60."""

_NUMBER = re.compile(r"(?:\d{1,6}(?:\.\d{0,6})?|\.\d{1,6})\s*%?")
_ACCENTS = re.compile("[\u0300-\u036f]")
"""Combining marks of Latin script; those of kana, which change the sound, are others."""


def plain(text: str) -> str:
    """`text` without what makes no difference: case, full width, accents, invisible characters, runs of spaces."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = _ACCENTS.sub("", unicodedata.normalize("NFD", text))
    text = "".join(c for c in unicodedata.normalize("NFC", text) if unicodedata.category(c) != "Cf")
    return " ".join(text.split())


def _listed(words: str) -> list[str]:
    return [word.replace("_", " ") for word in words.split()]


def _of_other_languages() -> tuple[dict[str, dict[str, float]], dict[str, float], dict[str, float]]:
    """Words, degrees before and degrees after of :data:`LANGUAGES`, as they are once they are :func:`plain`."""
    words: dict[str, dict[str, float]] = {}
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    for language in LANGUAGES.values():
        for meaning, listed in language.words.items():
            name, _, number = meaning.partition(" ")
            of_one = WORDS.get(name, {} if name == "neutral" else {name: 1.0})
            weights = {preset: weight * float(number or 1) for preset, weight in of_one.items()}
            for word in _listed(listed):
                words |= {plain(form): weights for form in language.forms(word) if plain(form) not in words}
        for table, listed_degrees in ((before, language.degrees), (after, language.degrees_after)):
            for factor, degrees in listed_degrees.items():
                table |= {plain(degree): factor for degree in _listed(degrees)}
    return words, before, after


_OTHER_WORDS, _OTHER_DEGREES, _OTHER_DEGREES_AFTER = _of_other_languages()
_ALL_WORDS = _OTHER_WORDS | WORDS
_ALL_DEGREES = _OTHER_DEGREES | DEGREES
_ALL_DEGREES_AFTER = _OTHER_DEGREES_AFTER | DEGREES_AFTER
_LONGEST_DEGREE = max(len(degree.split()) for degree in (*_ALL_DEGREES, *_ALL_DEGREES_AFTER))


def _separators() -> tuple[re.Pattern[str], re.Pattern[str], frozenset[str], frozenset[str]]:
    """Joints between words, the units of languages without spaces, and which of those are joints or particles."""
    latin = ["and", "but"] + [w for one in LANGUAGES.values() if one.spaced for w in _listed(one.joints)]
    joints = re.compile(rf" ?(?:[,;、&/]|\b(?:{'|'.join(latin)})\b) ?")
    dense = [one for one in LANGUAGES.values() if not one.spaced]
    between = {plain(w) for one in dense for w in _listed(one.joints)}
    particles = {plain(w) for one in dense for w in _listed(one.particles)}
    units = between | particles
    for table in (_OTHER_WORDS, _OTHER_DEGREES, _OTHER_DEGREES_AFTER):
        units |= {word for word in table if not word.isascii()}
    longest_first = sorted(units, key=len, reverse=True)
    return joints, re.compile("|".join(map(re.escape, longest_first))), frozenset(between), frozenset(particles)


_JOINTS, _UNITS, _DENSE_JOINTS, _PARTICLES = _separators()


def describe_emotion(phrase: str) -> dict[str, float]:
    """Read plain words as weights of the presets, by name; neutral has none.

    Raises:
        EmotionError: the phrase is longer than 500 characters, a word is unknown, or a number is outside 0 to 2.
    """
    if len(phrase) > MAX_PHRASE:
        raise EmotionError(f"Emotion {_short(phrase)} has {len(phrase)} characters; expected at most {MAX_PHRASE}.")
    text = re.sub(r"(?<=\d),(?=\d)", ".", plain(phrase))  # 0,8 in most of Europe
    parts = [part for part in _JOINTS.split(_with_spaces(text.rstrip(".!?,;。、 "))) if part]
    if not parts:
        raise EmotionError(f"Emotion {_short(phrase)} has no word. Write for example happy, or a little annoyed.")
    weights: dict[str, float] = {}
    for part in parts:
        for name, weight in _part(part, phrase).items():
            weights[name] = weights.get(name, 0.0) + weight / math.sqrt(len(parts))
    return {name: min(weight, MAX_WEIGHT) for name, weight in weights.items()}


def known_preset(name: str) -> str | None:
    """The preset that `name` means, in any of the languages; none if it means something else or a mixture."""
    word = plain(name)
    preset = preset_name(word)
    if preset is None and word in _OTHER_WORDS:
        weights = _OTHER_WORDS[word]
        preset = next((name for name in PRESET_NAMES if weights == {name: 1.0}), None if weights else "neutral")
    return preset


def _with_spaces(text: str) -> str:
    """Spaces between the words of languages that have none, and commas for their joints; what is unknown stays whole.

    The longest word wins: とても is "very", and the と in it no "and".
    """

    def unit(match: re.Match[str]) -> str:
        if match[0] in _DENSE_JOINTS:
            return " , "
        return " " if match[0] in _PARTICLES else f" {match[0]} "

    runs = (_UNITS.sub(unit, word) if not word.isascii() and word not in _ALL_WORDS else word for word in text.split())
    return " ".join(" ".join(runs).split())


def _part(part: str, phrase: str) -> dict[str, float]:
    """Weights of one word with what stands before and after it."""
    tokens = part.split()
    factor = 1.0
    if tokens[-1] == "%" and len(tokens) > 1:
        tokens[-2:] = ["".join(tokens[-2:])]
    if _NUMBER.fullmatch(tokens[-1]) and len(tokens) > 1:
        number = tokens.pop()
        factor = float(number.rstrip("%")) / (100 if number.endswith("%") else 1)
        check_weight(factor, f"Emotion {_short(phrase)}: the number")
    while degree := _degree(tokens, _ALL_DEGREES, first=True):
        factor *= _ALL_DEGREES[degree]
        del tokens[: len(degree.split())]
    if degree := _degree(tokens, _ALL_DEGREES_AFTER, first=False):
        factor *= _ALL_DEGREES_AFTER[degree]
        del tokens[-len(degree.split()) :]
    word = " ".join(tokens)
    preset = preset_name(word)
    if preset:
        return {} if preset == "neutral" else {preset: factor}
    if word not in _ALL_WORDS:
        raise EmotionError(
            f"Emotion {_short(word)} is unknown.{suggestion(word, [*PRESET_NAMES, *ALIASES, *_ALL_WORDS])} "
            f"Known: {', '.join(PRESET_NAMES)}; with words as 'a little' or 'very' before, and: "
            f"{', '.join(WORDS)}; and the usual ones in German, French, Spanish, Chinese and Japanese."
        )
    return {name: factor * weight for name, weight in _ALL_WORDS[word].items()}


def _degree(tokens: list[str], degrees: dict[str, float], first: bool) -> str | None:
    """The longest of `degrees` that `tokens` begin, or end, with, if a word is left then."""
    for length in range(min(_LONGEST_DEGREE, len(tokens) - 1), 0, -1):
        degree = " ".join(tokens[:length] if first else tokens[-length:])
        if degree in degrees:
            return degree
    return None


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:39]}…")
