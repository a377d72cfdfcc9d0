"""Recommends the items that are most like those of the history: item kNN, with and without
recency."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from reelseek.recommendation.baselines.history_matrix import history_matrix
from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.recommender import FitSettings

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["ItemKnn", "ItemKnnRecency", "item_similarity", "keep_nearest"]

_NUM_NEIGHBORS = 100
_SHRINKAGE = 10.0
_DECAY = 0.8  # of an event's weight, for each later one


def item_similarity(chosen: "csr_matrix", *, shrinkage: float) -> "csr_matrix":
    """Returns the cosine of items by the users who chose them, where few users count less:
    `co-occurrences / (sqrt(n_i * n_j) + shrinkage)` (Bell and Koren, ICDM 2007, "Scalable
    Collaborative Filtering with Jointly Derived Neighborhood Interpolation Weights", section 2.2).

    Args:
        chosen: `(num_users, num_items)`, 0 or 1.

    Returns:
        `(num_items, num_items)`, symmetric, without its diagonal.
    """
    from scipy.sparse import csr_matrix

    num_users_of = np.asarray(chosen.sum(axis=0)).ravel()
    together = (chosen.T @ chosen).tocoo()
    is_other = together.row != together.col
    rows, columns = together.row[is_other], together.col[is_other]
    norm = np.sqrt(num_users_of[rows] * num_users_of[columns]) + shrinkage
    values = (together.data[is_other] / norm).astype(np.float32)
    return csr_matrix((values, (rows, columns)), shape=together.shape)


def keep_nearest(similarity: "csr_matrix", num_neighbors: int) -> "csr_matrix":
    """Keeps the largest entries of each row; those that equal the last one kept stay too."""
    kept = similarity.copy()
    for start, end in zip(kept.indptr[:-1], kept.indptr[1:], strict=True):
        if end - start > num_neighbors:
            row = kept.data[start:end]
            least = np.partition(row, -num_neighbors)[-num_neighbors]
            row[row < least] = 0
    kept.eliminate_zeros()
    return kept


class ItemKnn:
    """Scores an item by its similarity to each item of the history, among whose nearest it is
    (Sarwar et al., WWW 2001, "Item-Based Collaborative Filtering Recommendation Algorithms",
    section 3.2.1; Deshpande and Karypis, TOIS 2004, for implicit feedback)."""

    _weight: Callable[[np.ndarray], np.ndarray] | None = None

    def __init__(self, settings: FitSettings) -> None:
        self._settings = settings
        self._similarity: csr_matrix | None = None

    def fit(self, training: Sequences) -> None:
        similarity = item_similarity(training.matrix(), shrinkage=_SHRINKAGE)
        self._similarity = keep_nearest(similarity, _NUM_NEIGHBORS)
        self._settings.progress(1.0, "items compared")

    def scores(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        assert self._similarity is not None, "fit comes first"
        known = history_matrix(histories, self._similarity.shape[0], weight=self._weight)
        return (known @ self._similarity).toarray()


class ItemKnnRecency(ItemKnn):
    """The same where the last items of the history count most: each counts `_DECAY` times as much
    as the one after it. Without an order of time, it is the same as `ItemKnn`."""

    def fit(self, training: Sequences) -> None:
        self._weight = _by_recency if training.is_ordered else None
        super().fit(training)


def _by_recency(from_end: np.ndarray) -> np.ndarray:
    return _DECAY**from_end
