"""The log of events, event by event -> users' histories, and what is watched together."""

import threading
from collections.abc import Iterable

from reelseek.recommendation.events.rows import LoggedEvent
from reelseek.recommendation.events.schema import Deletion, VideoEvent, sha256_of
from reelseek.recommendation.live.decay import DAY_SECONDS
from reelseek.recommendation.live.history import HistoryLimits, UserHistory
from reelseek.recommendation.related.co_watch import (
    CoWatch,
    CoWatchSettings,
    CoWatchTable,
    co_watch_table,
)

__all__ = ["LogState"]


class LogState:
    """What the events up to a position say. Threads may share it.

    First it reads what is there, without counting; `count_from` then says what was learned from
    that, and all that comes later is counted as it comes.

    Attributes:
        position: of the last event that was taken in.
        num_events: about videos that were taken in.
        num_deletions: that were taken in.
        lost_learned: whether somebody was deleted whose events had been read before `count_from`,
            so that what was learned elsewhere from the same events may know of them.
    """

    def __init__(
        self, limits: HistoryLimits | None = None, settings: CoWatchSettings | None = None
    ) -> None:
        self.limits = limits or HistoryLimits()
        self.settings = settings or CoWatchSettings()
        self.lock = threading.RLock()
        self.position = 0
        self.num_events = 0
        self.num_deletions = 0
        self.lost_learned = False
        self._histories: dict[str, UserHistory] = {}
        # Hash of a pseudonym -> the keys of the histories that have events of it.
        self._keys_by_hash: dict[str, set[str]] = {}
        self._known: set[str] = set()  # keys whose hash is known
        self._counted_from: int | None = None
        self._co_watch = CoWatch(CoWatchTable.empty(), self.settings)

    @property
    def co_watch(self) -> CoWatch:
        """To be used while the lock is held."""
        return self._co_watch

    def __len__(self) -> int:
        """Returns the number of users."""
        return len(self._histories)

    def apply(self, events: Iterable[LoggedEvent]) -> None:
        """Takes in the next events of the log."""
        with self.lock:
            for logged in events:
                if logged.log_position <= self.position:
                    continue
                if isinstance(logged.event, Deletion):
                    self._delete(logged.event)
                    self.num_deletions += 1
                elif isinstance(logged.event, VideoEvent):
                    self._add(logged, logged.event)
                    self.num_events += 1
                self.position = logged.log_position

    def count_from(self, table: CoWatchTable | None = None) -> None:
        """Counts all later events on top of a table.

        Args:
            table: learned from the events up to the position that is reached; None to learn it
                here, from the histories.
        """
        with self.lock:
            if table is None:
                table = co_watch_table(self.counted_histories(), self.settings)
            self._co_watch = CoWatch(table, self.settings)
            self._counted_from = self.position
            self.lost_learned = False

    def counted_histories(self) -> list[list[tuple[float, str]]]:
        """Returns what counts of each user, time and id, the oldest first; some are empty."""
        with self.lock:
            return [history.counted() for history in self._histories.values()]

    def history(self, key: str) -> UserHistory | None:
        """Returns what is known of a user, to be used while the lock is held; None for one who is
        not known."""
        return self._histories.get(key)

    def drop_until(self, position: int) -> None:
        """Forgets what nothing was heard of since a position, as the log has dropped it."""
        with self.lock:
            for key in list(self._histories):
                history = self._histories[key]
                before = self._counted(history)
                old = [v for v, each in history.watched.items() if each.position <= position]
                if old:
                    history.forget(old)
                    self._recount(before, history)
                    if not history.watched:
                        self._histories.pop(key)

    def _add(self, logged: LoggedEvent, event: VideoEvent) -> None:
        key = event.user or event.session
        if key is None:
            return
        history = self._histories.get(key)
        if history is None:
            history = self._histories[key] = UserHistory()
        for pseudonym in (key, event.session):
            self._know(pseudonym, key)
        before = self._counted(history)
        history.add(
            event,
            time_seconds=min(event.time_seconds, logged.received_seconds),
            position=logged.log_position,
            day=int(logged.received_seconds // DAY_SECONDS),
            limits=self.limits,
        )
        self._recount(before, history)

    def _know(self, pseudonym: str | None, key: str) -> None:
        if pseudonym is None or (pseudonym == key and key in self._known):
            return
        if pseudonym == key:
            self._known.add(key)
        self._keys_by_hash.setdefault(sha256_of(pseudonym), set()).add(key)

    def _delete(self, deletion: Deletion) -> None:
        for key in self._keys_by_hash.pop(deletion.pseudonym_sha256, set()):
            history = self._histories.get(key)
            if history is None:
                continue
            before = self._counted(history)
            if deletion.is_of(key):
                gone = list(history.watched)
                self._histories.pop(key)
                self._known.discard(key)
            else:  # of one visit of this user
                gone = [
                    video
                    for video, each in history.watched.items()
                    if any(map(deletion.is_of, each.sessions))
                ]
            history.shown.clear()
            if self._counted_from is not None and any(
                history.watched[video].is_counted
                and history.watched[video].first_position <= self._counted_from
                for video in gone
            ):
                self.lost_learned = True
            history.forget(gone)
            self._recount(before, history)

    def _counted(self, history: UserHistory) -> list[tuple[float, str]]:
        return [] if self._counted_from is None else history.counted()

    def _recount(self, before: list[tuple[float, str]], history: UserHistory) -> None:
        if self._counted_from is not None:
            after = history.counted()
            if after is not before and after != before:
                self._co_watch.replace(before, after)
