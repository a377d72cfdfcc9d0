"""The state of the log, and a catalogue -> what is known of a user, and of what is watched beside a
video, in rows of the catalogue."""

from collections.abc import Sequence

import numpy as np

from reelseek.recommendation.catalogue import ItemCatalogue
from reelseek.recommendation.feed.candidates import NUM_OF_SOURCE, Taste, summed
from reelseek.recommendation.feed.feed import Seen
from reelseek.recommendation.live.decay import DAY_SECONDS
from reelseek.recommendation.live.history import UserHistory
from reelseek.recommendation.live.state import LogState
from reelseek.recommendation.related.finder import Together

__all__ = ["PersonalView"]

_NUM_RECENT = 20  # videos of a history that the next is found by
_DECAY = 0.8  # of a video's weight in the history, for each later one
_POPULAR_SECONDS = 10.0  # that what is popular is kept


class PersonalView:
    """Reads a state for the videos of a catalogue. Threads may share it.

    Args:
        seen_again_days: after which a seen video may come again; 0 for never.
    """

    def __init__(
        self, state: LogState, catalogue: ItemCatalogue, *, seen_again_days: float = 0.0
    ) -> None:
        self.state = state
        self._catalogue = catalogue
        self._seen_again_days = seen_again_days
        self._rows = np.zeros(0, np.int64)  # of the videos that somebody watched, by number
        self._popular: tuple[np.ndarray, np.ndarray] = (np.zeros(0, np.int64), np.zeros(0))
        self._popular_at: tuple[float, int] = (-np.inf, 0)  # time, deletions

    def together(self, video: str, *, now_seconds: float) -> Together:
        """Returns what people watched beside a video."""
        with self.state.lock:
            co_watch = self.state.co_watch
            number = co_watch.number(video)
            if number is None:
                return Together.unknown()
            others, similarities = co_watch.similar(number, now_seconds=now_seconds)
            num_watchers = co_watch.num_watchers(number, now_seconds=now_seconds)
            rows = self._known_rows()[others]
        is_there = rows >= 0
        return Together(num_watchers, rows[is_there], similarities[is_there])

    def user(self, key: str, *, now_seconds: float) -> tuple[Taste, Seen]:
        """Returns what is known of a user; of one who is not known, what everybody gets."""
        with self.state.lock:
            popular = self._most_popular(now_seconds)
            history = self.state.history(key)
            if history is None:
                nothing = np.zeros(0, np.int64)
                return Taste(nothing, (nothing, np.zeros(0)), popular), Seen()
            recent = [video for video, _ in history.recent(_NUM_RECENT)]
            together = self._beside(recent, now_seconds)
            seen = self._seen(history, now_seconds)
        rows = self._catalogue.rows(recent)
        return Taste(rows[rows >= 0], together, popular, recent), seen

    def _beside(self, recent: Sequence[str], now_seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """Item kNN with recency: what is similar to the latest videos, those of now weighing
        most."""
        co_watch, rows = self.state.co_watch, self._known_rows()
        every_row, every_score = [], []
        for age, video in enumerate(recent):
            number = co_watch.number(video)
            if number is not None:
                others, similarities = co_watch.similar(number, now_seconds=now_seconds)
                is_there = rows[others] >= 0
                every_row.append(rows[others[is_there]])
                every_score.append(_DECAY**age * similarities[is_there])
        return summed(every_row, every_score)

    def _seen(self, history: UserHistory, now_seconds: float) -> Seen:
        days = self._seen_again_days
        until = now_seconds - days * DAY_SECONDS if days else -np.inf
        row_by_id = self._catalogue.row_by_id
        out: list[int] = []
        again: list[int] = []
        for video, watched in history.watched.items():
            row = row_by_id.get(video)
            if row is not None:
                (out if watched.last_seconds > until else again).append(row)
        shown = {
            row: count
            for video, count in history.shown.items()
            if (row := row_by_id.get(video)) is not None
        }
        return Seen(np.array(out, np.int64), np.array(again, np.int64), shown)

    def _most_popular(self, now_seconds: float) -> tuple[np.ndarray, np.ndarray]:
        at_seconds, num_deletions = self._popular_at
        is_old = abs(now_seconds - at_seconds) > _POPULAR_SECONDS
        if is_old or num_deletions != self.state.num_deletions:
            counts = self.state.co_watch.popular(now_seconds=now_seconds)
            rows = self._known_rows()
            known = np.flatnonzero((rows >= 0) & (counts > 0))
            if len(known) > NUM_OF_SOURCE:
                known = known[np.argpartition(-counts[known], NUM_OF_SOURCE)[:NUM_OF_SOURCE]]
            best = known[np.argsort(-counts[known], kind="stable")]
            self._popular = rows[best], counts[best]
            self._popular_at = now_seconds, self.state.num_deletions
        return self._popular

    def _known_rows(self) -> np.ndarray:
        """The row of each video that somebody watched, -1 where the index lacks it."""
        ids = self.state.co_watch.ids
        if len(self._rows) < len(ids):
            more = self._catalogue.rows(ids[len(self._rows) :])
            self._rows = np.concatenate([self._rows, more])
        return self._rows
