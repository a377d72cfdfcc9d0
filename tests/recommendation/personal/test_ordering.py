import numpy as np
import pytest

from reelseek.recommendation.personal.ordering import personal_order


def test_by_hand():
    scores = [0.30, 0.29, 0.28, 0.20]
    assert personal_order(scores, np.array([-1, 0, 1, 1.0]), bound=0.011) == [2, 1, 0, 3]
    assert personal_order(scores, np.array([-1, 0, 1, 1.0]), bound=0.009) == [0, 1, 2, 3]
    assert personal_order(scores, np.zeros(4), bound=1.0) == [0, 1, 2, 3]
    assert personal_order(scores, np.array([-1, 0, 1, 1.0]), bound=0.0) == [0, 1, 2, 3]
    assert personal_order([], np.zeros(0), bound=1.0) == []


@pytest.mark.parametrize("seed", range(20))
def test_only_hits_that_are_close_change_places(seed):
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.choice([rng.normal(size=30), rng.integers(5, size=30)]))[::-1].tolist()
    bound = rng.uniform(0, 0.5)
    order = personal_order(scores, rng.uniform(-1, 1, 30), bound=bound)
    assert sorted(order) == list(range(30))
    for place, late in enumerate(order):
        for early in order[place + 1 :]:
            if early < late:  # was before it
                assert scores[early] - scores[late] <= 2 * bound


def test_an_order_that_is_not_by_score_holds():
    # Moments of doubt stand behind sure ones of a lower score.
    scores = [0.5, 0.4, 0.45, 0.44]
    order = personal_order(scores, np.array([-1.0, 0, 1, 1]), bound=10)
    assert order == [1, 0, 2, 3]


def test_ties_keep_their_order():
    assert personal_order([1.0, 1, 1], np.array([0.5, 0.5, 0.7]), bound=1) == [2, 0, 1]


@pytest.mark.parametrize(("num", "bound"), [(2, 1.0), (3, -1.0), (3, np.nan)])
def test_odd_input(num, bound):
    with pytest.raises(ValueError, match="bound"):
        personal_order([1.0, 1.0, 1.0], np.zeros(num), bound=bound)
