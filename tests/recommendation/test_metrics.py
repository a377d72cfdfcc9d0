import math

import numpy as np
import pytest

from reelseek.recommendation.metrics import (
    NEVER,
    bootstrap_interval,
    mask_seen,
    ndcg_at,
    ranks_of,
    recall_at,
    top_k,
)


def ranks_by_sorting(scores, targets):
    """Wrong items go first among equals, and the right ones among themselves by their order."""
    order = sorted(range(len(scores)), key=lambda item: (-scores[item], item in set(targets)))
    return {item: 1 + order.index(item) for item in targets}


@pytest.mark.parametrize("seed", range(20))
def test_ranks_are_those_of_a_sorted_catalogue_in_which_ties_come_last(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, size=30).astype(np.float32)  # many ties
    targets = rng.choice(30, size=rng.integers(1, 8), replace=False)
    expected = ranks_by_sorting(scores.tolist(), targets.tolist())
    found = ranks_of(scores, targets)
    assert sorted(found) == sorted(expected.values())
    np.testing.assert_array_equal(
        found[np.argsort(-scores[targets], kind="stable")], np.sort(found)
    )


def test_one_score_for_all_ranks_a_target_last():
    assert ranks_of(np.zeros(100, np.float32), np.array([3])).tolist() == [100]


def test_seen_items_are_no_obstacle_and_seen_targets_are_never_found():
    scores = np.array([[5, 4, 3, 2, 1]], np.float32)
    mask_seen(scores, [np.array([0, 4])])
    assert ranks_of(scores[0], np.array([3, 4])).tolist() == [3, NEVER]
    assert recall_at(10, np.array([3, NEVER])) == 0.5


def test_scores_without_a_number_are_refused():
    with pytest.raises(ValueError, match="scores hold NaN"):
        mask_seen(np.array([[1, np.nan]], np.float32), [np.zeros(0, np.int32)])


def test_ndcg_by_hand():
    # Of three right items, those at ranks 1 and 4 are among the first five.
    ranks = np.array([4, 1, 9])
    gained = 1 + 1 / math.log2(5)
    assert ndcg_at(5, ranks) == pytest.approx(gained / (1 + 1 / math.log2(3) + 1 / 2))
    # The ideal of a list of two holds two right items, though there are three.
    assert ndcg_at(2, ranks) == pytest.approx(1 / (1 + 1 / math.log2(3)))
    assert recall_at(5, ranks) == pytest.approx(2 / 3)
    assert ndcg_at(3, np.array([1, 2, 3])) == 1
    assert ndcg_at(10, np.array([11])) == 0


def test_best_items_of_each_row():
    scores = np.array([[1, 3, 3, 2], [-np.inf, 0, -np.inf, 1]], np.float32)
    assert top_k(scores, 3).tolist() == [[1, 2, 3], [3, 1, -1]]
    assert top_k(scores, 6).tolist() == [[1, 2, 3, 0, -1, -1], [3, 1, -1, -1, -1, -1]]
    rng = np.random.default_rng(0)
    many = rng.random((20, 500), np.float32)
    np.testing.assert_array_equal(top_k(many, 9), np.argsort(-many, axis=1)[:, :9])


def test_interval_of_a_mean_is_that_of_its_normal_approximation():
    values = np.random.default_rng(0).random(4000)
    low, high = bootstrap_interval(values)
    spread = 1.96 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - spread, abs=spread / 5)
    assert high == pytest.approx(values.mean() + spread, abs=spread / 5)
    assert bootstrap_interval(values) == (low, high)
    # With weights that are all the same, it is no other; with others, the mean is theirs.
    assert bootstrap_interval(values, np.full(4000, 7.0)) == pytest.approx((low, high))
    low, high = bootstrap_interval(np.array([1.0, 0.0]), np.array([1.0, 0.0]))
    assert high == 1.0


def test_interval_of_nothing_is_unknown():
    assert all(map(math.isnan, bootstrap_interval(np.zeros(0))))
