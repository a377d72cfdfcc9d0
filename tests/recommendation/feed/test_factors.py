"""Folding a user in: against the library that learned the factors."""

import numpy as np
import pytest

from reelseek.recommendation.als import AlsSettings
from reelseek.recommendation.feed.factors import ItemFactors, train_factors
from reelseek.recommendation.nearest_items import make_cells

SETTINGS = AlsSettings(num_factors=8, iterations=5)


def histories(num_users: int = 60, num_items: int = 30) -> list[np.ndarray]:
    """Users of two tastes: items of the first half, or of the second."""
    rng = np.random.default_rng(0)
    half = num_items // 2
    return [
        (rng.permutation(half)[:6] + half * (user % 2)).astype(np.int32)
        for user in range(num_users)
    ]


@pytest.fixture(scope="module")
def factors() -> ItemFactors:
    pytest.importorskip("implicit")
    return ItemFactors(train_factors(histories(), 30, SETTINGS), SETTINGS)


def test_fold_in_is_that_of_implicit(factors):
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    model = AlternatingLeastSquares(
        factors=8, regularization=SETTINGS.regularization, alpha=SETTINGS.alpha
    )
    model.item_factors = factors.factors
    items = np.array([1, 4, 9])
    liked = csr_matrix((np.ones(3, np.float32), (np.zeros(3, int), items)), shape=(1, 30))
    (expected,) = model.recalculate_user(np.array([0]), liked)
    np.testing.assert_allclose(factors.fold_in(items), expected, rtol=1e-3, atol=1e-4)


def test_a_new_user_is_given_what_suits(factors):
    found, scores = factors.nearest(factors.fold_in(np.array([0, 1, 2])), 10)
    assert (found < 15).mean() >= 0.8
    assert (np.diff(scores) <= 0).all()
    user = factors.fold_in(np.array([0, 1, 2]))
    np.testing.assert_allclose(scores, np.sort(factors.factors @ user)[::-1][:10], rtol=1e-5)
    assert len(factors.nearest(user, 99)[0]) == 30


def test_training_repeats(factors):
    np.testing.assert_array_equal(train_factors(histories(), 30, SETTINGS), factors.factors)


def test_cells_find_nearly_the_same():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(3_000, 8)).astype(np.float32)
    exact = ItemFactors(rows, SETTINGS)
    found = ItemFactors(rows, SETTINGS, cells=make_cells(rows))
    shares = []
    for _ in range(20):
        user = rng.normal(size=8).astype(np.float32)
        right = exact.nearest(user, 20)[0]
        shares.append(len(np.intersect1d(right, found.nearest(user, 20)[0])) / 20)
    assert 0.3 < np.mean(shares) <= 1  # one cell of six is looked at
