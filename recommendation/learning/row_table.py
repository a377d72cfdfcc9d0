"""A table of ids, and arrays that have a row for each of them."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from reelseek.recommendation.learning.id_table import IdTable, Key

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RowTable", "prepared_rows", "stored_array"]


class RowTable:
    """Rows that are stored when they change. A class that has them makes `table`, `is_changed` and
    the arrays of `ROW_ARRAYS`, each with `table.size` rows, zeros where a row is free.

    Attributes:
        is_changed: `(size,)` bool, rows since they were last taken.
    """

    ROW_ARRAYS: tuple[str, ...] = ()
    table: IdTable
    is_changed: np.ndarray

    def grow(self) -> None:
        """Gives all arrays the size of the table."""
        size = self.table.size
        if size > len(self.is_changed):
            for name in (*self.ROW_ARRAYS, "is_changed"):
                old = getattr(self, name)
                grown = np.zeros((size, *old.shape[1:]), old.dtype)
                grown[: len(old)] = old
                setattr(self, name, grown)

    def clear(self, rows: np.ndarray) -> None:
        for name in self.ROW_ARRAYS:
            getattr(self, name)[rows] = 0
        self.is_changed[rows] = True

    def remove_keys(self, is_removed: Callable[[Key], bool]) -> int:
        """Removes keys, those that wait for their admission too; returns how many there were."""
        table = self.table
        known = [*table.keys_of(range(table.num_used)), *(key for key, _ in table.candidates())]
        keys = [key for key in known if key is not None and is_removed(key)]
        self.clear(table.remove(keys))
        return len(keys)

    def become(self, other: "Self") -> None:
        """Takes over an earlier state of the same table, which is used up by it.

        Rows that were given out since are free then; all count as changed.
        """
        num_used, size = self.table.num_used, self.table.size
        other.table.replace(self.table)
        if size > other.table.size:
            other.table.grow(size)
        vars(self).update(vars(other))
        self.grow()
        self.is_changed[:num_used] = True

    def take_rows(self, *, only_changed: bool) -> dict[str, Any]:
        """Returns rows, all of them or those that changed since the last call of this; to be
        encoded at once, as arrays may be shared."""
        table = self.table
        touched = table.take_touched()
        used = np.arange(table.num_used)
        rows = used[self.is_changed[: len(used)]] if only_changed else used
        self.is_changed[:] = False
        return {
            "rows": rows,
            "arrays": {name: getattr(self, name)[rows] for name in self.ROW_ARRAYS},
            "size": table.size,
            "num_used": table.num_used,
            "keys": table.keys_of(rows.tolist()),
            "last_ms": table.last_ms[rows],
            "candidates": touched if only_changed else table.candidates(),
            "num_evicted": table.num_evicted,
            "num_expired": table.num_expired,
        }

    def restore_rows(self, found: Mapping[str, Any]) -> None:
        """Takes over what `take_rows` of another returned, as `prepared_rows` gives it."""
        table, rows = self.table, found["rows"]
        if found["size"] > table.size:
            table.grow(found["size"])
            self.grow()
        table.set_rows(rows.tolist(), found["keys"], num_used=found["num_used"])
        table.set_candidates(found["candidates"])
        table.take_touched()
        table.last_ms[rows] = found["last_ms"]
        table.num_evicted, table.num_expired = found["num_evicted"], found["num_expired"]
        for name in self.ROW_ARRAYS:
            getattr(self, name)[rows] = found["arrays"][name]
        self.is_changed[:] = False


def prepared_rows(found: Mapping[str, Any]) -> dict[str, Any]:
    """Makes the arrays and keys of decoded rows."""
    return {
        **found,
        "rows": stored_array(found["rows"]),
        "arrays": {name: stored_array(values) for name, values in found["arrays"].items()},
        "keys": [_as_key(key) for key in found["keys"]],
        "last_ms": stored_array(found["last_ms"]),
        "candidates": [(_as_key(key), count) for key, count in found["candidates"]],
    }


def stored_array(found: Mapping[str, Any]) -> np.ndarray:
    values = np.frombuffer(found["data"], np.dtype(found["dtype"]))
    return values.reshape(found["shape"]).copy()


def _as_key(key: list[Any] | None) -> Key | None:
    """Keys are tuples, which MessagePack gives back as lists."""
    return None if key is None else tuple(key)
