"""The log of what users do: events in, positions out.

    log = EventLog(Path("events"), days=90)
    log.append(events)  # returns when they are on the disk
    for logged in log.read(after=position, limit=1000):
        position = logged.log_position

Several processes may write and read the same log: a folder, or for several machines a Redis server.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

from reelseek.indexing.store.atomic import check_can_write_folder
from reelseek.recommendation.events.rows import LoggedEvent, from_row, to_row
from reelseek.recommendation.events.schema import AnyEvent
from reelseek.recommendation.events.served import LogServer, ServedEvents
from reelseek.recommendation.events.store import (
    EventReader,
    EventStore,
    EventsUnavailable,
    EventsUnreachable,
)
from reelseek.recommendation.events.writer import Appended, GroupWriter

__all__ = [
    "Appended",
    "EventLog",
    "EventsUnavailable",
    "EventsUnreachable",
    "LoggedEvent",
    "check_folder",
]

_DAY_SECONDS = 86400.0
_DROP_AT_ONCE = 5_000  # events, in a transaction for which writers wait
_SCANNED_AT_ONCE = 10_000  # events


def check_folder(folder: Path, *, index: Path | None) -> None:
    """Raises a ValueError where events cannot be kept in a folder.

    Args:
        index: the folder of the index, which is copied, published and deleted on its own terms.
    """
    if index is not None and folder.resolve().is_relative_to(index.resolve()):
        raise ValueError(
            f"events={folder}: lies in the folder of the index, {index}; name one outside of it"
        )
    check_can_write_folder("events", folder)


class EventLog:
    """The log. Threads may share it; opens nothing before it is used.

    Args:
        place: a folder, made where it is missing, for this user alone; or a server.
        days: events are deleted this long after they arrived; None to keep them.
        max_bytes: that the events may take; the oldest are deleted. None for no bound.
        clock: gives the Unix time in seconds.
    """

    def __init__(
        self,
        place: Path | LogServer,
        *,
        days: float | None = None,
        max_bytes: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._place, self._days, self._max_bytes, self._clock = place, days, max_bytes, clock
        self._lock = threading.Lock()  # of the two below
        self._writer: GroupWriter | None = None
        self._reader: EventReader | ServedEvents | None = None

    def start(self) -> None:
        """Starts the thread that writes, and that deletes what is too old, now and each minute."""
        self._started()

    def close(self) -> None:
        """Writes what waits, and closes the files."""
        with self._lock:
            writer, self._writer = self._writer, None
            reader, self._reader = self._reader, None
        if writer is not None:
            writer.close()
        if reader is not None:
            reader.close()

    def append(self, events: Sequence[AnyEvent]) -> Appended:
        """Stores events; they are on the disk when this returns, and where a server has them, on a
        second server.

        Args:
            events: as `parse_events` returns them.

        Raises:
            EventsUnavailable: none of them is acknowledged; send all again, as ids are stored once.
        """
        return self.submit(events).result()

    def submit(self, events: Sequence[AnyEvent]) -> "Future[Appended]":
        """Does the same without waiting; the future raises the same."""
        now = self._clock()
        return self._started().submit([to_row(event, now) for event in events])

    def read(self, *, after: int = 0, limit: int = 1000) -> list[LoggedEvent]:
        """Returns the next events in the order of their positions.

        A reader that keeps the last position with its state misses no event, and sees none twice.
        A `Deletion` says that a user's earlier events are gone, and must be forgotten.

        Args:
            after: the position of the last event it has seen; 0 to begin with the oldest.

        Raises:
            EventsUnavailable: the file cannot be read.
        """
        return [from_row(row) for row in self._opened().rows(after=after, limit=limit)]

    def scan(self, *, after: int = 0) -> Iterator[LoggedEvent]:
        """Yields all events after a position, as `read` returns them, until there are no more.

        Raises:
            EventsUnavailable: the file cannot be read.
        """
        while batch := self.read(after=after, limit=_SCANNED_AT_ONCE):
            yield from batch
            after = batch[-1].log_position

    def bounds(self) -> tuple[int, int]:
        """Returns the position of the last event that was dropped as too old or too many, and that
        of the last one ever stored; 0 where there is none.

        A reader whose position is before the first has missed events.
        """
        return self._opened().bounds()

    def num_deletions(self, *, after: int) -> int:
        """Returns how many users were deleted after a position.

        Raises:
            EventsUnavailable: the file cannot be read.
        """
        return self._opened().num_deletions(after=after)

    def delete_user(self, user: str) -> int:
        """Deletes all events of a pseudonym, as user or session; returns their number.

        Nothing of them is in any file of the folder when this returns. Takes as long as reading
        all events, or where a file has to be written anew, a multiple of that.

        Raises:
            EventsUnavailable: something of them is left; call it again.
        """
        store = self._open_store()
        try:
            return store.delete_user(user, now_seconds=self._clock())
        finally:
            store.close()

    def _started(self) -> GroupWriter:
        with self._lock:
            if self._writer is None:
                self._writer = GroupWriter(self._open_store, self._maintain)
            return self._writer

    def _open_store(self) -> EventStore | ServedEvents:
        return EventStore(self._place) if isinstance(self._place, Path) else self._place.open()

    def _opened(self) -> EventReader | ServedEvents:
        with self._lock:
            if self._reader is None:
                place = self._place
                self._reader = EventReader(place) if isinstance(place, Path) else place.open()
            return self._reader

    def _maintain(self, store: EventStore | ServedEvents) -> bool:
        """Runs in the writer's thread; returns whether there is more to do at once."""
        store.wipe()
        days = math.inf if self._days is None else self._days
        num_dropped = store.drop_oldest(
            before_seconds=self._clock() - _DAY_SECONDS * days,
            max_bytes=math.inf if self._max_bytes is None else self._max_bytes,
            limit=_DROP_AT_ONCE,
        )
        if num_dropped:
            store.checkpoint()
        return num_dropped > 0
