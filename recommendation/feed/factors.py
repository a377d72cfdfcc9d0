"""Factors of videos, by iALS -> a user's factors from a history, and the videos nearest to them.

A user is folded in with NumPy alone (equation 4 of the paper that `als` names), so that a server
needs no second library, and users who came after the training are like any others.
"""

from collections.abc import Callable, Sequence

import faiss
import numpy as np

from reelseek.recommendation.als import AlsSettings, fit_als
from reelseek.recommendation.baselines.history_matrix import history_matrix
from reelseek.recommendation.nearest_items import NearestItems

__all__ = ["ItemFactors", "train_factors"]


def train_factors(
    histories: Sequence[np.ndarray],
    num_items: int,
    settings: AlsSettings,
    *,
    seed: int = 0,
    progress: Callable[[float], None] = lambda fraction: None,
) -> np.ndarray:
    """Returns `(num_items, num_factors)` float32.

    Args:
        histories: of each user the numbers of the videos.

    Raises:
        ImportError: the library is not installed.
    """
    model = fit_als(history_matrix(histories, num_items), settings, seed=seed, progress=progress)
    return np.ascontiguousarray(model.item_factors, np.float32)


class ItemFactors:
    """Finds the videos that suit a history. Threads may share it.

    Args:
        factors: `(N, F)` float32.
        cells: of the same rows; None to compare all.
    """

    def __init__(
        self, factors: np.ndarray, settings: AlsSettings, *, cells: faiss.Index | None = None
    ) -> None:
        self.factors, self.settings = factors, settings
        self._nearest = NearestItems(factors, cells)
        num_factors = factors.shape[1]
        self._gram = factors.T.astype(np.float64) @ factors + settings.regularization * np.eye(
            num_factors
        )

    def fold_in(self, items: np.ndarray) -> np.ndarray:
        """Returns a user's factors, `(F,)` float32.

        Args:
            items: numbers of the videos that the user chose, each once.
        """
        own = self.factors[items].astype(np.float64)
        alpha = self.settings.alpha
        left = self._gram + (alpha - 1) * own.T @ own
        return np.linalg.solve(left, alpha * own.sum(axis=0)).astype(np.float32)

    def nearest(self, user: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the numbers of the k videos that suit a user best, and how well, the best
        first; fewer where there are fewer, or cells that are looked at hold fewer."""
        (scores,), (found,) = self._nearest.search(user[None], k)
        is_there = found >= 0
        return found[is_there], scores[is_there]

    def scores(self, user: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Returns how well some videos suit a user."""
        return self.factors[items] @ user
