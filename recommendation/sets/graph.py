"""The graph of users and items -> weights of its nodes by how many neighbors they have."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["degree_powers", "scale_columns", "scale_rows"]


def degree_powers(chosen: "csr_matrix", exponent: float, *, of_users: bool) -> np.ndarray:
    """Returns the degree of each user or item to a power, `(num_users,)` or `(num_items,)` float32;
    those without neighbors count as if they had one.

    Args:
        chosen: `(num_users, num_items)`, 0 or 1.
    """
    degrees = np.asarray(chosen.sum(axis=1 if of_users else 0), np.float64).ravel()
    return (np.maximum(degrees, 1.0) ** exponent).astype(np.float32)


def scale_rows(matrix: "csr_matrix", factors: np.ndarray) -> "csr_matrix":
    """Returns the matrix with each row times its factor."""
    scaled = matrix.copy()
    scaled.data *= np.repeat(factors.astype(np.float32), np.diff(matrix.indptr))
    return scaled


def scale_columns(matrix: "csr_matrix", factors: np.ndarray) -> "csr_matrix":
    """Returns the matrix with each column times its factor."""
    scaled = matrix.copy()
    scaled.data *= factors.astype(np.float32)[matrix.indices]
    return scaled
