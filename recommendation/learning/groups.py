"""Sums over the examples of a batch that have the same row."""

import numpy as np

__all__ = ["Groups"]


class Groups:
    """Equal rows among many, in their order; without row -1.

    Attributes:
        unique: `(g,)`, the rows.
        first: `(g,)`, where each first stands.
    """

    def __init__(self, rows: np.ndarray) -> None:
        order = np.argsort(rows, kind="stable")
        self._order = order[np.searchsorted(rows, 0, sorter=order) :]
        ordered = rows[self._order]
        begins = np.ones(len(ordered), bool)
        np.not_equal(ordered[1:], ordered[:-1], out=begins[1:])
        self._starts = np.flatnonzero(begins)
        self.unique, self.first = ordered[self._starts], self._order[self._starts]

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums the values of equal rows, in their order."""
        if not len(self._starts):
            return values[self._order]
        return np.add.reduceat(values[self._order], self._starts, axis=0)
