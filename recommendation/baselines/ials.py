"""Implicit alternating least squares: factors of users and items, by the library `implicit`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from reelseek.recommendation.baselines.history_matrix import history_matrix
from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.recommender import FitSettings

_FACTORS = 64
_REGULARIZATION = 0.01
_ALPHA = 10.0
_ITERATIONS = 15


class Ials:
    """iALS (Hu, Koren and Volinsky, ICDM 2008, "Collaborative Filtering for Implicit Feedback
    Datasets", section 4). A user's factors are folded in from the history (equation 4)."""

    def __init__(self, settings: FitSettings) -> None:
        self._settings = settings
        self._model: Any = None
        self._num_items = 0

    def fit(self, training: Sequences) -> None:
        from implicit.cpu.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        self._num_items = training.num_items

        def progress(iteration: int, *_: Any) -> None:
            self._settings.progress((iteration + 1) / _ITERATIONS, "iterations")

        # Threads of BLAS would fight with those of the library for the cores.
        with threadpool_limits(1, "blas"):
            self._model = AlternatingLeastSquares(
                factors=_FACTORS,
                regularization=_REGULARIZATION,
                alpha=_ALPHA,
                iterations=_ITERATIONS,
                random_state=self._settings.seed,
            )
            self._model.fit(training.matrix(), show_progress=False, callback=progress)

    def scores(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        known = history_matrix(histories, self._num_items)
        factors = self._model.recalculate_user(np.arange(len(histories)), known)
        return np.asarray(factors @ self._model.item_factors.T, np.float32)
