"""Words <-> ids in alphabetical order, so that the words with a prefix are a range of ids."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

NUM_BEST = 64  # words of a prefix that are considered without regard to the words before
_LAST_CHARACTER = "\U0010ffff"


class Vocabulary:
    """Threads may share it.

    Args:
        trie: a marisa-trie of the words.
        places: `(V,)` int32, the alphabetical place of each of the trie's ids.
    """

    def __init__(self, trie: Any, places: np.ndarray) -> None:
        if len(trie) != len(places):
            raise ValueError("its words and their places are not of one model")
        self.trie, self.places = trie, places
        self._numbers = np.empty(len(places), np.int32)  # of the trie, by place
        self._numbers[places] = np.arange(len(places), dtype=np.int32)
        self._large_ranges: dict[str, tuple[int, int]] = {}

    @classmethod
    def of(cls, words: Sequence[str]) -> "Vocabulary":
        """Args: words: distinct, not empty."""
        import marisa_trie

        ordered = sorted(words)
        trie = marisa_trie.Trie(ordered)
        places = np.empty(len(ordered), np.int32)
        for place, word in enumerate(ordered):
            places[trie[word]] = place
        return cls(trie, places)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, word_id: int) -> str:
        return str(self.trie.restore_key(int(self._numbers[word_id])))

    def id_of(self, word: str) -> int:
        """Returns -1 for a word that is not there."""
        number = self.trie.get(word)
        return -1 if number is None else int(self.places[number])

    def range_of(self, letters: str) -> tuple[int, int]:
        """Returns the first id of the words that begin with some letters, and that after the
        last."""
        if not letters:
            return 0, len(self)
        found = list(islice(self.trie.iteritems(letters), NUM_BEST + 1))
        if len(found) <= NUM_BEST:
            places = self.places[[number for _, number in found]]
            return (int(places.min()), int(places.max()) + 1) if found else (0, 0)
        return self._large_range_of(letters)

    def _large_range_of(self, letters: str) -> tuple[int, int]:
        """Keeps what it finds: few prefixes have many words, and they are asked for most."""
        known = self._large_ranges.get(letters)
        if known is None:
            known = self._bisect(letters), self._bisect(letters + _LAST_CHARACTER)
            self._large_ranges[letters] = known
        return known

    def _bisect(self, text: str) -> int:
        first, last = 0, len(self)
        while first < last:
            middle = (first + last) // 2
            if self[middle] < text:
                first = middle + 1
            else:
                last = middle
        return first


def best_of_ranges(words: Sequence[str], scores: np.ndarray) -> dict[str, np.ndarray]:
    """Returns, for the ranges of more than `NUM_BEST` words that share their first letters, `keys`
    `(R,)` int64, ascending, as of `range_key`, and `best` `(R, NUM_BEST)` int32, their ids.

    Args:
        words: in alphabetical order.
        scores: `(V,)`, higher is better.
    """
    found: dict[int, np.ndarray] = {}
    waiting = [(0, len(words), 0)]
    while waiting:
        first, last, num_letters = waiting.pop()
        if last - first <= NUM_BEST:
            continue
        best = np.argsort(-scores[first:last], kind="stable")[:NUM_BEST]
        found[range_key(first, last, len(words))] = (first + best).astype(np.int32)
        start = first
        for place in range(first + 1, last + 1):
            shared = words[start][: num_letters + 1]
            if place == last or words[place][: num_letters + 1] != shared:
                if len(shared) > num_letters:
                    waiting.append((start, place, num_letters + 1))
                start = place
    keys = np.array(sorted(found), np.int64)
    rows = [found[key] for key in keys.tolist()]
    return {"keys": keys, "best": np.array(rows, np.int32).reshape(len(rows), NUM_BEST)}


def range_key(first: int, last: int, size: int) -> int:
    """One number for a range of ids below `size`."""
    return first * (size + 1) + last
