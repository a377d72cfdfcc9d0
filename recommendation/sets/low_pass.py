"""Scores items by what of the user's choice is smooth on the graph of users and items."""

from typing import TYPE_CHECKING

import numpy as np

from reelseek.recommendation.sets.graph import degree_powers, scale_columns, scale_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["LowPass", "leading_right_vectors"]

_MAX_DENSE = 1000  # users or items up to which all singular vectors are computed
_NUM_ITERATIONS = 8
_NUM_MORE = 10  # vectors, beside a fifth, that are computed so that those asked for are right


class LowPass:
    """The ideal low-pass filter of GF-CF (Shen et al., CIKM 2021, "How Powerful is Graph
    Convolution for Recommendation?", section 4.3, equation 10): of the history, what the leading
    singular vectors of the normalised matrix hold.

    Args:
        chosen: `(num_users, num_items)`, 0 or 1, of the users who are learned from.
        num_factors: most vectors that are computed.
        others: the degree of a user to this power divides what the user says of two items; 1 is
            the paper's, which divides the matrix by the root.
        item_exponent: the degree of an item to this power divides its column; 0.5 is the paper's.
        seed: of the start of the computation.
    """

    def __init__(
        self,
        chosen: "csr_matrix",
        *,
        num_factors: int,
        others: float = 1.0,
        item_exponent: float = 0.5,
        seed: int = 0,
    ) -> None:
        self._chosen = chosen
        self._before = degree_powers(chosen, -item_exponent, of_users=False)
        by_user = scale_rows(chosen, degree_powers(chosen, -others / 2, of_users=True))
        self._vectors = leading_right_vectors(
            scale_columns(by_user, self._before), num_factors, seed=seed
        )

    def scores(
        self, histories: "csr_matrix", *, num_factors: int, target_exponent: float
    ) -> np.ndarray:
        """Returns `(B, num_items)` float32.

        Args:
            histories: `(B, num_items)`, 0 or 1.
            num_factors: how many of the vectors are used.
            target_exponent: of the degree of the item that is scored; -0.5 is the paper's, and less
                favors popular items.
        """
        vectors = self._vectors[:, :num_factors]
        after = degree_powers(self._chosen, -target_exponent, of_users=False)
        held = np.asarray(scale_columns(histories, self._before) @ vectors)
        return (held @ vectors.T) * after


def leading_right_vectors(matrix: "csr_matrix", num: int, *, seed: int) -> np.ndarray:
    """Returns the right singular vectors of the largest singular values, `(num_columns, k)`
    float32, the largest first; k is `num`, or less where the matrix has fewer.

    Those of large matrices come from subspace iteration (Halko, Martinsson and Tropp, SIAM Review
    2011, "Finding Structure with Randomness", algorithm 4.4), in half of the time that ARPACK
    needs. The last ones are then mixed with their neighbors, where a cut is arbitrary anyway.
    """
    smaller = min(matrix.shape)
    if smaller <= _MAX_DENSE:
        _, _, right = np.linalg.svd(matrix.toarray(), full_matrices=False)
        return np.ascontiguousarray(right[:num].T, np.float32)
    from scipy.linalg import qr

    size = min(smaller, num + num // 5 + _NUM_MORE)
    basis = np.random.default_rng(seed).normal(size=(matrix.shape[1], size)).astype(np.float32)
    for _ in range(_NUM_ITERATIONS):
        basis, _ = qr(matrix.T @ (matrix @ basis), mode="economic", check_finite=False)
    projected = matrix @ basis
    _, rotation = np.linalg.eigh(projected.T @ projected)  # rising
    # Contiguous, as BLAS refuses a reversed view and NumPy's own product takes minutes.
    largest_first = np.ascontiguousarray(rotation[:, ::-1][:, :num])
    return np.ascontiguousarray(basis @ largest_first, np.float32)
