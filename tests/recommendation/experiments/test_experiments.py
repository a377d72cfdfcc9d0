import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats

from reelseek.configs import command_line
from reelseek.configs.experiment_schema import ExperimentConfig
from reelseek.recommendation import experiment
from reelseek.recommendation.events.log import EventLog
from reelseek.recommendation.events.schema import Click, Impression, Play
from reelseek.recommendation.experiments.buckets import arm_of
from reelseek.recommendation.experiments.effect import (
    chi_square_p,
    ratio_effect,
    sample_ratio_p,
)
from reelseek.recommendation.experiments.interleaving import preference, team_draft


def test_arms_are_uniform_stable_and_independent():
    users = [f"user-{n}" for n in range(20_000)]
    shares = [0.2, 0.3, 0.5]
    arms = [arm_of("first", user, shares) for user in users]
    assert arms == [arm_of("first", user, shares) for user in users]
    counts = np.bincount(arms)
    assert sample_ratio_p(counts.tolist(), shares) > 0.01
    other = [arm_of("second", user, shares) for user in users]
    table = np.zeros((3, 3))
    np.add.at(table, (arms, other), 1)
    assert stats.chi2_contingency(table).pvalue > 0.01


@pytest.mark.parametrize("shares", [[1.0], [0.5, 0.6], [1.0, 0.0], [math.nan, 0.5]])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ValueError, match="must be two or more"):
        arm_of("e", "u", shares)


@pytest.mark.parametrize(
    ("statistic", "degrees"), itertools.product([0.0, 0.3, 3.84, 25.0], [1, 2, 3, 4, 7])
)
def test_chi_square(statistic, degrees):
    assert chi_square_p(statistic, degrees) == pytest.approx(stats.chi2.sf(statistic, degrees))


def test_a_team_draft_of_known_rankings():
    found = {
        tuple(team_draft(["a", "b", "c"], ["b", "c", "a"], length=2, seed=str(n)).hits)
        for n in range(50)
    }
    assert found == {("a", "b"), ("b", "a")}
    whole = team_draft(["a", "b"], ["b", "c", "d", "e"], length=10, seed="s")
    assert sorted(whole.hits) == ["a", "b", "c", "d", "e"]
    again = team_draft(["a", "b"], ["b", "c", "d", "e"], length=10, seed="s")
    assert again == whole
    assert team_draft([], [], length=3, seed="s").hits == []


def test_a_team_draft_is_fair():
    """Whoever clicks at random prefers neither; whoever knows what is good prefers who has it."""
    rng = np.random.default_rng(0)
    first, second = list(range(10)), list(range(9, -1, -1))
    wins, good_wins = [], []
    for number in range(2000):
        mixed = team_draft(first, second, length=10, seed=str(number))
        assert abs(mixed.teams.count(0) - mixed.teams.count(1)) <= 1
        wins.append(preference(mixed.teams, rng.integers(10, size=2).tolist()))
        good_wins.append(preference(mixed.teams, [mixed.hits.index(0)]))
    assert abs(np.mean(wins)) < 0.05
    assert np.mean(good_wins) < -0.9
    assert preference([0, 1, 0], [1, 1]) == 1
    assert preference([0, 1], []) == 0


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    held = []
    for _ in range(400):
        arms = []
        for rate in (0.2, 0.25):
            shown = rng.geometric(0.1, 300)
            own = rng.beta(10 * rate, 10 * (1 - rate), 300)  # users differ
            arms.append((rng.binomial(shown, own).astype(float), shown.astype(float)))
        low, high = ratio_effect(*arms).interval
        held.append(low <= 0.05 <= high)
    assert 0.92 < np.mean(held) < 0.98


def test_an_effect_without_spread():
    ones = np.ones(3)
    same = ratio_effect((ones, ones), (ones, ones))
    assert (same.difference, same.interval, same.p_value) == (0, (0, 0), 1)
    with pytest.raises(ValueError, match="at least two"):
        ratio_effect((ones[:1], ones[:1]), (ones, ones))


def run(capsys, *arguments):
    command_line.run(experiment.main, ExperimentConfig, usage=experiment.USAGE, arguments=arguments)
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture
def log(tmp_path):
    """Each user sees ten videos; who is in the second arm clicks on every second, others on every
    fifth."""
    log = EventLog(tmp_path / "events", clock=lambda: 2e9)
    for number in range(80):
        user = f"u{number}"
        arm = arm_of("ranker", user)
        events = []
        for video in range(10):
            common = {"time_seconds": 2e9, "user": user, "video": f"v{video}", "request_id": "r"}
            events.append(
                Impression(
                    event_id=f"i{number}-{video}", position=1 + video, surface="search", **common
                )
            )
            if video % (2 if arm else 5) == 0:
                events.append(Click(event_id=f"c{number}-{video}", **common))
                events.append(Play(event_id=f"p{number}-{video}", watched_seconds=20, **common))
        common["video"] = "never shown"
        events.append(Click(event_id=f"x{number}", **common))
        log.append(events)
    log.close()
    return tmp_path / "events"


def test_the_command_gives_the_effect_that_is_known(log, capsys):
    found = run(capsys, f"events={log}", "name=ranker")
    clicks = found["effects"]["clicks_per_impression"]
    assert (clicks["control"], clicks["treatment"], clicks["difference"]) == (0.2, 0.5, 0.3)
    assert found["effects"]["long_views_per_impression"]["difference"] == 0.3
    assert found["effects"]["seconds_per_impression"]["difference"] == 6
    assert sum(found["users"]) == 80
    assert found["sample_ratio"]["is_sound"]
    other = run(capsys, f"events={log}", "name=another")["effects"]["clicks_per_impression"]
    assert other["interval"][0] < 0 < other["interval"][1]


def test_users_that_are_missing_from_an_arm_are_noticed(log, capsys):
    found = run(capsys, f"events={log}", "name=ranker", "treatment_share=0.1")
    assert found["sample_ratio"]["p_value"] > 0.001
    assert sample_ratio_p([400, 600], [0.5, 0.5]) < 0.001


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["events=none", "name=a"], "no such folder"),
        (["events={log}", "name=a", "surface=feed"], "two of each are needed"),
    ],
)
def test_a_mistake_is_one_line(log, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        run(capsys, *[each.format(log=log) for each in arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
