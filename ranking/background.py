"""Statistics of a collection -> the scores that phrases usually have in it."""

import threading

import numpy as np

from reelseek.indexing.candidates import CollectionStatistics
from reelseek.ranking.confidence import Background

_MIN_SENTENCES = 32  # below which a background says little
_MIN_VIDEOS = 8  # below which a spread does
_MIN_SPREAD = 1e-6


class BackgroundScores:
    """Scores in the sample of a collection, which a hit's score is compared with.

    Args:
        statistics: of the collection.
    """

    def __init__(self, statistics: CollectionStatistics) -> None:
        self.statistics = statistics
        self._backgrounds: dict[str, Background | None] = {}
        self._measuring = threading.Lock()

    def of_phrases(self, phrases: np.ndarray) -> np.ndarray:
        """`(M, D)` -> `(M, N)`, each phrase's best score in each of N sampled videos; one column of
        0 where the sample is empty."""
        scores = self.statistics.sample.best_scores(phrases)
        return scores if scores.size else np.zeros((len(phrases), 1), np.float32)

    def spreads(self, queries: np.ndarray) -> np.ndarray:
        """`(n, D)` -> `(n,)`, the standard deviation of each query's scores of whole videos; 1 for
        all where there are too few videos to tell."""
        items = self.statistics.sample.whole
        if len(items) < _MIN_VIDEOS:
            return np.ones(len(queries))
        return np.maximum((queries @ items.T).std(axis=1, dtype=np.float64), _MIN_SPREAD)

    def background(self, level: str) -> Background | None:
        """Returns what everyday sentences score at a level, `video` or `moment`; None where the
        collection keeps no sentences."""
        with self._measuring:
            if level not in self._backgrounds:
                self._backgrounds[level] = self._measured(level)
            return self._backgrounds[level]

    def _measured(self, level: str) -> Background | None:
        sentences, sample = self.statistics.sentences, self.statistics.sample
        if len(sentences) < _MIN_SENTENCES or not sample.ids:
            return None
        return Background.measure(sentences, sample.whole if level == "video" else sample.segments)
