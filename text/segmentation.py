"""A text -> its words."""

import unicodedata

import regex

_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")


def words(text: str) -> list[str]:
    """The words of a text, normalised and casefolded."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
