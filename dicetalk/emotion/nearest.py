"""Suggestion for an emotion's name that is not known."""

from collections.abc import Iterable
from difflib import get_close_matches

LIKENESS = 0.6
"""Ratio of :class:`difflib.SequenceMatcher` from which a word is suggested; ``hapy`` and ``happy`` have 0.89."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """`` Did you mean 'happy'?`` for a word that is like one of `known`, else nothing."""
    near = get_close_matches(word.lower()[:64], list(known), n=1, cutoff=LIKENESS)
    return f" Did you mean {near[0]!r}?" if near else ""
