"""Normalises text to the form that patterns expect.

Uses NFKC, single blanks, straight quotes and one kind of dash, and drops control and bidi
characters.
"""

import unicodedata

import regex

MAX_CHARACTERS = 2_000  # of a normalised query
_MAX_RAW_CHARACTERS = 10 * MAX_CHARACTERS

# Unicode normalisation sorts runs of marks in quadratic time. UAX #15 (Stream-Safe Text Format)
# allows runs of 30.
_STACKED_MARKS = regex.compile(r"(\p{M}{30})\p{M}+")
_BLANK = regex.compile(r"[\s\u200b]+")
# Controls, bidi marks, zero-width characters other than joiners, surrogates, private and tag
# characters.
_INVISIBLE = regex.compile(
    r"(?:(?!\s)[\p{Cc}\p{Cs}\p{Co}\p{Cn}\u00ad\u061c\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    r"\ufff9-\ufffb\U000e0000-\U000e007f])+"
)
_STRAIGHT = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4\u0060", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58", "-"),
        "\u301c": "~",
        "\u3001": ",",
    }
)
# NFKC decomposes these Thai and Lao vowels, which dictionaries keep composed.
_WHOLE_VOWELS = (("\u0e4d\u0e32", "\u0e33"), ("\u0ecd\u0eb2", "\u0eb3"))


def normalized(text: str) -> str:
    """Returns the normalised text; keeps the case of letters."""
    if text.isascii() and text.isprintable():
        return " ".join(text.translate(_STRAIGHT).split())
    # Replace quotes first, since NFKC turns some into a blank and an accent.
    text = _STACKED_MARKS.sub(r"\1", text).translate(_STRAIGHT)
    text = unicodedata.normalize("NFKC", text).translate(_STRAIGHT)
    for parts, whole in _WHOLE_VOWELS:
        text = text.replace(parts, whole)
    return _INVISIBLE.sub("", _BLANK.sub(" ", text)).strip()


def has_invisible(text: str) -> bool:
    """Whether a text has characters that `normalized` drops."""
    return bool(_INVISIBLE.search(text))


def normalized_query(query: str) -> str:
    """Returns a normalised query.

    Raises:
        ValueError: The query is empty or too long.
    """
    text = "" if len(query) > _MAX_RAW_CHARACTERS else normalized(query)
    length = len(text) or len(query)
    if length > MAX_CHARACTERS:
        raise ValueError(
            f"query has {length:,} characters, and at most {MAX_CHARACTERS:,} are allowed: say in "
            "a few words what the video should show"
        )
    if not text:
        raise ValueError("query is empty: say in a few words what the video should show")
    return text
