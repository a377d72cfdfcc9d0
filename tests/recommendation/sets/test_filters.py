import numpy as np
import pytest
from scipy.sparse import csr_matrix

from reelseek.recommendation.sets import low_pass as low_pass_module
from reelseek.recommendation.sets.link_propagation import Exponents, LinkPropagation
from reelseek.recommendation.sets.low_pass import LowPass, leading_right_vectors

EXPONENTS = Exponents(chosen=0.4, others=0.7, target=-0.2)


@pytest.fixture
def chosen():
    """30 users, 12 items; the last user and the last item have no link."""
    rng = np.random.default_rng(0)
    dense = (rng.random((30, 12)) < 0.3).astype(np.float32)
    dense[-1] = dense[:, -1] = 0
    return csr_matrix(dense)


def paths_one_by_one(chosen, history, exponents):
    """Every path history item - other user - target, each with its weight."""
    dense = chosen.toarray()
    of_users, of_items = np.maximum(dense.sum(axis=1), 1), np.maximum(dense.sum(axis=0), 1)
    scores = np.zeros(dense.shape[1])
    for item in np.flatnonzero(history):
        for user in np.flatnonzero(dense[:, item]):
            for target in np.flatnonzero(dense[user]):
                scores[target] += (
                    of_items[item] ** -exponents.chosen
                    * of_users[user] ** -exponents.others
                    * of_items[target] ** -exponents.target
                )
    return scores


def test_links_are_propagated_along_every_path(chosen):
    links = LinkPropagation(chosen, EXPONENTS)
    found = links.scores(chosen[:5])
    assert found.dtype == np.float32
    for row, history in zip(found, chosen[:5].toarray(), strict=True):
        np.testing.assert_allclose(row, paths_one_by_one(chosen, history, EXPONENTS), rtol=1e-5)


@pytest.mark.parametrize("other", [Exponents(0.1, 0.7, 0.5), Exponents(0.4, 0.2, -0.2), EXPONENTS])
def test_other_exponents_are_as_if_made_anew(chosen, other):
    links = LinkPropagation(chosen, EXPONENTS)
    before = links.scores(chosen)
    np.testing.assert_allclose(
        links.with_exponents(other).scores(chosen),
        LinkPropagation(chosen, other).scores(chosen),
        rtol=1e-6,
    )
    np.testing.assert_array_equal(links.scores(chosen), before)


@pytest.mark.parametrize(
    ("others", "item_exponent", "target_exponent"), [(1.0, 0.5, -0.5), (0.6, 0.3, 0.0)]
)
def test_low_pass_is_the_projection_on_leading_vectors(
    chosen, others, item_exponent, target_exponent
):
    dense = chosen.toarray().astype(np.float64)
    of_users, of_items = np.maximum(dense.sum(axis=1), 1), np.maximum(dense.sum(axis=0), 1)
    normalised = dense / of_users[:, None] ** (others / 2) / of_items**item_exponent
    _, _, right = np.linalg.svd(normalised)
    projection = right[:4].T @ right[:4]
    expected = (dense / of_items**item_exponent) @ projection * of_items**-target_exponent
    low_pass = LowPass(chosen, num_factors=6, others=others, item_exponent=item_exponent)
    found = low_pass.scores(chosen, num_factors=4, target_exponent=target_exponent)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_vectors_of_large_matrices_are_those_of_small_ones(monkeypatch):
    rng = np.random.default_rng(0)
    # Singular values 20, 19, ..., so that each vector is defined.
    left, _ = np.linalg.qr(rng.normal(size=(60, 20)))
    right, _ = np.linalg.qr(rng.normal(size=(40, 20)))
    matrix = csr_matrix((left * np.arange(20, 0, -1)) @ right.T, dtype=np.float32)
    whole = leading_right_vectors(matrix, 4, seed=0)
    np.testing.assert_allclose(np.abs(whole.T @ right[:, :4]), np.eye(4), atol=1e-3)
    monkeypatch.setattr(low_pass_module, "_MAX_DENSE", 5)
    found = leading_right_vectors(matrix, 4, seed=1)
    assert found.shape == (40, 4)
    np.testing.assert_allclose(np.abs(whole.T @ found), np.eye(4), atol=0.02)
    np.testing.assert_array_equal(found, leading_right_vectors(matrix, 4, seed=1))
    assert leading_right_vectors(matrix, 100, seed=0).shape == (40, 40)
