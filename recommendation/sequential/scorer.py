"""A trained model and the items' popularity -> a logit for every item of the catalogue."""

from collections.abc import Sequence

import numpy as np

from reelseek.recommendation.sequential.model import SequentialModel


class SequentialScorer:
    """Scores the whole catalogue for histories.

    Args:
        model: of the same catalogue.
        item_counts: `(N,)`, how often each item was chosen, which is all that orders items for
            users without a history.
    """

    def __init__(self, model: SequentialModel, item_counts: np.ndarray) -> None:
        self.model = model
        self._vectors = model.item_vectors()
        self._popularity = np.log1p(item_counts).astype(np.float32)
        # They would score 0, which is more than what most items that are known score.
        self._is_unknown = ~self._vectors.any(axis=1)

    def logits(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Returns `(B, N)` float32. Items of which nothing is known, neither events nor content,
        come last."""
        logits = self.model.history_vectors(histories) @ self._vectors.T
        is_empty = np.array([len(history) == 0 for history in histories], bool)
        logits[is_empty] = self._popularity
        if self._is_unknown.any():
            logits[:, self._is_unknown] = logits.min(axis=1, keepdims=True) - 1
        return np.asarray(logits, np.float32)
