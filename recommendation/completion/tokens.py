"""Queries -> their words, each with its place, so that the last one can be completed in place.

Blanks separate words; runs of scripts without blanks are cut by `text.segmentation`, or where its
words are not the run's own letters (dictionary forms), after each letter.
"""

from typing import NamedTuple

import regex

from reelseek.text.segmentation import words as segmented

MAX_WORDS = 16  # of a query; further ones are neither counted nor used
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}ー々\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_RUN = regex.compile(rf"(?V1)(?P<unspaced>(?:{_UNSPACED}\p{{M}}*)+)|(?:(?!{_UNSPACED})\S)+")
_HAS_UNSPACED = regex.compile(_UNSPACED)


class Token(NamedTuple):
    """A word.

    Attributes:
        start: index of its first character in the text.
        is_unspaced: whether the next word may follow without a blank.
    """

    word: str
    start: int
    is_unspaced: bool


def tokens(text: str) -> list[Token]:
    """Returns the first words of a text in the form of `ranking.prefix_index.folded`."""
    if not _HAS_UNSPACED.search(text):
        found, position = [], 0
        for word in text.split()[:MAX_WORDS]:
            position = text.index(word, position)
            found.append(Token(word, position, False))
            position += len(word)
        return found
    found = []
    for match in _RUN.finditer(text):
        if match["unspaced"] is None:
            found.append(Token(match[0], match.start(), False))
        else:
            start = match.start()
            for word in _cut(match[0]):
                found.append(Token(word, start, True))
                start += len(word)
        if len(found) >= MAX_WORDS:
            break
    return found[:MAX_WORDS]


def words(text: str) -> tuple[str, ...]:
    return tuple(token.word for token in tokens(text))


def _cut(run: str) -> list[str]:
    cut = segmented(run)
    return cut if "".join(cut) == run else regex.findall(r"\X", run)
