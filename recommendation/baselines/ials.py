"""Implicit alternating least squares: factors of users and items, by the library `implicit`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from reelseek.recommendation.als import AlsSettings, fit_als
from reelseek.recommendation.baselines.history_matrix import history_matrix
from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.recommender import FitSettings

_ALS = AlsSettings(num_factors=64)


class Ials:
    """iALS (`recommendation.als`). A user's factors are folded in from the history (equation 4)."""

    def __init__(self, settings: FitSettings) -> None:
        self._settings = settings
        self._model: Any = None
        self._num_items = 0

    def fit(self, training: Sequences) -> None:
        self._num_items = training.num_items
        self._model = fit_als(
            training.matrix(),
            _ALS,
            seed=self._settings.seed,
            progress=lambda fraction: self._settings.progress(fraction, "iterations"),
        )

    def scores(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        known = history_matrix(histories, self._num_items)
        factors = self._model.recalculate_user(np.arange(len(histories)), known)
        return np.asarray(factors @ self._model.item_factors.T, np.float32)
