"""Queries -> how often which word follows which."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelseek.recommendation.completion.background import background_pairs, background_words
from reelseek.recommendation.completion.phrases import MAX_USERS
from reelseek.recommendation.completion.sparse_rows import SparseRows
from reelseek.recommendation.completion.vocabulary import Vocabulary, best_of_ranges

MAX_EARLIER = 5  # words before the current one that may say what it is about


@dataclass(frozen=True)
class WordedQuery:
    """A query as it is counted.

    Attributes:
        words: of it, folded.
        weight: how much it counts.
        users: who asked it, as many as matter; None where a log names nobody.
    """

    words: tuple[str, ...]
    weight: float
    users: frozenset[int] | None = None


@dataclass(frozen=True, eq=False)
class WordTables:
    """What `count_words` returns; probabilities are `(V,)` float32 and add up to 1 or 0.

    Attributes:
        vocabulary: ids of the words.
        first: probability of a word as the first of a query.
        later: likewise, as another than the first.
        everywhere: at any place.
        background: in the language at large.
        num_users: `(V,)` uint8, of those who used the word; `MAX_USERS` for one that nobody did.
        pairs: rows by a word: what follows it.
        triples: rows by two words, `word_before * V + word`: what follows them.
        skips: rows by a word: what comes second after it.
        earlier: rows by a word: what comes anywhere after it.
        background_pairs: as `pairs`, in the language at large.
        best: as of `vocabulary.best_of_ranges`.
    """

    vocabulary: Vocabulary
    first: np.ndarray
    later: np.ndarray
    everywhere: np.ndarray
    background: np.ndarray
    num_users: np.ndarray
    pairs: SparseRows
    triples: SparseRows
    skips: SparseRows
    earlier: SparseRows
    background_pairs: SparseRows
    best: dict[str, np.ndarray]

    def tensors(self) -> dict[str, np.ndarray]:
        """All but the trie of the words, as `from_tensors` takes them."""
        found = {name: getattr(self, name) for name in _ARRAYS}
        for name in _ROWS:
            found.update(getattr(self, name).tensors(name))
        found.update({f"best.{name}": array for name, array in self.best.items()})
        return {**found, "places": self.vocabulary.places}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray], *, trie: Any) -> "WordTables":
        """Checks what `tensors` made.

        Raises:
            KeyError: an array is missing.
            ValueError: the arrays do not fit together.
        """
        vocabulary = Vocabulary(trie, tensors["places"])
        size = len(vocabulary)
        if any(tensors[name].shape != (size,) for name in _ARRAYS):
            raise ValueError("its words are damaged")
        best = {name: tensors[f"best.{name}"] for name in ("keys", "best")}
        if len(best["keys"]) != len(best["best"]) or (best["best"] >= size).any():
            raise ValueError("its best words are damaged")
        parts: dict[str, Any] = {name: tensors[name] for name in _ARRAYS}
        parts |= {name: SparseRows.from_tensors(tensors, name, size) for name in _ROWS}
        return cls(vocabulary, best=best, **parts)


_ARRAYS = ("first", "later", "everywhere", "background", "num_users")
_ROWS = ("pairs", "triples", "skips", "earlier", "background_pairs")


def count_words(
    queries: Sequence[WordedQuery], *, min_users: int = 0, with_background: bool = True
) -> WordTables:
    """Counts words and what follows them.

    Args:
        queries: in order of time.
        min_users: that must have used a word, or words one after the other, for them to be counted;
            not asked of a log that names nobody.
        with_background: False to know only what the queries say.
    """
    grams = _Grams(min_users=min_users)
    for query in queries:
        grams.add(query)
    words = grams.kept_words()
    common: dict[str, float] = {}
    if with_background:
        common = background_words(word for query in queries for word in query.words)
    ordered = sorted(words.keys() | common.keys())
    vocabulary = Vocabulary.of(ordered)
    ids = {word: number for number, word in enumerate(ordered)}
    size = len(ordered)
    first = _probabilities(grams.kept("first"), ids)
    later = _probabilities(grams.kept("later"), ids)
    everywhere = _probabilities(grams.kept("words"), ids)
    background = _probabilities(common, ids)
    num_users = np.full(size, MAX_USERS, np.uint8)
    for word, users in words.items():
        num_users[ids[word]] = min(users, MAX_USERS)
    pairs = background_pairs() if common else {}
    return WordTables(
        vocabulary,
        first=first.astype(np.float32),
        later=later.astype(np.float32),
        everywhere=everywhere.astype(np.float32),
        background=background.astype(np.float32),
        num_users=num_users,
        pairs=_rows(grams.kept("pairs"), ids, size),
        triples=_rows(grams.kept("triples"), ids, size),
        skips=_rows(grams.kept("skips"), ids, size),
        earlier=_rows(grams.kept("earlier"), ids, size),
        background_pairs=_rows(
            {(a, b): count for a, row in pairs.items() for b, count in row.items()}, ids, size
        ),
        best=best_of_ranges(ordered, everywhere + 1e-3 * background),
    )


_KINDS = ("words", "first", "later", "pairs", "triples", "skips", "earlier")


class _Grams:
    """Weights of groups of words, and who used them."""

    def __init__(self, *, min_users: int) -> None:
        self._min_users = min_users
        self._weights: dict[str, Counter[tuple[str, ...]]] = {kind: Counter() for kind in _KINDS}
        self._users: dict[str, dict[tuple[str, ...], set[int]]] = {
            kind: defaultdict(set) for kind in _KINDS
        }
        self._named: dict[str, set[tuple[str, ...]]] = {kind: set() for kind in _KINDS}

    def add(self, query: WordedQuery) -> None:
        words = query.words
        for place, word in enumerate(words):
            self._count("words", (word,), query)
            self._count("later" if place else "first", (word,), query)
            if place >= 1:
                self._count("pairs", words[place - 1 : place + 1], query)
            if place >= 2:
                self._count("triples", words[place - 2 : place + 1], query)
                self._count("skips", (words[place - 2], word), query)
            for before in set(words[max(0, place - MAX_EARLIER) : place]):
                self._count("earlier", (before, word), query)

    def _count(self, kind: str, gram: tuple[str, ...], query: WordedQuery) -> None:
        self._weights[kind][gram] += query.weight  # type: ignore[assignment]
        if query.users is None:
            self._named[kind].add(gram)
        elif len(self._users[kind][gram]) < MAX_USERS:
            self._users[kind][gram] |= query.users

    def kept_words(self) -> dict[str, int]:
        """The words that enough users used, with how many those are."""
        return {gram[0]: self._num_users("words", gram) for gram in self.kept("words")}

    def kept(self, kind: str) -> dict[tuple[str, ...], float]:
        return {
            gram: weight
            for gram, weight in self._weights[kind].items()
            if self._num_users(kind, gram) >= self._min_users
        }

    def _num_users(self, kind: str, gram: tuple[str, ...]) -> int:
        return MAX_USERS if gram in self._named[kind] else len(self._users[kind].get(gram, ()))


def _probabilities(weights: Mapping, ids: Mapping[str, int]) -> np.ndarray:
    """`(V,)` float64 of weights by word, or by a group of one word."""
    array = np.zeros(len(ids))
    for gram, weight in weights.items():
        word = gram if isinstance(gram, str) else gram[0]
        if word in ids:
            array[ids[word]] = weight
    return array / max(array.sum(), 1e-300)


def _rows(
    weights: Mapping[tuple[str, ...], float], ids: Mapping[str, int], size: int
) -> SparseRows:
    """Rows by all words of a group but the last."""
    rows: dict[int, dict[int, float]] = defaultdict(dict)
    for gram, weight in weights.items():
        numbers = [ids.get(word, -1) for word in gram]
        if min(numbers) >= 0:
            key = numbers[0] if len(numbers) == 2 else numbers[0] * size + numbers[1]
            rows[key][numbers[-1]] = weight
    return SparseRows.of(rows)


def recent_weights(num_queries: int, half_life: float) -> np.ndarray:
    """`(num_queries,)`: 1 for the last, half as much `half_life` queries before it."""
    ages = np.arange(num_queries - 1, -1, -1, dtype=np.float64)
    return 0.5 ** (ages / half_life)


def worded(queries: Iterable[tuple[tuple[str, ...], float]]) -> list[WordedQuery]:
    """Queries of a log that names nobody."""
    return [WordedQuery(words, weight) for words, weight in queries]
