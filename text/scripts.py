"""A sentence -> the scripts it is written in, by Unicode's own classification (UAX #24)."""

from collections import Counter
from functools import lru_cache

import regex

# Those that a query is likely to come in; a letter of any other counts as `Other`.
_SCRIPTS = (
    "Latin Cyrillic Greek Han Hiragana Katakana Hangul Arabic Hebrew Devanagari Bengali Tamil "
    "Telugu Thai Khmer Lao Myanmar Georgian Armenian Ethiopic"
).split()
_LETTER = regex.compile(
    "|".join(f"(?P<{name}>\\p{{Script={name}}})" for name in _SCRIPTS)
    + r"|(?P<Other>(?!\p{Script=Common}|\p{Script=Inherited})\p{L})"
)


@lru_cache(maxsize=20_000)  # asked word by word, too
def scripts_of(sentence: str) -> frozenset[str]:
    """The scripts of the sentence's letters, such as `{"Latin", "Han"}`; marks and digits, which
    belong to no script of their own, are passed over."""
    return frozenset(match.lastgroup for match in _LETTER.finditer(sentence))


def script_counts(sentence: str) -> Counter[str]:
    """How many of the sentence's letters are in each script."""
    return Counter(str(match.lastgroup) for match in _LETTER.finditer(sentence))
