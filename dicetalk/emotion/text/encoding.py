"""Bytes of a text to characters, whatever program saved it."""

import codecs
import re

from charset_normalizer import from_bytes

from dicetalk.emotion.text.tagged import count_known_tags
from dicetalk.errors import EmotionError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

CANDIDATES = {
    "gb18030": "GBK (simplified Chinese)",
    "cp932": "Shift-JIS (Japanese)",
    "big5": "Big5 (traditional Chinese)",
    "euc_jp": "EUC-JP (Japanese)",
    "euc_kr": "EUC-KR (Korean)",
    "cp1252": "Windows-1252 (western European)",
    "cp1250": "Windows-1250 (central European)",
    "cp1251": "Windows-1251 (Cyrillic)",
    "cp1253": "Windows-1253 (Greek)",
    "cp1254": "Windows-1254 (Turkish)",
    "mac_roman": "Mac Roman (western European)",
    "cp850": "DOS code page 850 (western European)",
}
"""Encodings of texts without a byte order mark, as Python and as people call them; of equals the first is taken."""

_WIDE = {"utf-16-le": "UTF-16, little-endian", "utf-16-be": "UTF-16, big-endian"}
_WIDEST = {"utf-32-le": "UTF-32, little-endian", "utf-32-be": "UTF-32, big-endian"}

_SHIFTS = (b"\x1b$B", b"\x1b$@", b"\x1b(J")
"""Escape that changes the set of characters in ISO-2022-JP, the encoding of Japanese mail; all its bytes are ASCII."""

MOST_DAMAGED = 0.1
"""A text of which a larger part is no UTF-8, in damaged places to whole characters, is in another encoding."""


_LOST = re.compile("\ufffd+")


def decode_text(content: bytes) -> tuple[str, str | None]:
    """A text and, unless its encoding is certain, a sentence about what was assumed.

    A byte order mark is believed. Without one UTF-8 is tried, then UTF-32 and UTF-16 by their zero bytes; what is left
    is judged by charset-normalizer, and of what that finds possible, the one is taken in which most tags are emotions.

    Raises:
        EmotionError: it is none of these; the message does not name the file.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            try:
                return content[len(mark) :].decode(encoding), None
            except UnicodeDecodeError:
                if len(mark) == 4:
                    continue  # UTF-16 whose first character is a zero
                return _damaged(content[len(mark) :], encoding)
    if any(shift in content for shift in _SHIFTS):
        try:
            return content.decode("iso2022_jp"), _assumed("ISO-2022-JP (Japanese)")
        except UnicodeDecodeError:
            pass
    zeros = content[:65536].count(0)
    if not zeros:
        try:
            return content.decode("utf-8"), None
        except UnicodeDecodeError:
            return _mostly_utf8(content) or _detected(content)
    if not len(content) % 4:
        for encoding, name in _WIDEST.items():
            try:
                text = content.decode(encoding)
            except UnicodeDecodeError:  # nearly always, since most numbers of 32 bits are no character
                continue
            if "\0" not in text:
                return text, _assumed(name)
    # Every second byte of the letters, digits and line ends of UTF-16 is zero; of which half says the byte order.
    encoding = "utf-16-le" if 2 * content[1:65536:2].count(0) >= zeros else "utf-16-be"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise EmotionError("this is no text: it holds zero bytes. Save it as UTF-8.")
    return text, _assumed(_WIDE[encoding])


def _damaged(content: bytes, encoding: str) -> tuple[str, str]:
    """A text in which bytes that are none have become U+FFFD."""
    text = content.decode(encoding, "replace")
    places = [match.start() for match in _LOST.finditer(text)]
    if text.count("\ufffd") > max(3, MOST_DAMAGED * len(text)):
        raise EmotionError(f"the text is damaged: it is not {encoding.upper()} as its first bytes say.")
    line = text.count("\n", 0, places[0]) + 1
    count = "one place" if len(places) == 1 else f"{len(places)} places"
    return text, f"The text is damaged in {count}, first in line {line}: bytes there are no {encoding.upper()}."


def _mostly_utf8(content: bytes) -> tuple[str, str] | None:
    """UTF-8 with a few damaged places, or `None` if it looks like another encoding."""
    text = content.decode("utf-8", "replace")
    # By chance two bytes of another encoding form a character of UTF-8, but not many more than do not.
    whole = sum(character > "\x7f" for character in text) - text.count("\ufffd")
    wrong = sum(1 for _ in _LOST.finditer(text))
    return _damaged(content, "utf-8") if whole >= 8 and wrong <= MOST_DAMAGED * whole else None


def _detected(content: bytes) -> tuple[str, str]:
    order = list(CANDIDATES)
    likely: dict[str, int] = {}  # charset-normalizer lists encodings that give the same text as one
    for rank, match in enumerate(from_bytes(content, cp_isolation=order)):
        likely |= {name: rank for name in (match.encoding, *match.could_be_from_charset) if name not in likely}
    best: tuple[tuple[float, ...], str, str] | None = None
    for place, encoding in enumerate((*order, *_WIDE)):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        known = count_known_tags(text)
        if encoding in likely or known:
            score = (-known, likely.get(encoding, len(order)), place)
            if best is None or score < best[0]:
                best = score, text, encoding
    if best is None:
        raise EmotionError("the encoding of the text is unknown. Save it as UTF-8.")
    return best[1], _assumed((CANDIDATES | _WIDE)[best[2]])


def _assumed(name: str) -> str:
    return f"The text does not say its encoding; {name} is assumed. If its words are wrong, save it as UTF-8."
