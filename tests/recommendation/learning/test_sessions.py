import math

import numpy as np
import pytest

from reelseek.recommendation.learning.sessions import GAP_MS, auc, session_auc, sessions_of


def auc_by_pairs(labels, scores):
    positive, negative = scores[labels > 0], scores[labels == 0]
    wins = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    return sum(wins) / len(wins) if wins else math.nan


@pytest.mark.parametrize("seed", range(10))
def test_auc_counts_pairs_and_half_of_ties(seed):
    rng = np.random.default_rng(seed)
    labels, scores = rng.integers(2, size=40), rng.integers(8, size=40) / 8
    assert auc(labels, scores) == pytest.approx(auc_by_pairs(labels, scores))


@pytest.mark.parametrize("seed", range(10))
def test_session_auc_is_that_of_each_session_weighted_by_events(seed):
    rng = np.random.default_rng(seed)
    labels, scores = rng.integers(2, size=60), rng.integers(5, size=60) / 5
    session = rng.integers(15, size=60)
    total = events = 0.0
    for number in range(15):
        inside = session == number
        value = auc_by_pairs(labels[inside], scores[inside])
        if not math.isnan(value):
            total, events = total + value * inside.sum(), events + inside.sum()
    found = session_auc(labels, scores, session)
    assert found.mean == pytest.approx(total / events)
    assert found.num_events.sum() == events


def test_without_both_labels_there_is_no_auc():
    assert math.isnan(auc(np.ones(3), np.arange(3.0)))
    assert math.isnan(auc(np.zeros(0), np.zeros(0)))


def test_a_session_ends_after_a_gap_of_more_than_half_an_hour():
    user = np.array([1, 2, 1, 1, 1])
    time_ms = np.array([0, 5, GAP_MS, 2 * GAP_MS, 3 * GAP_MS + 1])
    assert sessions_of(user, time_ms).tolist() == [0, 2, 0, 0, 1]
    assert not len(sessions_of(user[:0], time_ms[:0]))
