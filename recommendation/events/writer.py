"""The thread of a process that writes events: what has queued becomes one transaction."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeAlias

import msgspec

from reelseek.recommendation.events.rows import Row
from reelseek.recommendation.events.served import ServedEvents
from reelseek.recommendation.events.store import EventStore, EventsUnavailable

logger = logging.getLogger(__name__)

_MAX_GROUP = 5_000  # events in a transaction
_MAX_WAITING = 50_000  # events; more are refused, as they would be lost with the process
_MAINTENANCE_SECONDS = 60.0


class Appended(msgspec.Struct, frozen=True):
    """What became of the events of a call.

    Attributes:
        accepted: that are now in the log.
        duplicates: whose ids were in it, or came twice.
    """

    accepted: int
    duplicates: int


AnyStore: TypeAlias = EventStore | ServedEvents
_Batch: TypeAlias = tuple[Sequence[Row], "Future[Appended]"]


class GroupWriter:
    """Writes batches of events, those of several callers with one sync of the disk.

    Args:
        open_store: called in the thread, and again after an error.
        maintain: called when the thread starts and each minute after; returns whether it has more
            to do at once.
    """

    def __init__(
        self, open_store: Callable[[], AnyStore], maintain: Callable[[AnyStore], bool]
    ) -> None:
        self._open_store, self._maintain = open_store, maintain
        self._store: AnyStore | None = None
        self._queue: SimpleQueue[_Batch | None] = SimpleQueue()
        self._lock = threading.Lock()  # of the two below
        self._num_waiting = 0
        self._is_closed = False
        self._maintain_at = 0.0  # on the clock of `time.monotonic`
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def submit(self, rows: Sequence[Row]) -> "Future[Appended]":
        """Returns the future outcome, known once the events are on the disk.

        Raises:
            EventsUnavailable: too many events wait for the disk, or the writer is closed.
        """
        future: Future[Appended] = Future()
        with self._lock:
            if self._is_closed:
                raise EventsUnavailable("the log of events has been closed")
            if self._num_waiting + len(rows) > _MAX_WAITING:
                raise EventsUnavailable(f"{self._num_waiting} events wait for the disk already")
            self._num_waiting += len(rows)
            self._queue.put((rows, future))
        return future

    def close(self) -> None:
        """Writes what waits, and ends."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            batches, is_open = self._take()
            if batches:
                self._write(batches)
            if is_open and time.monotonic() >= self._maintain_at:
                self._look_after()
        self._drop_store()

    def _take(self) -> tuple[list[_Batch], bool]:
        """Returns what waits, at most a group, and whether more may come."""
        batches: list[_Batch] = []
        num_events = 0
        wait_seconds = max(0.0, self._maintain_at - time.monotonic())
        with suppress(Empty):
            while num_events < _MAX_GROUP:
                batch = self._queue.get(timeout=0.0 if batches else wait_seconds)
                if batch is None:
                    return batches, False
                batches.append(batch)
                num_events += len(batch[0])
        return batches, True

    def _write(self, batches: list[_Batch]) -> None:
        wanted = [batch for batch in batches if batch[1].set_running_or_notify_cancel()]
        try:
            num_new = self._opened().append([rows for rows, _ in wanted])
        except Exception as error:
            logger.warning("events were not stored: %s", error)
            self._drop_store()
            for _, future in wanted:
                future.set_exception(error)
        else:
            for (rows, future), accepted in zip(wanted, num_new, strict=True):
                future.set_result(Appended(accepted, len(rows) - accepted))
        finally:
            with self._lock:
                self._num_waiting -= sum(len(rows) for rows, _ in batches)

    def _look_after(self) -> None:
        try:
            has_more = self._maintain(self._opened())
        except Exception as error:
            logger.warning("events were not looked after: %s", error)
            self._drop_store()
            has_more = False
        self._maintain_at = 0.0 if has_more else time.monotonic() + _MAINTENANCE_SECONDS

    def _opened(self) -> AnyStore:
        if self._store is None:
            self._store = self._open_store()
        return self._store

    def _drop_store(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            with suppress(Exception):
                store.close()
