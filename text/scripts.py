"""Finds the scripts of a text by Unicode's classification (UAX #24)."""

from collections import Counter
from functools import lru_cache

import regex

# Likely scripts of queries; letters of all other scripts count as `Other`.
_SCRIPTS = (
    "Latin Cyrillic Greek Han Hiragana Katakana Hangul Arabic Hebrew Devanagari Bengali Tamil "
    "Telugu Thai Khmer Lao Myanmar Georgian Armenian Ethiopic"
).split()
_LETTER = regex.compile(
    "|".join(f"(?P<{name}>\\p{{Script={name}}})" for name in _SCRIPTS)
    + r"|(?P<Other>(?!\p{Script=Common}|\p{Script=Inherited})\p{L})"
)


@lru_cache(maxsize=20_000)  # also called for single words
def scripts_of(sentence: str) -> frozenset[str]:
    """Returns the scripts of a sentence's letters, such as `{"Latin", "Han"}`."""
    return frozenset(match.lastgroup for match in _LETTER.finditer(sentence))


def script_counts(sentence: str) -> Counter[str]:
    """Counts the letters of each script."""
    return Counter(str(match.lastgroup) for match in _LETTER.finditer(sentence))
