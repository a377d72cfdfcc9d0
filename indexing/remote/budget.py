"""Bytes that may lie on disk at once: who needs some waits until others are freed."""

import threading


class DiskBudget:
    """Bounds the bytes of the files that are fetched and not yet decoded.

    Args:
        total_bytes: in use at most.
    """

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._used_bytes = 0
        self._is_closed = False
        self._changed = threading.Condition()

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    def take(self, num_bytes: int, *, waits: bool = True) -> bool:
        """Waits until so many bytes are free, and takes them; False if the budget was closed.

        Args:
            waits: else False, too, where they are not free now.

        Raises:
            ValueError: there are never so many.
        """
        if num_bytes > self.total_bytes:
            raise ValueError(f"{num_bytes} bytes are more than the whole budget")
        with self._changed:
            if waits:
                self._changed.wait_for(lambda: self._is_closed or self._fits(num_bytes))
            takes = not self._is_closed and self._fits(num_bytes)
            if takes:
                self._used_bytes += num_bytes
            return takes

    def _fits(self, num_bytes: int) -> bool:
        return self._used_bytes + num_bytes <= self.total_bytes

    def give_back(self, num_bytes: int) -> None:
        with self._changed:
            self._used_bytes -= num_bytes
            self._changed.notify_all()

    def close(self) -> None:
        """Lets nobody wait any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
