"""How long the calls of a shard took -> when to send one a second time."""

import threading
from collections import deque

_WINDOW = 256  # calls
_MIN_CALLS = 20  # before which nothing is known
_EVERY = 16  # calls, after which the percentile is worked out again
_PERCENT = 95
_MIN_SECONDS = 0.005  # below which a second call costs more than the wait


class Latencies:
    """The latencies of the answers that counted, of one kind of call.

    Each is measured from when its own attempt was sent. Measured from the first attempt instead,
    the 95th percentile of a shard with a slow replica would hold the wait for the second attempt,
    and would grow with every hedged call until none is sent in time. Attempts that lost are not
    counted, for the same reason.
    """

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_WINDOW)
        self._num_new = 0
        self._p95: float | None = None
        self._lock = threading.Lock()

    def note(self, seconds: float) -> None:
        with self._lock:
            self._seconds.append(seconds)
            self._num_new += 1
            known = len(self._seconds)
            if known >= _MIN_CALLS and (self._p95 is None or self._num_new >= _EVERY):
                ordered = sorted(self._seconds)
                self._p95 = ordered[min(known - 1, known * _PERCENT // 100)]
                self._num_new = 0

    @property
    def p95(self) -> float | None:
        """Seconds within which 95 % of the calls are answered; None as long as few are known."""
        return None if self._p95 is None else max(_MIN_SECONDS, self._p95)


class HedgeBudget:
    """Lets at most one call in five be sent twice, so that a shard whose replicas are all slow is
    asked for a fifth more, never for twice as much: second calls would make it slower yet.

    Of two replicas, one that is slow needs more only until calls go to the other one, see
    `request_router.Lateness`; for these a few are saved.
    """

    _PER_CALL, _MAX_SAVED = 0.2, 10.0

    def __init__(self) -> None:
        self._saved = self._MAX_SAVED

    def note_call(self) -> None:
        self._saved = min(self._MAX_SAVED, self._saved + self._PER_CALL)

    def spend(self) -> bool:
        """Returns whether one more may be sent, and counts it."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True


class Absence:
    """Remembers that a shard does not answer, so that queries stop to wait for it.

    After `_MISSES` calls in a row that had no answer in time, one call a second is let through to
    find out whether it is back.
    """

    _MISSES, _PAUSE_SECONDS = 3, 1.0

    def __init__(self) -> None:
        self._num_missed = 0
        self._next_at = 0.0

    def may_ask(self, now: float) -> bool:
        """Whether to send a call.

        Args:
            now: seconds, on any clock that does not go back.
        """
        if self._num_missed < self._MISSES:
            return True
        if now < self._next_at:
            return False
        self._next_at = now + self._PAUSE_SECONDS
        return True

    def note(self, *, answered: bool, now: float) -> None:
        self._num_missed = 0 if answered else self._num_missed + 1
        self._next_at = now + self._PAUSE_SECONDS
