"""What was worked out before, kept within a number of bytes; the least recently used goes first."""

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

Value = TypeVar("Value")
_ENTRY_BYTES = 200  # of an entry beside its value


class BoundedCache(Generic[Value]):
    """Threads may share it.

    Args:
        max_bytes: of all values together; 0 keeps none.
    """

    def __init__(self, max_bytes: int) -> None:
        self._entries: LRUCache[Hashable, tuple[Value, int]] = LRUCache(
            max(1, max_bytes), getsizeof=lambda entry: entry[1]
        )
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self.num_hits = self.num_misses = 0

    def get(self, key: Hashable) -> Value | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                self.num_misses += 1
                return None
            self.num_hits += 1
            return entry[0]

    def put(self, key: Hashable, value: Value, *, size_bytes: int) -> None:
        size_bytes += _ENTRY_BYTES
        with self._lock:
            self._entries.pop(key, None)  # which is older, and stays where the new one is too large
            if size_bytes <= self._max_bytes:
                self._entries[key] = (value, size_bytes)
