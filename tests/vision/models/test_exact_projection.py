"""Orthonormal maps, against the singular value decomposition, and their last bits."""

import pytest
import torch

from reelseek.vision.models.exact_projection import (
    dominant_map,
    hadamard_map,
    on_grid,
    round_matrix,
)


@pytest.fixture
def matrix():
    """`(50, 24)` with singular values that fall by a hundred, on the grid."""
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.linalg.qr(torch.randn(n, 24, generator=generator, dtype=torch.float64))[0]
        for n in (50, 24)
    )
    values = torch.logspace(0, -2, 24, dtype=torch.float64)
    return round_matrix(left * values @ right.T)


def test_grid_rounds_to_the_nearest():
    values = torch.tensor([0.3, -0.3, 0.125, 1.0], dtype=torch.float64)
    assert on_grid(values, 2).tolist() == [0.25, -0.25, 0.0, 1.0]


def test_hadamard_map_is_orthonormal():
    found = hadamard_map(8, 5)
    torch.testing.assert_close(found.abs(), torch.full((8, 5), 8**-0.5, dtype=torch.float64))
    torch.testing.assert_close(found.T @ found, torch.eye(5, dtype=torch.float64))


def test_dominant_map_keeps_what_the_first_singular_vectors_keep(matrix):
    found = dominant_map(matrix, 16)
    identity = torch.eye(16, dtype=torch.float64)
    torch.testing.assert_close(found @ found.T, identity, rtol=0, atol=1e-5)
    values = torch.linalg.svdvals(matrix)
    best = float(values[:16].square().sum())
    assert 0.999 * best < float((matrix @ found.T).square().sum()) <= best * (1 + 1e-5)
    # The first directions are kept whole.
    first = torch.linalg.svd(matrix).Vh[:8]
    torch.testing.assert_close(
        (first @ found.T).norm(dim=-1), torch.ones(8).double(), atol=1e-4, rtol=0
    )


def test_dominant_map_is_the_same_bit_for_bit_in_any_order_of_sums(matrix, monkeypatch):
    """Products in another order, from the last term to the first, and with a term at a time."""
    expected = dominant_map(matrix, 16)

    def backwards(left, right):
        total = torch.zeros(left.shape[0], right.shape[1], dtype=torch.float64)
        for k in reversed(range(left.shape[1])):
            total += left[:, k, None] * right[None, k]
        return total

    monkeypatch.setattr(torch.Tensor, "__matmul__", backwards)
    assert torch.equal(dominant_map(matrix, 16), expected)


def test_too_few_dimensions_are_noticed(matrix):
    matrix[:, :20] = 0
    with pytest.raises(ValueError, match="fewer dimensions"):
        dominant_map(matrix, 16)
