"""Lets as many searches run as the processor can take, a few wait, and turns the others away.

A queue that only grows makes everybody wait; one that is short and refuses at once keeps the time
of those it admits. (Nygard, *Release It!*, 2nd ed., section 5.11, "Shed Load".)
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from reelseek.serving.errors import ApiError

_SMOOTHING = 0.05  # weight of the newest service time in the running mean


class Admission:
    """For one event loop.

    Args:
        num_running: searches that run at once.
        max_waiting: searches that may wait for these.
        max_wait_seconds: a search that would have to wait longer, by what the last ones took, is
            turned away.
    """

    def __init__(self, *, num_running: int, max_waiting: int, max_wait_seconds: float) -> None:
        self._num_running = num_running
        self._max_waiting = max_waiting
        self._max_wait_seconds = max_wait_seconds
        self._free = asyncio.Semaphore(num_running)
        self._mean_seconds = 0.0
        self.num_waiting = 0
        self.num_shed = 0

    def expected_wait_seconds(self) -> float:
        return (self.num_waiting + 1) * self._mean_seconds / self._num_running

    def check(self) -> None:
        """Raises an ApiError, 503, where a search that came now would be turned away."""
        if not self._free.locked():
            return
        wait_seconds = self.expected_wait_seconds()
        if self.num_waiting >= self._max_waiting or wait_seconds > self._max_wait_seconds:
            self.num_shed += 1
            raise ApiError(
                503,
                "overloaded",
                "too many searches at once; try again",
                retry_after_seconds=max(1.0, wait_seconds),
            )

    @asynccontextmanager
    async def enter(self, *, deadline: float | None = None) -> AsyncIterator[None]:
        """Waits for a turn, and holds it.

        Args:
            deadline: on the clock of `time.monotonic`.

        Raises:
            ApiError: 503 where too many wait; 504 where the deadline passes first.
        """
        self.check()
        await self._wait(deadline)
        started = time.monotonic()
        try:
            yield
        finally:
            self._free.release()
            took = time.monotonic() - started
            self._mean_seconds += _SMOOTHING * (took - self._mean_seconds)

    async def _wait(self, deadline: float | None) -> None:
        self.num_waiting += 1
        try:
            left = None if deadline is None else deadline - time.monotonic()
            await asyncio.wait_for(self._free.acquire(), left)
        except TimeoutError as error:
            raise deadline_exceeded() from error
        except asyncio.TimeoutError as error:  # another class before Python 3.11
            raise deadline_exceeded() from error
        finally:
            self.num_waiting -= 1


def deadline_exceeded() -> ApiError:
    return ApiError(504, "deadline_exceeded", "the request's deadline passed before the answer")
