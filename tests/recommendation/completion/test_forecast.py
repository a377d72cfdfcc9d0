import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelseek.recommendation.completion.forecast import (
    FORECASTS,
    PLAIN,
    Forecast,
    PopularityTracker,
    PrefixGroups,
)

QUERY = st.text("abc ", min_size=1, max_size=6)


@given(st.dictionaries(QUERY, st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_ranks_are_those_of_a_brute_force_table(table):
    queries = sorted(table)
    scores = np.array([table[query][0] for query in queries], float)
    asked = np.array([table[query][1] for query in queries], float)
    groups = PrefixGroups(queries, 1, 4)
    found = groups.reciprocal_ranks(scores, asked)
    for row, num_letters in enumerate(range(1, 5)):
        for column, query in enumerate(queries):
            same = [
                (-table[other][0], other)
                for other in queries
                if other[:num_letters] == query[:num_letters]
                and len(other) > num_letters
                and table[other][0] > 0
            ]
            own = (-table[query][0], query)
            rank = sorted(same).index(own) + 1 if own in same else 99
            expected = 1 / rank if rank <= 10 and table[query][1] > 0 else 0
            assert found[row, column] == pytest.approx(expected)
            weight = table[query][1] if len(query) > num_letters else 0
            assert groups.weights(asked)[row, column] == weight


def test_levels_decay_by_days_passed():
    tracker = PopularityTracker(["a1", "b1"])
    tracker.add(10, np.array([8.0, 0.0]))
    tracker.add(12, np.array([1.0, 1.0]))
    assert tracker.popularity(PLAIN).tolist() == [9, 1]
    assert tracker.popularity(Forecast(1.0)).tolist() == [8 / 4 + 1, 1]
    assert tracker.popularity(Forecast(2.0)).tolist() == [8 / 2 + 1, 1]


def test_a_trend_favours_what_rises():
    tracker = PopularityTracker(["a1", "a2"])
    for day, counts in enumerate([(9.0, 1.0), (7.0, 3.0), (5.0, 5.0)]):
        tracker.add(day, np.array(counts))
    shares = [
        rising / falling
        for falling, rising in (
            tracker.popularity(Forecast(2.0, trend)) for trend in (0.0, 0.5, 1.0)
        )
    ]
    assert shares == sorted(set(shares))
    # Levels with half-lives of one and three days, by hand.
    third = 0.5 ** (1 / 3)
    fast = np.array([9 / 4 + 7 / 2 + 5, 1 / 4 + 3 / 2 + 5])
    slow = np.array([9 * third**2 + 7 * third + 5, third**2 + 3 * third + 5])
    ratio = (fast / fast.sum()) / (slow / slow.sum())
    assert shares[2] / shares[0] == pytest.approx(ratio[1] / ratio[0], rel=1e-4)


def test_days_come_in_order():
    tracker = PopularityTracker(["a1"])
    tracker.add(3, np.array([1.0]))
    with pytest.raises(ValueError, match="days in order"):
        tracker.add(3, np.array([1.0]))


def test_the_plain_sum_holds_until_enough_days_are_seen():
    tracker = PopularityTracker(["a1", "a2"])
    assert tracker.weights() == {PLAIN: 1.0}
    assert tracker.popularity().tolist() == [0, 0]
    for day in range(4):
        tracker.add(day, np.array([1.0, 2.0]))
    assert tracker.weights() == {PLAIN: 1.0}


def test_a_surge_is_followed_and_calm_days_keep_the_plain_sum():
    queries = [f"a{number}" for number in range(8)]
    surging, calm = PopularityTracker(queries), PopularityTracker(queries)
    for day in range(16):
        # Another query is the most asked each two days.
        counts = np.ones(8)
        counts[day // 2] = 50
        surging.add(day, counts)
        calm.add(day, np.arange(8.0, 0.0, -1.0))
    assert np.argmax(surging.popularity()) == 7
    assert next(iter(surging.weights())).half_life_days <= 1
    # All forecasts are equally good on calm days.
    assert len(calm.weights()) == len(FORECASTS)
    assert np.argsort(-calm.popularity()).tolist() == list(range(8))


def test_zero_queries_and_zero_days():
    assert PopularityTracker([]).popularity().shape == (0,)
    tracker = PopularityTracker(["a1"])
    tracker.add(1, np.array([0.0]))
    tracker.add(2, np.array([0.0]))
    assert tracker.popularity().tolist() == [0]
