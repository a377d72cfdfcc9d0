"""Histories -> a sparse matrix of how much each item of them counts."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def history_matrix(
    histories: Sequence[np.ndarray],
    num_items: int,
    *,
    weight: Callable[[np.ndarray], np.ndarray] | None = None,
) -> "csr_matrix":
    """Returns `(B, num_items)` float32; an item that a history holds twice counts as its last time.

    Args:
        histories: B arrays of item indices, the oldest first.
        weight: turns positions from the end, 0 for the last item, into weights; default: all 1.
    """
    from scipy.sparse import csr_matrix

    lengths = np.array([len(history) for history in histories], np.int64)
    rows = np.repeat(np.arange(len(histories)), lengths)
    columns = np.concatenate([np.zeros(0, np.int32), *histories])
    ends = np.cumsum(lengths)
    from_end = np.repeat(ends, lengths) - 1 - np.arange(len(columns))
    # Of the same user and item, the event that is nearest to the end stays.
    order = np.lexsort((from_end, columns, rows))
    rows, columns, from_end = rows[order], columns[order], from_end[order]
    is_last = np.ones(len(rows), bool)
    is_last[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
    rows, columns, from_end = rows[is_last], columns[is_last], from_end[is_last]
    values = np.ones(len(rows)) if weight is None else weight(from_end)
    return csr_matrix(
        (values.astype(np.float32), (rows, columns)), shape=(len(histories), num_items)
    )
