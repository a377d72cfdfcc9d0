"""Counts of what follows what, as sorted rows: the part of a row in a range of ids is two
bisections away."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

Row = tuple[np.ndarray, np.ndarray, float]  # ids, counts, sum of the whole row
EMPTY: Row = (np.empty(0, np.int32), np.empty(0, np.float32), 0.0)


@dataclass(frozen=True, eq=False)
class SparseRows:
    """Rows of counts.

    Attributes:
        keys: `(R,)` int64, ascending; the number of each row.
        starts: `(R + 1,)` int64, where each row begins in the two below.
        ids: `(N,)` int32, ascending in each row.
        counts: `(N,)` float32.
        totals: `(R,)` float32, the sum of each row.
    """

    keys: np.ndarray
    starts: np.ndarray
    ids: np.ndarray
    counts: np.ndarray
    totals: np.ndarray

    @classmethod
    def of(cls, rows: Mapping[int, Mapping[int, float]]) -> "SparseRows":
        keys = sorted(rows)
        starts = np.zeros(len(keys) + 1, np.int64)
        np.cumsum([len(rows[key]) for key in keys], out=starts[1:])
        ids = np.empty(starts[-1], np.int32)
        counts = np.empty(starts[-1], np.float32)
        for key, first, last in zip(keys, starts[:-1], starts[1:], strict=True):
            row = sorted(rows[key].items())
            ids[first:last] = [each for each, _ in row]
            counts[first:last] = [count for _, count in row]
        totals = np.array([sum(rows[key].values()) for key in keys], np.float32)
        return cls(np.array(keys, np.int64), starts, ids, counts, totals)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray], name: str, size: int) -> "SparseRows":
        """Checks what `tensors` made.

        Args:
            size: all ids are below it.

        Raises:
            KeyError: an array is missing.
            ValueError: the arrays do not fit together.
        """
        rows = cls(**{each.name: tensors[f"{name}.{each.name}"] for each in fields(cls)})
        starts = rows.starts
        if (
            len(starts) != len(rows.keys) + 1
            or len(rows.totals) != len(rows.keys)
            or len(rows.ids) != len(rows.counts)
            or starts[0] != 0
            or starts[-1] != len(rows.ids)
            or (np.diff(starts) < 0).any()
            or (len(rows.ids) > 0 and not 0 <= rows.ids.min() <= rows.ids.max() < size)
        ):
            raise ValueError(f"its {name} are damaged")
        return rows

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        return {f"{name}.{each.name}": getattr(self, each.name) for each in fields(self)}

    def row(self, key: int) -> Row:
        """Returns the ids, the counts and the sum of a row; empty where there is none."""
        place = int(self.keys.searchsorted(key))
        if place == len(self.keys) or self.keys[place] != key:
            return EMPTY
        first, last = self.starts[place], self.starts[place + 1]
        return self.ids[first:last], self.counts[first:last], float(self.totals[place])


def in_range(row: Row, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """The ids from `first` to below `last` of a row, and their counts."""
    ids, counts, _ = row
    start, end = ids.searchsorted((first, last))
    return ids[start:end], counts[start:end]


def counts_of(row: Row, ids: np.ndarray) -> np.ndarray:
    """`(n,)` float64: the count of each id in a row, 0 where it is not there."""
    own, counts, _ = row
    if not len(own):
        return np.zeros(len(ids))
    places = np.minimum(own.searchsorted(ids), len(own) - 1)
    return np.where(own[places] == ids, counts[places], 0.0).astype(np.float64)
