"""A collection -> what phrases usually score in it, which a score is seen against."""

import numpy as np

from reelseek.indexing.reader import IndexReader
from reelseek.ranking.confidence import Background

_SAMPLE_VIDEOS = 256
_MIN_SENTENCES = 32  # below which a background says little
_MIN_VIDEOS = 8  # below which a spread does
_MIN_SPREAD = 1e-6


class BackgroundScores:
    """Scores in a few hundred videos drawn at random from an index; those of another generation
    are worked out anew.

    Args:
        reader: of the index.
    """

    def __init__(self, reader: IndexReader) -> None:
        self._reader = reader
        # Of a generation, by level; in one piece, since threads share it.
        self._backgrounds: tuple[int, dict[str, Background | None]] = -1, {}

    def of_phrases(self, phrases: np.ndarray) -> np.ndarray:
        """`(M, D)` -> `(M, N)`, of each phrase the best score in each of at least one video; where
        all have been deleted, 0."""
        scores = self._reader.sample(_SAMPLE_VIDEOS).best_of(phrases)
        return scores if scores.size else np.zeros((len(phrases), 1), np.float32)

    def spreads(self, queries: np.ndarray) -> np.ndarray:
        """`(n, D)` -> `(n,)`, the standard deviation of each query's scores of whole videos; 1 for
        all where there are too few to tell."""
        items = self._reader.sample(_SAMPLE_VIDEOS).whole
        if len(items) < _MIN_VIDEOS:
            return np.ones(len(queries))
        return np.maximum((queries @ items.T).std(axis=1, dtype=np.float64), _MIN_SPREAD)

    def background(self, level: str) -> Background | None:
        """What everyday sentences score at a level, `video` or `moment`; None where the index keeps
        none."""
        generation = self._reader.manifest.generation
        measured_in, backgrounds = self._backgrounds
        if measured_in != generation:
            backgrounds = {}
            self._backgrounds = generation, backgrounds
        if level not in backgrounds:
            backgrounds[level] = self._measured(level)
        return backgrounds[level]

    def _measured(self, level: str) -> Background | None:
        sentences = self._reader.sentences()
        if len(sentences) < _MIN_SENTENCES:
            return None
        sample = self._reader.sample(_SAMPLE_VIDEOS)
        if not len(sample.counts):
            return None
        return Background.measure(sentences, sample.whole if level == "video" else sample.segments)
