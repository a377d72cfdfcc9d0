"""Which videos the same people watch: counts learned from histories, and what happened since.

Two videos of a history that are at most `window` steps apart are a pair, which counts
`decay ** (steps - 1)`, less the longer ago it was. Each user has a video once in the history, so
that nobody adds more than 1 to any pair. The similarity is the cosine with shrinkage (Bell and
Koren, ICDM 2007, section 2.2): pairs that few people made count less.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reelseek.recommendation.live.decay import LANDMARK_SECONDS, scale_at, weights_at

__all__ = ["CoWatch", "CoWatchSettings", "CoWatchTable", "co_watch_table", "pairs_of"]

# Less than any pair that somebody made in the last decades; what deletions leave of a sum.
_NOTHING = 1e-6


@dataclass(frozen=True)
class CoWatchSettings:
    """
    Attributes:
        window: steps that a pair may be apart in a history.
        decay: of a pair's weight, for each further step.
        shrinkage: watchers who are put in doubt of each pair.
        half_life_days: after which a pair counts half.
        popular_half_life_days: likewise of what is popular lately.
        num_neighbors: that are kept of each video.
    """

    window: int = 10
    decay: float = 0.8
    shrinkage: float = 10.0
    half_life_days: float = 90.0
    popular_half_life_days: float = 7.0
    num_neighbors: int = 100


@dataclass(frozen=True, eq=False)
class CoWatchTable:
    """What was counted of N videos.

    Attributes:
        ids: of the videos.
        offsets: `(N + 1,)` int64; the neighbors of video i are `offsets[i]:offsets[i + 1]`.
        neighbors: int32 numbers of videos.
        counts: float32, of each neighbor, as they were at a time.
        as_of_seconds: that Unix time.
        watchers: `(N,)` float64, users who watched each, as `live.decay` weighs.
        popular: `(N,)` float64, likewise with the shorter half-life.
    """

    ids: Sequence[str]
    offsets: np.ndarray
    neighbors: np.ndarray
    counts: np.ndarray
    watchers: np.ndarray
    popular: np.ndarray
    as_of_seconds: float = LANDMARK_SECONDS

    @classmethod
    def empty(cls) -> "CoWatchTable":
        none = np.zeros(0)
        return cls(
            (), np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), none, none
        )


def pairs_of(
    history: Sequence[tuple[float, str]], settings: CoWatchSettings
) -> Iterator[tuple[str, str, float]]:
    """Yields the pairs of one history with their weights.

    Args:
        history: time and id of each video once, the oldest first.
    """
    for last, (time, video) in enumerate(history):
        weight = float(weights_at(time, half_life_days=settings.half_life_days))
        for first in range(max(0, last - settings.window), last):
            yield history[first][1], video, weight * settings.decay ** (last - first - 1)


def co_watch_table(
    histories: Iterable[Sequence[tuple[float, str]]], settings: CoWatchSettings
) -> CoWatchTable:
    """Counts the pairs of all histories, as `pairs_of` gives them."""
    number_by_id: dict[str, int] = {}
    numbers: list[int] = []
    times: list[float] = []
    users: list[int] = []
    for user, history in enumerate(histories):
        for time, video in history:
            numbers.append(number_by_id.setdefault(video, len(number_by_id)))
            times.append(time)
            users.append(user)
    return count_pairs(
        tuple(number_by_id),
        np.array(numbers, np.int64),
        np.array(times, np.float64),
        user_indices=np.array(users, np.int64),
        settings=settings,
    )


def count_pairs(
    ids: Sequence[str],
    items: np.ndarray,
    times_seconds: np.ndarray,
    *,
    user_indices: np.ndarray,
    settings: CoWatchSettings,
) -> CoWatchTable:
    """The same of arrays: the events `(n,)` of one user follow each other, the oldest first."""
    num = len(ids)
    weights = weights_at(times_seconds, half_life_days=settings.half_life_days)
    keys, values = [np.zeros(0, np.int64)], [np.zeros(0)]
    for steps in range(1, settings.window + 1):
        is_same = user_indices[steps:] == user_indices[:-steps]
        first, last = items[:-steps][is_same], items[steps:][is_same]
        keys.append(np.minimum(first, last) * num + np.maximum(first, last))
        values.append(weights[steps:][is_same] * settings.decay ** (steps - 1))
    found, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    sums = np.bincount(inverse, np.concatenate(values), minlength=len(found))
    rows = np.concatenate([found // max(num, 1), found % max(num, 1)])
    columns = np.concatenate([found % max(num, 1), found // max(num, 1)])
    watchers = np.bincount(items, weights, minlength=num)
    latest = float(times_seconds.max()) if len(times_seconds) else LANDMARK_SECONDS
    offsets, neighbors, counts = _nearest(
        rows, columns, np.concatenate([sums, sums]), watchers=watchers, now_seconds=latest,
        settings=settings,
    )  # fmt: skip
    lately = weights_at(times_seconds, half_life_days=settings.popular_half_life_days)
    return CoWatchTable(
        ids,
        offsets,
        neighbors,
        counts,
        watchers,
        np.bincount(items, lately, minlength=num),
        latest,
    )


def _nearest(
    rows: np.ndarray,
    columns: np.ndarray,
    counts: np.ndarray,
    *,
    watchers: np.ndarray,
    now_seconds: float,
    settings: CoWatchSettings,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keeps the most similar columns of each row, as a CSR matrix."""
    scale = scale_at(now_seconds, half_life_days=settings.half_life_days)
    similarity = _cosine(counts, watchers[rows], watchers[columns], scale, settings.shrinkage)
    order = np.lexsort((columns, -similarity, rows))
    rows, columns, counts = rows[order], columns[order], counts[order]
    starts = np.searchsorted(rows, np.arange(len(watchers) + 1))
    rank = np.arange(len(rows)) - starts[rows]
    is_kept = rank < settings.num_neighbors
    offsets = np.zeros(len(watchers) + 1, np.int64)
    np.cumsum(np.bincount(rows[is_kept], minlength=len(watchers)), out=offsets[1:])
    # Seen from the landmark, they would be too small for float32.
    scaled = (counts[is_kept] * scale).astype(np.float32)
    return offsets, columns[is_kept].astype(np.int32), scaled


def _cosine(
    counts: np.ndarray,
    watchers: np.ndarray | float,
    others: np.ndarray,
    scale: float,
    shrinkage: float,
) -> np.ndarray:
    return counts * scale / (np.sqrt(watchers * others) * scale + shrinkage)


class CoWatch:
    """A table, and the pairs that were made or deleted since. Belongs to who holds its lock.

    Videos have numbers: first those of the table, then others as they come.
    """

    def __init__(self, table: CoWatchTable, settings: CoWatchSettings) -> None:
        self.settings = settings
        self._table = table
        self._num_of_table = len(table.ids)
        self.ids: list[str] = list(table.ids)
        self._number_by_id = {video: number for number, video in enumerate(self.ids)}
        self._watchers = table.watchers.copy()
        self._popular = table.popular.copy()
        self._scale = float(weights_at(table.as_of_seconds, half_life_days=settings.half_life_days))
        self._since: dict[int, dict[int, float]] = {}

    def number(self, video: str) -> int | None:
        """Returns the number of a video; None for one that nobody ever watched."""
        return self._number_by_id.get(video)

    def replace(
        self, before: Sequence[tuple[float, str]], after: Sequence[tuple[float, str]]
    ) -> None:
        """Counts a user's new history in place of the one before."""
        shared = 0
        if before == after[: len(before)]:  # some videos more: only their pairs are new
            shared = max(0, len(before) - self.settings.window)
            self._watch(after[len(before) :], 1.0)
            self._pair(after[shared:], 1.0, skip=len(before) - shared)
            return
        self._watch(before, -1.0)
        self._watch(after, 1.0)
        self._pair(before, -1.0)
        self._pair(after, 1.0)

    def similar(self, number: int, *, now_seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns the numbers of the videos watched together with one, and their similarity, in no
        order."""
        others, counts = self._counts_of(number)
        scale = scale_at(now_seconds, half_life_days=self.settings.half_life_days)
        is_there = counts * scale > _NOTHING
        others, counts = others[is_there], counts[is_there]
        watchers = np.maximum(self._watchers[others], 0.0)
        own = max(float(self._watchers[number]), 0.0)
        return others, _cosine(counts, own, watchers, scale, self.settings.shrinkage)

    def num_watchers(self, number: int | None, *, now_seconds: float) -> float:
        """Returns how many users watched a video, where those of long ago count less."""
        if number is None:
            return 0.0
        scale = scale_at(now_seconds, half_life_days=self.settings.half_life_days)
        found = float(self._watchers[number]) * scale
        return found if found > _NOTHING else 0.0

    def popular(self, *, now_seconds: float) -> np.ndarray:
        """`(num,)`: how many users watched each video lately, by its number."""
        scale = scale_at(now_seconds, half_life_days=self.settings.popular_half_life_days)
        found = self._popular[: len(self.ids)] * scale
        return np.where(found > _NOTHING, found, 0.0)

    def _counts_of(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        others: np.ndarray = np.zeros(0, np.int64)
        counts: np.ndarray = np.zeros(0)
        if number < self._num_of_table:
            row = slice(self._table.offsets[number], self._table.offsets[number + 1])
            others = self._table.neighbors[row].astype(np.int64)
            counts = self._table.counts[row].astype(np.float64) * self._scale
        since = self._since.get(number)
        if not since:
            return others, counts
        found = dict(zip(others.tolist(), counts.tolist(), strict=True))
        for other, count in since.items():
            found[other] = found.get(other, 0.0) + count
        return np.fromiter(found, np.int64, len(found)), np.fromiter(found.values(), float)

    def _pair(self, history: Sequence[tuple[float, str]], sign: float, *, skip: int = 0) -> None:
        """Args: skip: videos at the start, whose pairs with each other are not counted."""
        known = {video for _, video in history[:skip]}
        for first, last, weight in pairs_of(history, self.settings):
            if last in known:
                continue
            one, other = self._added(first), self._added(last)
            for row, column in ((one, other), (other, one)):
                counts = self._since.setdefault(row, {})
                counts[column] = counts.get(column, 0.0) + sign * weight

    def _watch(self, history: Sequence[tuple[float, str]], sign: float) -> None:
        for time, video in history:
            number = self._added(video)
            settings = self.settings
            self._watchers[number] += sign * weights_at(
                time, half_life_days=settings.half_life_days
            )
            self._popular[number] += sign * weights_at(
                time, half_life_days=settings.popular_half_life_days
            )

    def _added(self, video: str) -> int:
        number = self._number_by_id.get(video)
        if number is None:
            number = self._number_by_id[video] = len(self.ids)
            self.ids.append(video)
            if number >= len(self._watchers):
                more = np.zeros(max(1024, number // 2))
                self._watchers = np.concatenate([self._watchers, more])
                self._popular = np.concatenate([self._popular, more])
        return number
