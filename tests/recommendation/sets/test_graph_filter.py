from dataclasses import replace

import numpy as np
import pytest

from reelseek.recommendation import metrics
from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.recommender import FitSettings, TunableRecommender
from reelseek.recommendation.sets.graph_filter import FilterSettings, GraphFilter
from reelseek.recommendation.sets.link_propagation import LinkPropagation
from reelseek.recommendation.sets.validation import Validation


@pytest.fixture(scope="module")
def pairs():
    """Users of two tastes, each with 25 items of which each user has some; and held-out ones."""
    rng = np.random.default_rng(0)
    known, asked = [], []
    for user in range(120):
        taste = user % 2
        items = [f"{taste}-{item}" for item in rng.permutation(25)[:10]]
        items[0] = f"{1 - taste}-{rng.integers(25)}"
        known.append((str(user), items[:7]))
        asked.append((str(user), items[7:]))
    training = Sequences.of(known, is_ordered=False)
    return training, Sequences.of(asked, training.items, is_ordered=False)


def test_quality_is_the_mean_of_recall_and_ndcg(pairs):
    training, held_out = pairs
    asked = Validation(training, held_out, max_users=1000, seed=0)
    table = np.random.default_rng(1).random((120, training.num_items)).astype(np.float32)
    expected = []
    for user in range(120):
        row = table[user].copy()
        row[training.history(user)] = -np.inf
        ranks = metrics.ranks_of(row, np.unique(held_out.history(user)))
        expected.append((metrics.recall_at(20, ranks) + metrics.ndcg_at(20, ranks)) / 2)
    assert asked.num_users == 120
    assert asked.quality(lambda histories: table) == pytest.approx(np.mean(expected))
    several = asked.qualities(lambda histories: iter([table, -table]), 2)
    assert several[0] == pytest.approx(np.mean(expected))


def test_a_part_of_many_users_is_asked(pairs):
    training, held_out = pairs
    assert Validation(training, held_out, max_users=30, seed=0).num_users == 30


def test_settings_are_the_best_of_those_that_were_tried(pairs):
    training, held_out = pairs
    recommender = GraphFilter(FitSettings())
    assert isinstance(recommender, TunableRecommender)
    recommender.tune(training, held_out)
    asked = Validation(training, held_out, max_users=1000, seed=0)

    def quality(settings):
        other = GraphFilter(FitSettings(), settings)
        other.fit(training)
        return asked.quality(lambda known: other.scores([row.indices for row in known]))

    chosen = recommender.filter_settings
    best = quality(chosen)
    assert best >= quality(FilterSettings()) - 1e-9
    for weight in (0.0, 0.4, 2.0):
        assert best >= quality(replace(chosen, weight=weight)) - 1e-9


def test_own_taste_comes_first(pairs):
    training, _ = pairs
    recommender = GraphFilter(FitSettings())
    recommender.fit(training)
    scores = recommender.scores(training.histories())
    taste = np.array([int(item[0]) for item in training.items])
    own = taste == (np.arange(120) % 2)[:, None]
    assert (np.where(own, scores, 0).sum(axis=1) > np.where(own, 0, scores).sum(axis=1)).all()


def test_weight_0_leaves_the_links_alone(pairs):
    training, _ = pairs
    settings = FilterSettings(weight=0.0)
    recommender = GraphFilter(FitSettings(), settings)
    recommender.fit(training)
    links = LinkPropagation(training.matrix(), settings.exponents)
    np.testing.assert_allclose(
        recommender.scores(training.histories(range(3))), links.scores(training.matrix()[:3])
    )


def test_same_seed_same_scores(pairs):
    training, held_out = pairs

    def scores():
        recommender = GraphFilter(FitSettings(seed=5))
        recommender.tune(training, held_out)
        recommender.fit(training)
        return recommender.scores(training.histories())

    np.testing.assert_array_equal(scores(), scores())


def test_without_held_out_pairs_the_defaults_stay(pairs, caplog):
    training, _ = pairs
    recommender = GraphFilter(FitSettings())
    recommender.tune(training, Sequences.of([("stranger", ["0-1"])], training.items))
    assert recommender.filter_settings == FilterSettings()
    assert "not tuned" in caplog.text


@pytest.mark.parametrize(
    "users", [[("a", ["x"])], [("a", ["x", "y"])], [("a", ["x"]), ("b", ["x"]), ("c", ["y"])]]
)
def test_one_user_or_one_item_is_enough(users):
    training = Sequences.of(users, is_ordered=False)
    recommender = GraphFilter(FitSettings())
    recommender.fit(training)
    scores = recommender.scores([np.zeros(0, np.int32), training.history(0)])
    assert scores.shape == (2, training.num_items)
    assert np.isfinite(scores).all()
    assert not scores[0].any()


def test_a_robot_changes_little(pairs):
    training, _ = pairs
    robot = Sequences.of([("robot", list(training.items))], training.items, is_ordered=False)
    recommender, attacked = GraphFilter(FitSettings()), GraphFilter(FitSettings())
    recommender.fit(training)
    attacked.fit(training.joined_with(robot))
    before, after = (each.scores(training.histories()) for each in (recommender, attacked))
    assert np.abs(after - before).max() < 0.15 * before.max()
