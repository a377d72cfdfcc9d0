"""How often queries were asked on each day -> how often each will be asked on the next.

A query's level is its count with a half-life in days; its trend is the ratio of a level with a
short half-life to one with a longer one, to a power. Which half-life and which power are best
differs between calm weeks and a surge, so the days themselves say: each forecast counts by how well
it would have completed the latest days (Hedge, Freund and Schapire 1997, section 2), later days for
more. Until enough days have been seen, the plain sum of all days is used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

K = 10  # completions that count
PREFIX_LETTERS = (1, 4)  # typed, by which forecasts are compared

_HALF_LIVES_DAYS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, inf)
_TRENDS = (0.0, 0.5, 1.0)
_FAST_DAYS, _SLOW_DAYS = 1.0, 3.0  # half-lives whose ratio is the trend
_SMOOTHING = 1e-6  # of the shares of all queries that the ratio is of
_MEMORY = 0.7  # what a day's result counts a day later
_RATE = 1000.0  # .001 of MRR@10 less is a weight of 1/e
_MIN_WEIGHT = 1e-3
_MIN_DAYS = 5  # measured before others than the plain sum count


@dataclass(frozen=True)
class Forecast:
    """How counts by day become a popularity.

    Attributes:
        half_life_days: after which an ask counts half; infinite for the plain sum.
        trend: power of the ratio of the levels; 0 ignores it.
    """

    half_life_days: float = inf
    trend: float = 0.0


PLAIN = Forecast()
FORECASTS = tuple(Forecast(half_life, trend) for half_life in _HALF_LIVES_DAYS for trend in _TRENDS)


class PopularityTracker:
    """Follows the days in order: `popularity()` before a day, then `add` that day.

    Args:
        queries: all that will be counted, folded, in the order of their code points. Those that
            have not been asked yet have the popularity 0.
    """

    def __init__(self, queries: Sequence[str]) -> None:
        self._prefixes = PrefixGroups(queries, *PREFIX_LETTERS)
        self._levels = {
            half_life: np.zeros(len(queries))
            for half_life in {*_HALF_LIVES_DAYS, _FAST_DAYS, _SLOW_DAYS}
        }
        self._day: int | None = None
        self._results = np.zeros(len(FORECASTS))
        self._result_weight = 0.0
        self._num_measured = 0

    def popularity(self, forecast: Forecast | None = None) -> np.ndarray:
        """Returns `(num_queries,)` float64 for the day after the last; only the order matters.

        Args:
            forecast: default: all, as `weights` has them.
        """
        if forecast is None:
            total = np.zeros(len(self._levels[inf]))
            for each, weight in self.weights().items():
                popularity = self.popularity(each)
                total += weight * popularity / max(popularity.sum(), 1e-300)
            return total
        level = self._levels[forecast.half_life_days]
        if forecast.trend == 0:
            return level.copy()
        fast, slow = self._levels[_FAST_DAYS], self._levels[_SLOW_DAYS]
        ratio = (fast / max(fast.sum(), 1e-300) + _SMOOTHING) / (
            slow / max(slow.sum(), 1e-300) + _SMOOTHING
        )
        return level * ratio**forecast.trend

    def weights(self) -> dict[Forecast, float]:
        """Returns what each forecast counts, the best first; of those that count at all."""
        if self._num_measured < _MIN_DAYS or self._result_weight <= 0:
            return {PLAIN: 1.0}
        results = self._results / self._result_weight
        weights = np.exp(_RATE * (results - results.max()))
        weights /= weights.sum()
        order = np.argsort(-weights, kind="stable")
        return {FORECASTS[n]: float(weights[n]) for n in order if weights[n] >= _MIN_WEIGHT}

    def add(self, day: int, counts: np.ndarray, *, measure: bool = True) -> None:
        """Adds a day, after comparing what the forecasts said of it.

        Args:
            day: its ordinal; later than the last. Days without queries need not be added.
            counts: `(num_queries,)`.
            measure: False where the day has no predecessor to be told from, or to save time.
        """
        if self._day is not None and day <= self._day:
            raise ValueError(f"day {day} comes after {self._day}: add days in order")
        if measure and self._day is not None and counts.any():
            self._measure(counts)
        passed = 0 if self._day is None else day - self._day
        for half_life, level in self._levels.items():
            level *= 0.5 ** (passed / half_life)
            level += counts
        self._day = day

    def _measure(self, counts: np.ndarray) -> None:
        weights = self._prefixes.weights(counts)
        for number, forecast in enumerate(FORECASTS):
            rr = self._prefixes.reciprocal_ranks(self.popularity(forecast), counts)
            self._results[number] = _MEMORY * self._results[number] + float((rr * weights).sum())
        self._result_weight = _MEMORY * self._result_weight + float(weights.sum())
        self._num_measured += 1


class PrefixGroups:
    """Ranks queries among those that begin with the same letters.

    Args:
        queries: folded, in the order of their code points.
        min_letters, max_letters: of the prefixes.
    """

    def __init__(self, queries: Sequence[str], min_letters: int, max_letters: int) -> None:
        self._lengths = np.array([len(query) for query in queries], dtype=np.int32)
        self._letters = range(min_letters, max_letters + 1)
        self._groups = []
        for num_letters in self._letters:
            prefixes = [query[:num_letters] for query in queries]
            is_first = np.array(
                [i == 0 or prefixes[i] != prefixes[i - 1] for i in range(len(prefixes))], dtype=bool
            )
            self._groups.append(np.cumsum(is_first) - 1)

    def weights(self, counts: np.ndarray) -> np.ndarray:
        """Returns `(num_prefix_lengths, num_queries)`: the counts, and 0 for a prefix that leaves
        no letter to complete."""
        return np.stack([counts * (self._lengths > n) for n in self._letters])

    def reciprocal_ranks(self, scores: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """Returns `(num_prefix_lengths, num_queries)`: 1/rank of each asked query among those with
        its prefix; 0 beyond `K`, and for a score of 0. Of equals the first in order leads.

        Args:
            scores: `(num_queries,)`, 0 or more.
            asked: `(num_queries,)`; the queries where it is 0 get 0.
        """
        scored = np.flatnonzero(scores > 0)
        best_first = scored[np.argsort(-scores[scored], kind="stable")]
        found = np.zeros((len(self._groups), len(scores)))
        for row, (num_letters, group) in enumerate(zip(self._letters, self._groups, strict=True)):
            # A query that is the prefix itself is no completion of it.
            longer = best_first[self._lengths[best_first] > num_letters]
            order = longer[np.argsort(group[longer], kind="stable")]
            sorted_groups = group[order]
            starts = np.searchsorted(sorted_groups, sorted_groups, side="left")
            ranks = np.arange(len(order)) - starts + 1
            found[row, order] = np.where(ranks <= K, 1.0 / ranks, 0.0)
        return found * (asked > 0)


def as_array(counts: Mapping[str, int], positions: Mapping[str, int]) -> np.ndarray:
    """Counts of queries -> `(num_queries,)` float64."""
    array = np.zeros(len(positions))
    for query, count in counts.items():
        array[positions[query]] = count
    return array
