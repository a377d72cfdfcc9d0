"""Recommends what came soon after, or before, the items of the history."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reelseek.recommendation.baselines.history_matrix import history_matrix
from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.recommender import FitSettings

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["ItemTransitions", "TransitionSettings", "count_transitions"]


@dataclass(frozen=True)
class TransitionSettings:
    """How transitions are counted; the defaults did well on all of Beauty, Toys and MicroLens.

    Attributes:
        window: two events of a user that are farther apart do not belong together.
        distance_exponent: events d apart count `d ** -distance_exponent`.
        backward: how much an item counts that came before, where one that came after counts 1.
        shrinkage: added to `sqrt(n_i * n_j)`, by which counts are divided.
        decay: of an event's weight in a history, for each later one.
    """

    window: int = 40
    distance_exponent: float = 0.3
    backward: float = 0.3
    shrinkage: float = 100.0
    decay: float = 0.6


class ItemTransitions:
    """Scores an item by how often it followed each item of the history: sequential rules with
    weights by distance (Ludewig and Jannach, UMUAI 2018, "Evaluation of Session-based
    Recommendation Algorithms", section 3.1), here normalised like the cosine of item kNN, and in
    both directions. Needs an order of time; sets have none."""

    def __init__(
        self, settings: FitSettings, transitions: TransitionSettings | None = None
    ) -> None:
        self._settings = settings
        self._transitions = TransitionSettings() if transitions is None else transitions
        self._following: csr_matrix | None = None

    def fit(self, training: Sequences) -> None:
        """Raises a ValueError where the items stand in no order."""
        from scipy.sparse import csr_matrix

        if not training.is_ordered:
            raise ValueError("item_transitions learns from sequences; for pairs choose another")
        counts = count_transitions(training, self._transitions).tocoo()
        num_users_of = np.asarray(training.matrix().sum(axis=0)).ravel()
        norm = np.sqrt(num_users_of[counts.row] * num_users_of[counts.col])
        values = (counts.data / (norm + self._transitions.shrinkage)).astype(np.float32)
        self._following = csr_matrix((values, (counts.row, counts.col)), shape=counts.shape)
        self._settings.progress(1.0, "transitions counted")

    def scores(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        assert self._following is not None, "fit comes first"
        decay = self._transitions.decay
        known = history_matrix(
            histories, self._following.shape[0], weight=lambda from_end: decay**from_end
        )
        return (known @ self._following).toarray()


def count_transitions(training: Sequences, settings: TransitionSettings) -> "csr_matrix":
    """Returns `(num_items, num_items)` float32: how much the column's item belongs to the row's,
    over all users."""
    from scipy.sparse import csr_matrix

    items, users = training.item_indices, training.user_indices
    shape = (training.num_items, training.num_items)
    forward = csr_matrix(shape, dtype=np.float32)
    for distance in range(1, settings.window + 1):
        is_same_user = users[distance:] == users[:-distance]
        earlier, later = items[:-distance][is_same_user], items[distance:][is_same_user]
        if not len(earlier):
            break
        is_other = earlier != later
        weights = np.full(np.count_nonzero(is_other), distance**-settings.distance_exponent)
        forward += csr_matrix(
            (weights.astype(np.float32), (earlier[is_other], later[is_other])), shape=shape
        )
    return (forward + settings.backward * forward.T).tocsr()
