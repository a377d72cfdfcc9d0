"""The statistics of the stems that queries have asked for, in one generation."""

import threading
from collections.abc import Sequence

from reelseek.indexing.lexical.scoring import TermStatistics

_MAX_STEMS = 200_000


class KnownTerms:
    """Keeps the statistics of stems, which are the same as long as the generation is read.

    So a query of known words asks the shards once less, and scores the same when a shard is away.
    """

    def __init__(self) -> None:
        self._levels: dict[str, TermStatistics] | None = None  # without stems
        self._frequencies: dict[str, dict[str, int]] = {}  # by stem and level
        self._lock = threading.Lock()

    def find(self, stems: Sequence[str]) -> dict[str, TermStatistics] | None:
        """Returns the statistics by level; None where a stem is not known."""
        with self._lock:
            if self._levels is None or any(stem not in self._frequencies for stem in stems):
                return None
            return {
                level: TermStatistics(
                    known.num_texts,
                    known.length,
                    {stem: self._frequencies[stem].get(level, 0) for stem in stems},
                )
                for level, known in self._levels.items()
            }

    def add(self, stems: Sequence[str], terms: dict[str, TermStatistics]) -> None:
        """Keeps what all shards together say of some stems."""
        with self._lock:
            self._levels = {
                level: TermStatistics(each.num_texts, each.length, {})
                for level, each in terms.items()
            }
            if len(self._frequencies) > _MAX_STEMS:
                self._frequencies.clear()
            for stem in stems:
                self._frequencies[stem] = {
                    level: each.frequencies.get(stem, 0) for level, each in terms.items()
                }
