"""Pairs that were held out -> how good given scores are, for choosing settings."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from reelseek.recommendation import metrics
from reelseek.recommendation.baselines.history_matrix import history_matrix
from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.data.splits import held_out_items

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["Validation"]

_K = 20
_BATCH_NUMBERS = 16_000_000  # scores at once, 64 MB


class Validation:
    """Users with what is known of them and what is to be found.

    Args:
        training: what is known.
        validation: what is to be found; users without history are left out, as every setting says
            the same of them.
        max_users: that are drawn at random, where there are more.
        seed: of the draw.
    """

    def __init__(
        self, training: Sequences, validation: Sequences, *, max_users: int, seed: int
    ) -> None:
        held_out = held_out_items(training, validation)
        users = np.array([u for u, known in enumerate(held_out.histories) if len(known)], np.int64)
        if len(users) > max_users:
            users = np.sort(np.random.default_rng(seed).permutation(users)[:max_users])
        size = max(1, _BATCH_NUMBERS // max(training.num_items, 1))
        self._batches = []
        for first in range(0, len(users), size):
            batch = users[first : first + size]
            known = [held_out.histories[user] for user in batch]
            targets = [held_out.targets[user] for user in batch]
            self._batches.append((history_matrix(known, training.num_items), known, targets))
        self.num_users = len(users)

    def quality(self, scores_of: Callable[["csr_matrix"], np.ndarray]) -> float:
        """Returns the mean of R@20 and NDCG@20."""
        return float(self.qualities(lambda histories: iter([scores_of(histories)]), 1)[0])

    def qualities(
        self, several_of: Callable[["csr_matrix"], Iterator[np.ndarray]], num: int
    ) -> np.ndarray:
        """Returns those of several scores, `(num,)`, which share work.

        Args:
            several_of: yields `num` arrays of scores for histories.
        """
        totals = np.zeros(num)
        for histories, known, targets in self._batches:
            for index, scores in enumerate(several_of(histories)):
                masked = np.array(scores, np.float32)
                metrics.mask_seen(masked, known)
                for row, right in zip(masked, targets, strict=True):
                    ranks = metrics.ranks_of(row, right)
                    totals[index] += metrics.recall_at(_K, ranks) + metrics.ndcg_at(_K, ranks)
        return totals / (2 * max(self.num_users, 1))
