"""Texts -> those that have a word which begins like what was typed, the best first.

A sorted array of the texts from each of their words on, which is searched by bisection: every
script, no copies of the texts, some 50 bytes a word.
"""

import time
from collections.abc import Mapping, Sequence

import numpy as np
import regex

from reelseek.text.normalization import normalized

_KEY_BYTES = 32  # of a text from a word on, in UTF-8; longer prefixes are compared afterwards
_MAX_WORDS = 24  # of a text; others are not found
_YIELD_EVERY = 64  # texts
# A word begins at a blank or a sign; in a script without blanks, at each letter.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = regex.compile(
    rf"(?V1)[{_UNSPACED}]\p{{M}}*|[\p{{Katakana}}ー]+"
    rf"|[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}\p{{Katakana}}]]+"
)


def word_starts(text: str) -> list[int]:
    """Returns the index of the first character of each word."""
    return [match.start() for match in _WORD.finditer(text)]


def folded(text: str) -> str:
    """The form in which texts are compared."""
    return normalized(text).casefold()


def typed_form(prefix: str) -> str:
    """What is typed, in the form in which texts are compared; a blank at its end ends a word."""
    form = folded(prefix)
    return f"{form} " if form and prefix[-1:].isspace() else form


class PrefixIndex:
    """Made once, then only read: threads may share it.

    Args:
        counts: texts, with how often each occurs; those that occur more often come first.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._texts = list(counts)
        keys: list[bytes] = []
        owners: list[int] = []
        is_inside: list[bool] = []
        for number, text in enumerate(self._texts):
            if number % _YIELD_EVERY == 0:
                time.sleep(0)  # lets other threads run: a service builds this beside searches
            form = folded(text)
            for start in word_starts(form)[:_MAX_WORDS]:
                keys.append(_key(form[start:]))
                owners.append(number)
                is_inside.append(start > 0)
        owner = np.array(owners, dtype=np.int32)
        every_count = np.array([counts[text] for text in self._texts], dtype=np.int64)
        lengths = np.array([len(text) for text in self._texts], dtype=np.int32)
        # At the text's start before inside it, then often before seldom, then short before long.
        best_first = np.lexsort(
            (owner, lengths[owner], -every_count[owner], np.array(is_inside, dtype=bool))
        )
        rank = np.empty(len(owner), dtype=np.int32)
        rank[best_first] = np.arange(len(owner), dtype=np.int32)
        array = np.array(keys, dtype=f"S{_KEY_BYTES}")
        order = np.argsort(array, kind="stable")
        self._keys, self._owner, self._rank = array[order], owner[order], rank[order]

    def __len__(self) -> int:
        return len(self._texts)

    def best(self, prefix: str, k: int) -> list[str]:
        """Returns at most k texts.

        Args:
            prefix: as of `folded`; not empty.
        """
        key = _key(prefix)
        first = int(np.searchsorted(self._keys, np.array(key, self._keys.dtype)))
        after = key + b"\xff" * (_KEY_BYTES - len(key))
        last = int(np.searchsorted(self._keys, np.array(after, self._keys.dtype), side="right"))
        owners = self._owner[first:last]
        is_cut = len(prefix.encode()) > _KEY_BYTES
        if is_cut:  # few texts agree that far
            fits = [number for number in set(owners.tolist()) if self._has(number, prefix)]
            owners, ranks = np.array(fits, np.int32), np.array(fits, np.int32)
        else:
            ranks = self._rank[first:last]
        found: dict[str, None] = {}
        for position in _smallest(ranks, k * _MAX_WORDS):
            found.setdefault(self._texts[int(owners[position])])
            if len(found) == k:
                break
        return list(found)

    def _has(self, number: int, prefix: str) -> bool:
        form = folded(self._texts[number])
        return any(form.startswith(prefix, start) for start in word_starts(form))


def _smallest(ranks: np.ndarray, num: int) -> Sequence[int]:
    """Positions of the smallest values, ascending."""
    if len(ranks) > num:
        some = np.argpartition(ranks, num)[:num]
        return some[np.argsort(ranks[some])].tolist()
    return np.argsort(ranks).tolist()


def _key(text: str) -> bytes:
    # A code point takes at least a byte; NumPy drops NUL bytes at the end, which no text has.
    return text[:_KEY_BYTES].encode("utf-8", "surrogatepass")[:_KEY_BYTES]
