"""Recommends what most users chose."""

from collections.abc import Sequence

import numpy as np

from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.recommender import FitSettings


class Popularity:
    """Scores each item by the number of users who chose it, for everybody alike."""

    def __init__(self, settings: FitSettings) -> None:
        del settings  # draws nothing, and needs no titles
        self._counts = np.zeros(0, np.float32)

    def fit(self, training: Sequences) -> None:
        self._counts = np.asarray(training.matrix().sum(axis=0), np.float32).ravel()

    def scores(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        return np.tile(self._counts, (len(histories), 1))
