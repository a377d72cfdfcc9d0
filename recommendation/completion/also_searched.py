"""A query -> what people ask next: from sessions and from meaning, together.

What followed a query in sessions is the best evidence, where there is any. A query with little of
its own borrows from those that mean nearly the same, and the rest is what is near in meaning:

    P(next | query) = n / (n + PRIOR) * followed(next) + PRIOR / (n + PRIOR) * near(next)

where `followed` counts what came after the query and, weighted by their nearness, after its
neighbours, n is the weight of that evidence, and `near` is a softmax of cosines.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reelseek.recommendation.completion.block_list import BlockList
from reelseek.recommendation.completion.phrases import Phrases

NUM_KEPT = 16  # suggestions of a query
PRIOR = 1.0  # asks that nearness in meaning counts for
TEMPERATURE = 0.05  # of the cosines, in the softmax and for neighbours
NUM_NEIGHBOURS = 32
_HALF_LIFE_STEPS = 1.0  # queries of a session, from one to a later one


@dataclass(frozen=True)
class Following:
    """That one query came after another.

    Attributes:
        first, second: numbers of the queries.
        weight: 1 for the next query of a session, less for later ones and for long ago.
    """

    first: int
    second: int
    weight: float


def followings(session: Sequence[int], weight: float = 1.0) -> list[Following]:
    """What came after what in a session, given as the numbers of its queries in order."""
    found = []
    for place, first in enumerate(session):
        for step, second in enumerate(session[place + 1 :]):
            if second != first:
                found.append(Following(first, second, weight * 0.5 ** (step / _HALF_LIFE_STEPS)))
    return found


class NextQueries:
    """Scores what is asked next.

    Args:
        num_queries: that are numbered.
        evidence: of sessions.
        embeddings: `(num_queries, D)`, L2-normalised, of the numbered queries; None for sessions
            alone.
    """

    def __init__(
        self, num_queries: int, evidence: Iterable[Following], embeddings: np.ndarray | None
    ) -> None:
        self._rows: dict[int, dict[int, float]] = {}
        for each in evidence:
            row = self._rows.setdefault(each.first, {})
            row[each.second] = row.get(each.second, 0.0) + each.weight
        self._num_queries, self._embeddings = num_queries, embeddings

    def scores(self, query: int | None, embedding: np.ndarray | None = None) -> np.ndarray:
        """Returns `(num_queries,)` probabilities; that of the query itself is 0.

        Args:
            query: its number; None for one that is not numbered.
            embedding: `(D,)`, L2-normalised; default: that of the number.
        """
        own = np.zeros(self._num_queries)
        if query is not None:
            self._add_row(own, query, 1.0)
        if embedding is None and query is not None and self._embeddings is not None:
            embedding = self._embeddings[query]
        if embedding is None or self._embeddings is None:
            return own / max(own.sum(), 1e-300)
        cosines = self._embeddings @ embedding
        if query is not None:
            cosines[query] = -np.inf
        for neighbour in _largest(cosines, NUM_NEIGHBOURS):
            nearness = np.exp((cosines[neighbour] - 1) / TEMPERATURE)
            self._add_row(own, int(neighbour), float(nearness))
        if query is not None:
            own[query] = 0.0
        num = own.sum()
        near = np.exp((cosines - cosines.max()) / TEMPERATURE)
        return (own + PRIOR * near / near.sum()) / (num + PRIOR)

    def _add_row(self, total: np.ndarray, query: int, weight: float) -> None:
        for second, value in self._rows.get(query, {}).items():
            total[second] += weight * value


def build_also_searched(
    model: NextQueries, num_queries: int, *, allowed: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns arrays as `AlsoSearched` takes them: `next_ids` `(num_queries, NUM_KEPT)` int32, -1
    where there are fewer.

    Args:
        allowed: `(num_queries,)` bool, what may be suggested.
    """
    found = np.full((num_queries, NUM_KEPT), -1, np.int32)
    for query in range(num_queries):
        scores = np.where(allowed, model.scores(query), 0.0)
        best = _largest(scores, NUM_KEPT)
        best = best[scores[best] > 0]
        found[query, : len(best)] = best
    return {"next_ids": found}


class AlsoSearched:
    """Only read: threads may share it.

    Args:
        phrases: the queries; their ids are the numbers.
        arrays: with `next_ids`; without it nothing is suggested.
        block_list: what is never suggested.
    """

    def __init__(
        self, phrases: Phrases, arrays: Mapping[str, np.ndarray], block_list: BlockList
    ) -> None:
        self._phrases, self._block_list = phrases, block_list
        self._next = arrays.get("next_ids")
        if self._next is not None and (
            len(self._next) != len(phrases) or (self._next >= len(phrases)).any()
        ):
            raise ValueError("what is also searched is damaged")

    def after(self, query: str, k: int, *, min_users: int = 0) -> list[str]:
        """Returns at most k queries that are asked after one, given folded.

        Args:
            min_users: that must have asked for each.
        """
        number = self._phrases.number_of(query)
        if self._next is None or number is None:
            return []
        found = (
            self._phrases.text_of(each, min_users=min_users)
            for each in self._next[number].tolist()
            if each >= 0
        )
        return [text for text in found if text and not self._block_list.blocks(text)][:k]


def _largest(values: np.ndarray, num: int) -> np.ndarray:
    """Positions of the largest values, descending."""
    if len(values) > num:
        some = np.argpartition(-values, num)[:num]
        return some[np.argsort(-values[some], kind="stable")]
    return np.argsort(-values, kind="stable")
