"""A user's history -> videos that may be shown, each with what each source says of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import faiss
import numpy as np

from reelseek.recommendation.catalogue import ItemCatalogue
from reelseek.recommendation.content import Content
from reelseek.recommendation.feed.factors import ItemFactors
from reelseek.recommendation.nearest_items import NearestItems
from reelseek.recommendation.sequential.model import SequentialModel

__all__ = ["SOURCES", "CandidateTable", "Candidates", "SequenceSource", "Taste"]

SOURCES = ("co_watch", "factors", "sequence", "content", "popularity", "freshness")
NUM_OF_SOURCE = 200  # videos at most, from each source
_NUM_LOOKED_AT = 5  # videos of the history whose nearest are looked up
_NUM_NEAR = 60  # of each
_DECAY = 0.8  # of a video's weight in the history, for each later one
_FRESH_HALF_LIFE_DAYS = 14.0
_DAY_SECONDS = 86400.0


class Source(Protocol):
    """Gives videos for a history: rows of the catalogue, and scores above 0."""

    def find(self, history: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Args: history: ids of videos, the latest first."""
        ...


@dataclass(frozen=True, eq=False)
class Taste:
    """What is known of a user at the time of a request.

    Attributes:
        history: rows of the videos the user chose, the latest first.
        watched_together: rows and scores, from the histories of others.
        popular: rows and numbers of users who watched lately, of the most popular.
        ids: of `history`.
    """

    history: np.ndarray
    watched_together: tuple[np.ndarray, np.ndarray]
    popular: tuple[np.ndarray, np.ndarray]
    ids: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class CandidateTable:
    """
    Attributes:
        rows: `(n,)` of the catalogue, ascending.
        scores: by source, `(n,)` float64, 0 to 1; 0 where the source does not name the video.
    """

    rows: np.ndarray
    scores: dict[str, np.ndarray]


class SequenceSource:
    """The sequential model: what comes next after a history.

    Args:
        cells: of the model's items; None to compare all.
    """

    def __init__(
        self, model: SequentialModel, catalogue: ItemCatalogue, cells: faiss.Index | None = None
    ) -> None:
        self._model = model
        self._nearest = NearestItems(model.item_vectors(), cells)
        self._number_by_id = {each: number for number, each in enumerate(model.item_ids)}
        self._rows = catalogue.rows(model.item_ids)

    def find(self, history: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        numbers = [self._number_by_id[v] for v in reversed(history) if v in self._number_by_id]
        if not numbers:
            return _nothing()
        user = self._model.history_vectors([np.array(numbers, np.int32)])
        (scores,), (found,) = self._nearest.search(user, NUM_OF_SOURCE + len(numbers))
        is_new = (found >= 0) & (self._rows[found] >= 0) & ~np.isin(found, numbers)
        best = self._rows[found[is_new]][:NUM_OF_SOURCE]
        return best, _from_least(scores[is_new][:NUM_OF_SOURCE].astype(np.float64))


class FactorSource:
    """iALS: folds the history in."""

    def __init__(self, factors: ItemFactors, ids: Sequence[str], catalogue: ItemCatalogue) -> None:
        self._factors = factors
        self._number_by_id = {each: number for number, each in enumerate(ids)}
        self._rows = catalogue.rows(ids)

    def find(self, history: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        numbers = [self._number_by_id[v] for v in history if v in self._number_by_id]
        if not numbers:
            return _nothing()
        user = self._factors.fold_in(np.array(numbers, np.int64))
        found, scores = self._factors.nearest(user, NUM_OF_SOURCE + len(numbers))
        is_there = (self._rows[found] >= 0) & (scores > 0)
        return self._rows[found[is_there]], scores[is_there].astype(np.float64)


class Candidates:
    """Gathers what all sources name. Threads may share it.

    Args:
        sources: by name, beside what `Taste` brings.
    """

    def __init__(
        self,
        catalogue: ItemCatalogue,
        content: Content,
        sources: dict[str, Source] | None = None,
    ) -> None:
        self._catalogue, self._content = catalogue, content
        self._sources = sources or {}
        dates = np.nan_to_num(catalogue.dates, nan=-np.inf)
        self._by_date = np.argsort(-dates, kind="stable")[:NUM_OF_SOURCE]
        # All over the catalogue, for who has no history: not only what others know already.
        self._spread = _spread_rows(len(catalogue), NUM_OF_SOURCE)

    def gather(
        self, taste: Taste, *, now_seconds: float, uses_models: bool = True
    ) -> CandidateTable:
        """Args: uses_models: whether sources that were learned from others are asked."""
        found: dict[str, tuple[np.ndarray, np.ndarray]] = {
            "co_watch": _normalised(*taste.watched_together),
            "popularity": _normalised_logarithm(*taste.popular),
            "content": _normalised(*self._near(taste.history)),
            "new": (self._by_date, np.zeros(len(self._by_date))),
        }
        for name, source in self._sources.items() if uses_models else ():
            found[name] = _normalised(*source.find(taste.ids))
        if not len(taste.history):
            found["spread"] = self._spread, np.zeros(len(self._spread))
        rows = np.unique(np.concatenate([rows for rows, _ in found.values()]))
        scores = {name: np.zeros(len(rows)) for name in SOURCES}
        for name, (of_source, values) in found.items():
            if name in scores:
                scores[name][np.searchsorted(rows, of_source)] = values
        scores["freshness"] = self._freshness(rows, now_seconds)
        return CandidateTable(rows, scores)

    def _near(self, history: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What looks like the latest videos of the history, by the sum of its likenesses."""
        if not len(history):
            return _nothing()
        every_row, every_score = [], []
        baseline = self._content.baseline
        for age, row in enumerate(history[:_NUM_LOOKED_AT].tolist()):
            rows, cosines = self._content.nearest(row, _NUM_NEAR)
            likeness = np.clip((cosines - baseline) / max(1e-6, 1 - baseline), 0, 1)
            every_row.append(rows)
            every_score.append(_DECAY**age * likeness)
        return summed(every_row, every_score)

    def _freshness(self, rows: np.ndarray, now_seconds: float) -> np.ndarray:
        """1 for a video of now, half of that after two weeks."""
        age_days = np.maximum(now_seconds - self._catalogue.dates[rows], 0) / _DAY_SECONDS
        return np.nan_to_num(np.exp2(-age_days / _FRESH_HALF_LIFE_DAYS), nan=0.0)


def summed(
    rows: Iterable[np.ndarray], scores: Iterable[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Adds up the scores of each row; returns the best rows, each once."""
    joined = np.concatenate([np.zeros(0, np.int64), *rows])
    found, inverse = np.unique(joined, return_inverse=True)
    sums = np.bincount(inverse, np.concatenate([np.zeros(0), *scores]), minlength=len(found))
    best = np.argsort(-sums, kind="stable")[:NUM_OF_SOURCE]
    return found[best], sums[best]


def _normalised(rows: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """So that the best has 1."""
    most = float(scores.max()) if len(scores) else 0.0
    return rows, scores / most if most > 0 else np.zeros(len(rows))


def _normalised_logarithm(rows: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _normalised(rows, np.log1p(np.maximum(counts, 0)))


def _from_least(scores: np.ndarray) -> np.ndarray:
    """Scores of any size, from just above 0 on."""
    if not len(scores):
        return scores
    spread = float(scores[0] - scores[-1])
    return (scores - scores[-1] + 0.05 * spread) if spread > 0 else np.ones(len(scores))


def _spread_rows(num: int, num_wanted: int) -> np.ndarray:
    return np.unique(np.linspace(0, max(num - 1, 0), min(num, num_wanted)).astype(np.int64))


def _nothing() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(0, np.int64), np.zeros(0)
