"""A synthetic policy whose value is known: contexts, items and rewards by given probabilities."""

import math

import numpy as np
import pytest

from reelseek.recommendation.off_policy import ips, snips

# Two kinds of users, three items: how often each likes each.
LIKES = np.array([[0.8, 0.3, 0.1], [0.1, 0.2, 0.6]])
LOGGED = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
TARGET = np.array([[0.7, 0.2, 0.1], [0.0, 0.3, 0.7]])
TRUE_VALUE = float((TARGET * LIKES).sum(axis=1).mean())


def log_of(seed, num=2000):
    rng = np.random.default_rng(seed)
    users = rng.integers(2, size=num)
    shown = (rng.random(num)[:, None] > LOGGED[users].cumsum(axis=1)).sum(axis=1)
    rewards = (rng.random(num) < LIKES[users, shown]).astype(float)
    return rewards, LOGGED[users, shown], TARGET[users, shown]


@pytest.mark.parametrize("estimate", [ips, snips])
def test_intervals_hold_the_known_value_as_often_as_they_say(estimate):
    found = [estimate(*log_of(seed)) for seed in range(60)]
    values = [each.value for each in found]
    # Of the mean of 60 runs, the error is a tenth of one run's.
    assert np.mean(values) == pytest.approx(TRUE_VALUE, abs=3 * np.std(values) / math.sqrt(60))
    holds = [low <= TRUE_VALUE <= high for low, high in (each.interval for each in found)]
    assert 0.87 <= np.mean(holds) <= 1  # 95 % plus or minus three standard errors
    # What the log earned itself is another figure.
    assert abs(np.mean(values) - float((LOGGED * LIKES).sum(axis=1).mean())) > 0.2


def test_the_self_normalised_estimate_varies_less():
    spread = {
        each: np.std([each(*log_of(seed)).value for seed in range(40)]) for each in (ips, snips)
    }
    assert spread[snips] < spread[ips]


def test_estimates_by_hand():
    rewards, logged, target = np.array([1.0, 0.0, 1.0]), np.array([0.5, 0.5, 0.1]), np.full(3, 0.5)
    found = ips(rewards, logged, target)
    assert found.value == pytest.approx((1 + 0 + 5) / 3)
    assert found.effective_size == pytest.approx(7**2 / 27)
    assert snips(rewards, logged, target).value == pytest.approx(6 / 7)
    cut = ips(rewards, logged, target, max_weight=2)
    assert (cut.value, cut.num_clipped) == (pytest.approx(1.0), 1)


def test_the_policy_of_the_log_is_its_mean():
    rewards, logged, _ = log_of(0)
    for estimate in (ips, snips):
        found = estimate(rewards, logged, logged)
        assert found.value == pytest.approx(rewards.mean())
        assert found.effective_size == pytest.approx(len(rewards))


def test_whole_users_are_drawn():
    # 20 users, each of whom always or never clicks: a thousand impressions tell little more.
    groups = np.repeat(np.arange(20), 50)
    rewards = (groups % 2).astype(float)
    same = np.full(1000, 0.5)
    for estimate in (ips, snips):
        low, high = estimate(rewards, same, same, groups=groups).interval
        narrow_low, narrow_high = estimate(rewards, same, same).interval
        assert high - low > 4 * (narrow_high - narrow_low)


def test_a_policy_of_which_the_log_shows_nothing_is_unknown():
    found = snips(np.ones(3), np.ones(3), np.zeros(3))
    assert math.isnan(found.value)
    assert all(map(math.isnan, found.interval))
    assert found.effective_size == 0
    assert ips(np.ones(3), np.ones(3), np.zeros(3)).value == 0


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        (([], [], []), {}, "no impressions"),
        (([1.0], [0.5, 0.5], [1.0]), {}, "1 rewards, 2 logged and 1 target propensities"),
        (([1.0], [0.0], [1.0]), {}, r"logged_propensities\[0\]=0.0: must be more than 0"),
        (([1.0, 1], [1.0, math.nan], [1.0, 1]), {}, r"logged_propensities\[1\]=nan"),
        (([1.0], [0.5], [1.5]), {}, r"target_propensities\[0\]=1.5: must be 0 to 1"),
        (([math.inf], [0.5], [1.0]), {}, r"rewards\[0\]=inf: must be finite"),
        (([1.0], [0.5], [1.0]), {"max_weight": 0}, "max_weight=0: must be more than 0"),
    ],
)
def test_impossible_logs_are_refused(arrays, options, message):
    with pytest.raises(ValueError, match=message):
        ips(*map(np.array, arrays), **options)
