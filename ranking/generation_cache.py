"""What is made of a generation of an index, kept for the generations in use."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar, cast

Value = TypeVar("Value")

# While a new generation is prepared, queries go on reading the old one.
_IN_USE = 2


class _Entry:
    def __init__(self) -> None:
        self.making = threading.Lock()
        self.value: object = None
        self.is_made = False


class GenerationCache(Generic[Value]):
    """Keeps the values of the last generations that were asked for, safe to use from threads.

    Making a value for one generation does not hold up those who ask for another.
    """

    def __init__(self, size: int = _IN_USE) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def get(self, generation: Hashable, make: Callable[[], Value]) -> Value:
        """Returns the value of a generation, which the first thread makes that asks for it."""
        with self._lock:
            entry = self._entries.setdefault(generation, _Entry())
            self._entries.move_to_end(generation)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
        with entry.making:
            if not entry.is_made:
                entry.value, entry.is_made = make(), True
        return cast(Value, entry.value)
