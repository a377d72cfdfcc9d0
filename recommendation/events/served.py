"""What a log needs of a server that has its events in place of a file."""

from collections.abc import Sequence
from typing import Protocol

from reelseek.recommendation.events.rows import Row

__all__ = ["LogServer", "ServedEvents"]


class ServedEvents(Protocol):
    """What `EventReader` and `EventStore` do, by a server that has the events.

    Threads may share it.
    """

    def rows(self, *, after: int, limit: int) -> list[Row]: ...

    def bounds(self) -> tuple[int, int]: ...

    def num_deletions(self, *, after: int) -> int: ...

    def append(self, batches: Sequence[Sequence[Row]]) -> list[int]: ...

    def delete_user(self, user: str, *, now_seconds: float) -> int: ...

    def wipe(self) -> None: ...

    def drop_oldest(self, *, before_seconds: float, max_bytes: float, limit: int) -> int: ...

    def checkpoint(self) -> None: ...

    def close(self) -> None: ...


class LogServer(Protocol):
    """A server that has a log."""

    def open(self) -> ServedEvents:
        """Raises EventsUnavailable."""
        ...
