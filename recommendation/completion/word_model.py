"""The words before, and the first letters of a word -> the words it may become.

Candidates are the most common words with these letters, and those that followed the words before.
Each has its probability by nine sources: its place in the query, the language at large, the word
before, the two before, and so on. A fixed mixture of these orders the candidates; trees trained on
queries that were not counted put the best of them in their final order (LambdaMART).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from reelseek.recommendation.completion.bit_trees import BitTrees
from reelseek.recommendation.completion.sparse_rows import EMPTY, Row, counts_of, in_range
from reelseek.recommendation.completion.vocabulary import range_key
from reelseek.recommendation.completion.word_counts import MAX_EARLIER, WordTables
from reelseek.recommendation.completion.word_vectors import WordVectors

K = 20  # words that the trees order
SOURCES = (
    *("place", "everywhere", "background", "pair", "triple", "skip", "earlier"),
    *("background_pair", "vectors"),
)
NUM_FEATURES = 4 * len(SOURCES) + 5
# Found by trying multiples of each on queries that were not counted, see docs/completion.md.
_MIXTURE = np.array([0.3, 0.3, 0.02, 1.0, 1.0, 0.1, 0.1, 0.4, 0.5])
_DISCOUNTS = {"pair": 0.6, "triple": 0.6, "skip": 0.3, "earlier": 0.3, "background_pair": 0.0}
_COLUMNS = {name: column for column, name in enumerate(SOURCES)}
_FIRST_OF_CONTEXT = SOURCES.index("pair")
_REPEATED = 0.1  # of the score of a word that the query has already
_FLOOR = 1e-9  # of a probability whose logarithm is a feature
_MAX_FOLLOWERS = 64  # of each row, that are candidates
_MAX_LETTERS = 8  # more count as this many


class ScoredWord(NamedTuple):
    word: str
    score: float
    word_id: int


class Context(NamedTuple):
    """What the words before say.

    Attributes:
        ids: of the words before, -1 for unknown ones.
        rows: of the sources that the last two words have a row for.
        earlier: a row for each of the last words.
        likely: the words with the letters typed, and their probabilities by the vectors.
    """

    ids: tuple[int, ...]
    rows: dict[str, Row]
    earlier: list[Row]
    likely: Row


class WordModel:
    """Only read: threads may share it.

    Args:
        tables: as counted.
        vectors: for words that have not followed those before; None for counts alone.
        trees: over `features`; None for the mixture's order.
    """

    def __init__(
        self,
        tables: WordTables,
        *,
        vectors: WordVectors | None = None,
        trees: BitTrees | None = None,
    ) -> None:
        self.tables, self.vectors, self.trees = tables, vectors, trees
        self.vocabulary = tables.vocabulary
        # Sums up to each word: the mass of any range of words is a difference.
        self._sums = [
            np.concatenate([[0.0], np.cumsum(each, dtype=np.float64)])
            for each in (tables.first, tables.later, tables.everywhere, tables.background)
        ]

    def complete(
        self,
        before: Sequence[str],
        letters: str,
        k: int,
        *,
        min_users: int = 0,
        only_asked: bool = False,
    ) -> list[ScoredWord]:
        """Returns at most k words, the best first.

        Args:
            before: the words before, folded.
            letters: the first of the word; may be empty.
            k: up to `K` are in the order of the trees.
            min_users: beyond the bound that the model was built with; what followed what is then
                not used, as it is not known of how many users that is.
            only_asked: leave out words that no query has had.
        """
        first, last = self.vocabulary.range_of(letters)
        if first == last:
            return []
        context = self.context(before if min_users == 0 else (), first, last)
        ids = self.candidates(context, first, last)
        if only_asked:
            ids = ids[self.tables.everywhere[ids] > 0]
        if min_users:
            ids = ids[self.tables.num_users[ids] >= min_users]
        sources = self.sources(context, ids)
        whole = self.vocabulary.id_of(letters)
        if whole >= 0:  # nothing is left to complete
            ids, sources = ids[ids != whole], sources[ids != whole]
        if not letters:  # only what followed the words before: anything could come otherwise
            followed = sources[:, _FIRST_OF_CONTEXT:].any(axis=1)
            ids, sources = ids[followed], sources[followed]
        scores = self.mixed(context, ids, sources)
        best = np.argsort(-scores, kind="stable")[: max(k, K)]
        order = best
        if self.trees is not None and letters and len(best) > 1:
            features = self.features(
                context, ids[best], sources[best], scores[best],
                bounds=(first, last), num_letters=len(letters),
            )  # fmt: skip
            top = best[:K]
            order = np.concatenate(
                [
                    top[np.argsort(-self.trees.predict(features)[: len(top)], kind="stable")],
                    best[K:],
                ]
            )
        return [
            ScoredWord(self.vocabulary[ids[each]], float(scores[each]), int(ids[each]))
            for each in order[:k]
        ]

    def tensors(self) -> dict[str, np.ndarray]:
        """All but the trie of the words, as `from_tensors` takes them."""
        parts = [part for part in (self.tables, self.vectors, self.trees) if part is not None]
        return {name: array for part in parts for name, array in part.tensors().items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray], *, trie: Any) -> "WordModel":
        """Checks what `tensors` made.

        Raises:
            KeyError: an array is missing.
            ValueError: the arrays do not fit together.
        """
        tables = WordTables.from_tensors(tensors, trie=trie)
        vectors, trees = None, None
        if "vectors.ids" in tensors:
            vectors = WordVectors.from_tensors(tensors, size=len(tables.vocabulary))
        if "trees.starts" in tensors:
            trees = BitTrees.from_tensors(tensors, num_features=NUM_FEATURES)
        return cls(tables, vectors=vectors, trees=trees)

    @property
    def num_bytes(self) -> int:
        """What the arrays and the trie take."""
        arrays = self.tensors()
        return sum(a.nbytes for a in arrays.values()) + len(self.vocabulary.trie.tobytes())

    def context(self, before: Sequence[str], first: int, last: int) -> Context:
        """Args: first, last: of the ids of the words with the letters typed."""
        tables, size = self.tables, len(self.vocabulary)
        ids = tuple(self.vocabulary.id_of(word) for word in before[-MAX_EARLIER:])
        rows = dict.fromkeys(("pair", "triple", "skip", "background_pair"), EMPTY)
        if ids and ids[-1] >= 0:
            rows["pair"] = tables.pairs.row(ids[-1])
            rows["background_pair"] = tables.background_pairs.row(ids[-1])
            if len(ids) > 1 and ids[-2] >= 0:
                rows["triple"] = tables.triples.row(ids[-2] * size + ids[-1])
        if len(ids) > 1 and ids[-2] >= 0:
            rows["skip"] = tables.skips.row(ids[-2])
        earlier = [tables.earlier.row(each) for each in dict.fromkeys(ids) if each >= 0]
        likely = EMPTY
        if ids and self.vectors is not None and last - first < len(self.vocabulary):
            own, shares = self.vectors.probabilities(ids, first, last)
            # On the scale of the others, which are probabilities among all words.
            mass = float(self._sums[2][last] - self._sums[2][first])
            likely = (own, shares * np.float32(mass), 1.0)
        return Context(ids, rows, earlier, likely)

    def candidates(self, context: Context, first: int, last: int) -> np.ndarray:
        """Returns `(n,)` ids, ascending."""
        if last - first <= _MAX_FOLLOWERS:
            return np.arange(first, last)
        best = self.tables.best
        place = int(best["keys"].searchsorted(range_key(first, last, len(self.vocabulary))))
        found = [best["best"][place]]
        for row in (*context.rows.values(), *context.earlier, context.likely):
            ids, counts = in_range(row, first, last)
            if len(ids) > _MAX_FOLLOWERS:
                ids = ids[np.argpartition(-counts, _MAX_FOLLOWERS)[:_MAX_FOLLOWERS]]
            found.append(ids)
        return np.unique(np.concatenate(found))

    def sources(self, context: Context, ids: np.ndarray) -> np.ndarray:
        """Returns `(n, len(SOURCES))`: each word's probability by each source."""
        tables = self.tables
        found = np.zeros((len(SOURCES), len(ids)))
        found[0] = (tables.later if context.ids else tables.first)[ids]
        found[1] = tables.everywhere[ids]
        found[2] = tables.background[ids]
        for name, row in context.rows.items():
            if row[2]:
                found[_COLUMNS[name]] = _discounted(row, ids, _DISCOUNTS[name])
        for row in context.earlier:
            if row[2]:
                found[_COLUMNS["earlier"]] += _discounted(row, ids, _DISCOUNTS["earlier"])
        found[_COLUMNS["earlier"]] /= max(1, len(context.earlier))
        if context.likely[2]:
            found[_COLUMNS["vectors"]] = counts_of(context.likely, ids)
        return found.T

    def mixed(self, context: Context, ids: np.ndarray, sources: np.ndarray) -> np.ndarray:
        """Returns `(n,)`, the mixture's score."""
        scores = sources @ _MIXTURE
        scores[_repeated(context, ids)] *= _REPEATED
        return scores

    def features(
        self,
        context: Context,
        ids: np.ndarray,
        sources: np.ndarray,
        scores: np.ndarray,
        *,
        bounds: tuple[int, int],
        num_letters: int,
    ) -> np.ndarray:
        """Returns `(n, NUM_FEATURES)` float32.

        Args:
            sources, scores: of the words with these ids, the best first.
            bounds: of the ids of all words with the letters typed.
        """
        n = len(ids)
        logs = np.log(sources + _FLOOR)
        repeated = np.zeros(n)
        repeated[_repeated(context, ids)] = 1
        common = np.concatenate(
            [
                np.log(self._masses(context, *bounds) + _FLOOR),
                [len(context.ids), min(num_letters, _MAX_LETTERS)],
                self._totals(context),
            ]
        )
        own = np.stack([np.log(scores + _FLOOR), repeated, np.arange(n)], axis=1)
        relative = logs - logs.max(axis=0)
        return np.concatenate(
            [logs, relative, own, np.broadcast_to(common, (n, len(common)))], axis=1
        ).astype(np.float32)

    def _masses(self, context: Context, first: int, last: int) -> np.ndarray:
        """`(len(SOURCES),)`: how probable the letters typed are by each source."""
        of_first, of_later, everywhere, background = (s[last] - s[first] for s in self._sums)
        masses = [of_later if context.ids else of_first, everywhere, background]
        for name in ("pair", "triple", "skip"):
            masses.append(_mass(context.rows[name], first, last))
        shares = [_mass(row, first, last) for row in context.earlier]
        masses.append(sum(shares) / len(shares) if shares else 0.0)
        masses.append(_mass(context.rows["background_pair"], first, last))
        masses.append(everywhere if context.likely[2] else 0.0)
        return np.array(masses)

    def _totals(self, context: Context) -> np.ndarray:
        """How much is known of the words before, by source; 0 for those that need none."""
        rows = context.rows
        earlier = sum(total for _, _, total in context.earlier)
        totals = [0, 0, 0, rows["pair"][2], rows["triple"][2], rows["skip"][2], earlier]
        totals += [rows["background_pair"][2], context.likely[2]]
        return np.log1p(np.array(totals, dtype=np.float64))


def _repeated(context: Context, ids: np.ndarray) -> list[int]:
    """Positions of the words that the query has already."""
    return [int(place) for each in set(context.ids) for place in np.flatnonzero(ids == each)]


def _discounted(row: Row, ids: np.ndarray, discount: float) -> np.ndarray:
    """Probabilities less what is held back for words that never followed (Ney et al. 1994)."""
    return np.maximum(counts_of(row, ids) - discount, 0.0) / row[2]


def _mass(row: Row, first: int, last: int) -> float:
    return float(in_range(row, first, last)[1].sum()) / row[2] if row[2] else 0.0
