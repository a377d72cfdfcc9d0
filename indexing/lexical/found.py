"""Documents that a lexical index finds: which they are and what they score, then what they say.

The first are arrays, so that the best of several shards are chosen before a text is read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

_SCORE_DIGITS = 9  # after which sums of the same terms differ


@dataclass(frozen=True, eq=False)
class FoundTexts:
    """Documents that have a stem of a query, before what they store is read.

    Attributes:
        videos: `(n,)` int64, the number of each one's video.
        levels: `(n,)` int8, places in `LEVELS`.
        addresses: `(n, 2)` int64, segment and document in the level's index.
        scores: `(n,)` float64, BM25 with the statistics of the collection.
        orders: `(n,)` int64, of the videos' public ids, for documents of the same score.
        spans: `(n, 2)` float64, first and last second of timed texts; NaN for a video's own.
        lengths: `(n,)` int64, stems in all.
    """

    videos: np.ndarray
    levels: np.ndarray
    addresses: np.ndarray
    scores: np.ndarray
    orders: np.ndarray
    spans: np.ndarray
    lengths: np.ndarray

    @classmethod
    def none(cls) -> "FoundTexts":
        return cls(
            np.empty(0, np.int64),
            np.empty(0, np.int8),
            np.empty((0, 2), np.int64),
            np.empty(0),
            np.empty(0, np.int64),
            np.empty((0, 2)),
            np.empty(0, np.int64),
        )

    @classmethod
    def concatenate(cls, parts: "Sequence[FoundTexts]") -> "FoundTexts":
        every = [cls.none(), *parts]
        names = [each.name for each in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in every]) for name in names))

    def take(self, positions: np.ndarray) -> "FoundTexts":
        """Returns some of them, in this order."""
        return FoundTexts(*(getattr(self, each.name)[positions] for each in fields(self)))

    def best_first(self) -> np.ndarray:
        """Returns their positions by score, then by public id and time, as one index or several
        shards have them. Scores of the same counts may differ in their last bits."""
        starts = np.nan_to_num(self.spans[:, 0])
        return np.lexsort((starts, self.orders, -self.scores.round(_SCORE_DIGITS)))


@dataclass(frozen=True)
class Match:
    """A document that has a stem of the query.

    Attributes:
        score: BM25 with the statistics of the collection.
        counts: how often it has each stem.
        length: its stems in all.
        source: of a timed text, `ocr` or `speech`; empty for a video's own texts.
        text: of a timed text.
    """

    video_id: int
    level: str
    score: float
    counts: Mapping[str, int]
    length: int
    source: str = ""
    start_seconds: float | None = None
    end_seconds: float | None = None
    text: str = ""


def best_texts(found: FoundTexts, *, num: int, by_video: bool) -> FoundTexts:
    """Returns the best of what one index or several shards have found, best first.

    Args:
        by_video: only the best of each video; the texts are of one index then.
    """
    order = found.best_first()
    if by_video:
        _, first = np.unique(found.videos[order], return_index=True)
        order = order[np.sort(first)]
    return found.take(order[:num])
