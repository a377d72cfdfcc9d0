"""Texts with scores -> the best that begin with what is typed, in microseconds.

The texts lie in a trie (marisa-trie). Prefixes that more than `_MAX_SCANNED` texts begin with have
their best texts in a table; below, the trie lists all.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from reelseek.recommendation.completion.tries import has_prefix

NUM_KEPT = 32  # texts of a prefix in the table: the most that can be asked for
_MAX_SCANNED = 64  # texts of a prefix that has no row in the table

MAX_USERS = 255  # more are counted as this many


class Phrase(NamedTuple):
    text: str
    score: float


def build_phrases(
    texts: Sequence[str], scores: np.ndarray, *, num_users: np.ndarray
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns tries and arrays, as `Phrases` takes them.

    Args:
        texts: folded, distinct, in the order of their code points.
        scores: `(n,)`, higher is better; of equals the first in order leads.
        num_users: `(n,)` that asked for each.
    """
    import marisa_trie

    trie = marisa_trie.Trie(texts)
    by_id = np.array([trie[text] for text in texts], dtype=np.int64)
    of_trie = np.empty(len(texts), dtype=np.float32)
    of_trie[by_id] = scores
    users = np.empty(len(texts), dtype=np.uint8)
    users[by_id] = np.minimum(num_users, MAX_USERS)
    prefixes, rows = _table(texts, scores, by_id)
    heavy = marisa_trie.Trie(prefixes)
    table = np.full((len(prefixes), NUM_KEPT), -1, dtype=np.int32)
    for prefix, row in zip(prefixes, rows, strict=True):
        table[heavy[prefix], : len(row)] = row
    tries = {"phrases": trie, "prefixes": heavy}
    return tries, {
        "phrases.scores": of_trie,
        "phrases.num_users": users,
        "phrases.table": table,
    }


def _table(
    texts: Sequence[str], scores: np.ndarray, by_id: np.ndarray
) -> tuple[list[str], list[np.ndarray]]:
    """The prefixes of many texts, and of each the ids of its best texts."""
    prefixes: list[str] = []
    rows: list[np.ndarray] = []
    waiting = [(0, len(texts), 1)]  # ranges of texts that share all letters but the last
    while waiting:
        first, last, num_letters = waiting.pop()
        while first < last and len(texts[first]) < num_letters:
            first += 1  # the text that is the prefix itself
        while first < last:
            prefix = texts[first][:num_letters]
            end = _end_of(texts, first, last, prefix)
            if end - first > _MAX_SCANNED:
                prefixes.append(prefix)
                best = np.argsort(-scores[first:end], kind="stable")[:NUM_KEPT]
                rows.append(by_id[first + best])
                waiting.append((first, end, num_letters + 1))
            first = end
    return prefixes, rows


def _end_of(texts: Sequence[str], first: int, last: int, prefix: str) -> int:
    """The first text of a sorted range, from `first` on, that does not begin with a prefix."""
    while first < last:
        middle = (first + last) // 2
        if texts[middle].startswith(prefix):
            first = middle + 1
        else:
            last = middle
    return first


class Phrases:
    """Only read: threads may share it."""

    def __init__(self, tries: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self._trie, self._heavy = tries["phrases"], tries["prefixes"]
        self._scores, self._users = arrays["phrases.scores"], arrays["phrases.num_users"]
        self._table = arrays["phrases.table"]
        if not len(self._trie) == len(self._scores) == len(self._users) or len(self._heavy) != len(
            self._table
        ):
            raise ValueError("the tries and the arrays are not of one model")

    def __len__(self) -> int:
        return len(self._trie)

    def __contains__(self, text: str) -> bool:
        return text in self._trie

    def best(self, prefix: str, k: int, *, min_users: int = 0) -> list[Phrase]:
        """Returns at most k texts that begin with a prefix and are longer, the best first.

        Args:
            prefix: folded; not empty.
            k: up to `NUM_KEPT`.
            min_users: that must have asked for each.
        """
        row = self._heavy.get(prefix)
        if row is not None:
            ids = [each for each in self._table[row].tolist() if each >= 0]
            keys = [self._trie.restore_key(each) for each in ids]
            found = list(zip(keys, ids, strict=True))
        else:
            found = self._trie.items(prefix)
        scores, users = self._scores, self._users
        kept = [
            (-float(scores[number]), text)
            for text, number in found
            if len(text) > len(prefix) and users[number] >= min_users
        ]
        kept.sort()
        return [Phrase(text, -score) for score, text in kept[:k]]

    def exactly(self, text: str, *, min_users: int = 0) -> Phrase | None:
        """Returns a text, if it is there and enough users asked for it."""
        number = self._trie.get(text)
        if number is None or self._users[number] < min_users:
            return None
        return Phrase(text, float(self._scores[number]))

    def number_of(self, text: str) -> int | None:
        """Returns the id of a text, below `len(self)`; None where it is not there."""
        number = self._trie.get(text)
        return None if number is None else int(number)

    def text_of(self, number: int, *, min_users: int = 0) -> str:
        """Returns the text of an id; empty where too few users asked for it."""
        return str(self._trie.restore_key(number)) if self._users[number] >= min_users else ""

    def has_prefix(self, prefix: str) -> bool:
        """Whether any text begins with it."""
        return has_prefix(self._trie, prefix)
