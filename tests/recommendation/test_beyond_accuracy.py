import math

import numpy as np
import pytest

from reelseek.recommendation.beyond_accuracy import list_statistics


def test_lists_by_hand():
    # Four users trained; items 0 to 3 were chosen by 4, 2, 1 and 0 of them.
    counts = np.array([4, 2, 1, 0])
    lists = np.array([[0, 1], [0, 3], [-1, -1]])
    histories = [np.array([2]), np.array([1, 2]), np.array([0])]
    found = list_statistics(lists, counts, num_trained_users=4, histories=histories)
    assert found.coverage == 3 / 4
    # -log2 of 4/4, 2/4, 4/4 and half a user of 4.
    assert found.novelty == pytest.approx((0 + 1 + 0 + 3) / 4)
    # Recommended: means 3 and 2; chosen before: 1 and 1.5. The third got no list.
    assert found.popularity_lift == pytest.approx(2.5 / 1.25 - 1)
    # Shown 2, 1, 0 and 1 times: the mean difference of two items is 0.75, the mean is 1.
    differences = [abs(a - b) for a in (2, 1, 0, 1) for b in (2, 1, 0, 1)]
    assert found.gini == pytest.approx(np.mean(differences) / 2)


def test_lists_of_nobody():
    found = list_statistics(np.zeros((0, 10), int), np.ones(3), num_trained_users=0, histories=[])
    assert found.coverage == 0
    assert all(map(math.isnan, (found.novelty, found.popularity_lift, found.gini)))
