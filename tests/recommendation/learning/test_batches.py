from itertools import pairwise

import numpy as np
import pytest

from reelseek.recommendation.learning.batches import batches_of


@pytest.mark.parametrize("seed", range(20))
def test_batches_cover_the_log_and_keep_their_bounds(seed):
    rng = np.random.default_rng(seed)
    user, time_ms = rng.integers(6, size=100), np.sort(rng.integers(300, size=100))
    cuts = (int(time_ms[40]), 222)
    batches = list(batches_of(user, time_ms, max_ms=25, max_events=5, cuts_ms=cuts))
    assert [index for batch in batches for index in range(100)[batch]] == list(range(100))
    for batch, following in pairwise(batches):
        assert time_ms[batch.stop - 1] < time_ms[following.start]  # no moment is divided
    for batch in batches:
        times, users = time_ms[batch], user[batch]
        assert times[-1] - times[0] <= 25
        assert not any(times[0] < cut <= times[-1] for cut in cuts)
        later = [set(users[times == moment].tolist()) for moment in np.unique(times)]
        assert sum(map(len, later)) == len(set().union(*later))  # none of a user's later events
        if len(later) > 1:
            assert len(times) <= 5


def test_an_empty_log_has_no_batches():
    none = np.zeros(0, np.int64)
    assert not list(batches_of(none, none, max_ms=1, max_events=1))
