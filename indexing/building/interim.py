"""Publishing while a run goes on, so that a search finds the first videos soon."""

import time
from collections.abc import Callable

# A publishing waits for this many times as long as the one before took: it costs an index as much
# time as all that is in it, and must not slow down a run by more than a tenth.
_COST_FACTOR = 12.0


class InterimPublisher:
    """Decides when to publish what is done.

    Args:
        publish: makes what is done searchable.
        every_seconds: of the time between two publishings at least; 0 for never.
        clock: tells seconds.
    """

    def __init__(
        self,
        publish: Callable[[], object],
        *,
        every_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publish = publish
        self._every_seconds = every_seconds
        self._clock = clock
        self._wait_seconds = every_seconds
        self._last = clock()

    @property
    def is_due(self) -> bool:
        return self._every_seconds > 0 and self._clock() - self._last >= self._wait_seconds

    def publish(self) -> None:
        """Publishes, and waits the longer for the next time the longer it took."""
        started = self._clock()
        self._publish()
        self._last = self._clock()
        self._wait_seconds = max(self._every_seconds, _COST_FACTOR * (self._last - started))
