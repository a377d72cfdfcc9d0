"""Ids -> rows of arrays, exactly: no two ids share a row, and memory has a bound.

An id gets a row once it has been seen often enough (admission), and loses it when it has not been
seen for long, or when the table is full and others were seen later (expiry), as Monolith does it
(Liu et al. 2022, section 2.2.1). The order of calls determines all rows, so that a replay gives the
same ones.
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

__all__ = ["IdTable", "Key"]

Key: TypeAlias = tuple[Any, ...]  # the kind of key, then ids

_EVICTED_FRACTION = 0.1  # of a full table, at once, as each search for the oldest reads all rows
_FIRST_ROWS = 1024


class IdTable:
    """Rows of keys.

    Args:
        capacity: rows there can be.
        max_candidates: keys below their admission that are counted; the longest unseen are dropped.

    Attributes:
        last_ms: `(size,)` float64, event time at which each row was last seen; -inf if it is free.
        size: rows that arrays beside the table must have.
    """

    def __init__(self, *, capacity: int, max_candidates: int) -> None:
        if capacity < 1 or max_candidates < 1:
            raise ValueError(f"capacity={capacity}, max_candidates={max_candidates}: at least 1")
        self.capacity, self.max_candidates = capacity, max_candidates
        self.last_ms = np.full(min(capacity, _FIRST_ROWS), -np.inf)
        self._rows: dict[Key, int] = {}
        self._keys: list[Key | None] = []  # of each row; None if it is free
        # A heap: the first free row is given out. None until it is needed, as a table that only
        # follows another gives out none.
        self._free: list[int] | None = []
        # Sightings, in the order of the last one; the first is found at once, unlike a dict's.
        self._candidates: OrderedDict[Key, int] = OrderedDict()
        self._touched: dict[Key, int] = {}  # candidates since `take_touched`, 0 for no longer one
        self.num_evicted = 0
        self.num_expired = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def size(self) -> int:
        return len(self.last_ms)

    @property
    def num_candidates(self) -> int:
        return len(self._candidates)

    def find(self, keys: Iterable[Key | None]) -> list[int]:
        """Returns the row of each key; -1 where it has none, and for None."""
        get: Any = self._rows.get
        return [get(key, -1) for key in keys]

    def observe(
        self,
        keys: Sequence[Key | None],
        *,
        min_sightings: int | Sequence[int],
        now_ms: float,
        found: list[int] | None = None,
    ) -> list[int]:
        """Returns the row of each key after one more sighting; -1 where it is not admitted yet, and
        for None.

        Args:
            min_sightings: of all keys, or of each.
            found: what `find` returns for them now.

        Rows that are given out were never used, or were returned by `reclaim` or `expire`. The
        caller makes room with `reclaim` before; without room, a key stays a candidate.
        """
        found = self.find(keys) if found is None else list(found)
        for index in [index for index, row in enumerate(found) if row < 0]:
            key = keys[index]
            if key is not None:
                needed = min_sightings if isinstance(min_sightings, int) else min_sightings[index]
                found[index] = self._sight(key, needed)
        known = np.array(found, np.int64)
        known = known[known >= 0]
        self.last_ms[known] = np.maximum(self.last_ms[known], now_ms)
        return found

    def reclaim(self, num_needed: int, is_seen_once: np.ndarray | None = None) -> np.ndarray:
        """Makes room for `num_needed` keys; returns the rows that were taken from others.

        Those of keys that were seen only once go first, then those of the longest unseen keys, at
        least a tenth of a full table; of equally old ones, the first rows. So a flood of new ids
        drives out itself.

        Args:
            is_seen_once: `(size,)`; default: of none is it known.
        """
        num_missing = num_needed - (self.capacity - len(self._rows))
        if num_missing <= 0:
            return np.zeros(0, np.int64)
        num = min(len(self._rows), max(num_missing, int(self.capacity * _EVICTED_FRACTION)))
        is_free = self.last_ms == -np.inf
        stays = np.zeros(self.size, bool) if is_seen_once is None else ~is_seen_once
        age_order = np.lexsort((np.arange(self.size), self.last_ms, stays & ~is_free, ~is_free))
        oldest = age_order[self.size - len(self._rows) :][:num]  # free rows come first
        self._release(oldest)
        self.num_evicted += num
        return oldest

    def expire(self, before_ms: float) -> np.ndarray:
        """Takes the rows of keys that were last seen before a time; returns the rows."""
        rows = np.flatnonzero((self.last_ms < before_ms) & (self.last_ms > -np.inf))
        self._release(rows)
        self.num_expired += len(rows)
        return rows

    def remove(self, keys: Iterable[Key]) -> np.ndarray:
        """Takes the rows of keys, and drops them as candidates; returns the rows."""
        distinct = list(dict.fromkeys(keys))
        for key in distinct:
            if self._candidates.pop(key, 0):
                self._touch(key, 0)
        rows = np.array([row for row in self.find(distinct) if row >= 0], np.int64)
        self._release(rows)
        return rows

    def grow(self, size: int) -> None:
        """Makes room for more rows in `last_ms`."""
        grown = np.full(size, -np.inf)
        grown[: self.size] = self.last_ms
        self.last_ms = grown

    def keys_of(self, rows: Iterable[int]) -> list[Key | None]:
        """Returns the key of each row; None where it is free."""
        return [self._keys[row] if row < len(self._keys) else None for row in rows]

    @property
    def num_used(self) -> int:
        """The number of rows that were ever given out."""
        return len(self._keys)

    def candidates(self) -> list[tuple[Key, int]]:
        """Returns the keys below their admission with their sightings, the longest unseen first."""
        return list(self._candidates.items())

    def take_touched(self) -> list[tuple[Key, int]]:
        """Returns what became of candidates since the last call, in order; 0 for no longer one."""
        touched, self._touched = list(self._touched.items()), {}
        return touched

    def set_rows(self, rows: Iterable[int], keys: Iterable[Key | None], *, num_used: int) -> None:
        """Takes over the keys of rows from another table, of which `num_used` is known."""
        self._keys += [None] * (num_used - len(self._keys))
        known = self._keys
        pairs = [(row, key) for row, key in zip(rows, keys, strict=True) if known[row] != key]
        for row, _ in pairs:  # first all old ones, as a key may have moved to another row
            self._drop_key(row)
        for row, key in pairs:
            if key is not None:
                self._keys[row] = key
                self._rows[key] = row
        self._free = None

    def set_candidates(self, touched: Iterable[tuple[Key, int]]) -> None:
        """Repeats what `take_touched` or `candidates` of another table returned."""
        for key, sightings in touched:
            self._candidates.pop(key, None)
            if sightings:
                self._candidates[key] = sightings

    def replace(self, later: "IdTable") -> None:
        """Prepares to stand for a later state of this table: what `take_touched` returns next leads
        from that one to this one, and all of its rows are known."""
        self.set_rows([], [], num_used=later.num_used)
        own = self.candidates()
        self._touched = {key: 0 for key, _ in [*later.candidates(), *later.take_touched()]}
        for key, sightings in own:
            self._touch(key, sightings)

    def _sight(self, key: Key, min_sightings: int) -> int:
        row = self._rows.get(key)  # given out earlier in the same call
        if row is not None:
            return row
        sightings = self._candidates.pop(key, 0) + 1
        if sightings >= min_sightings and len(self._rows) < self.capacity:
            if sightings > 1:
                self._touch(key, 0)
            return self._admit(key)
        if len(self._candidates) >= self.max_candidates:
            dropped, _ = self._candidates.popitem(last=False)
            self._touch(dropped, 0)
        self._candidates[key] = sightings
        self._touch(key, sightings)
        return -1

    def _touch(self, key: Key, sightings: int) -> None:
        self._touched.pop(key, None)  # so that the order is that of the last change
        self._touched[key] = sightings

    def _admit(self, key: Key) -> int:
        free = self._free_rows()
        if free:
            row = heapq.heappop(free)
            self._keys[row] = key
        else:
            row = len(self._keys)
            self._keys.append(key)
            if row >= self.size:
                self.grow(min(self.capacity, 2 * self.size))
        self._rows[key] = row
        return row

    def _release(self, rows: np.ndarray) -> None:
        free = self._free_rows()
        for row in rows.tolist():
            self._drop_key(row)
            heapq.heappush(free, row)
        self.last_ms[rows] = -np.inf

    def _free_rows(self) -> list[int]:
        if self._free is None:
            self._free = [row for row, key in enumerate(self._keys) if key is None]
        return self._free

    def _drop_key(self, row: int) -> None:
        key, self._keys[row] = self._keys[row], None
        if key is not None:
            del self._rows[key]
