import math
from dataclasses import replace

import numpy as np
import pytest

from reelseek.recommendation.learning.counters import COUNTED, decay, shrunken_rates
from reelseek.recommendation.learning.ftrl import Rates
from reelseek.recommendation.learning.impressions import HEADS, Outcomes, Profiles
from reelseek.recommendation.learning.model import ModelSettings, OnlineModel
from reelseek.recommendation.learning.namespaces import NAMESPACES, keys_of, query_key
from reelseek.recommendation.learning.prior import Prior
from tests.recommendation.learning.synthetic import log

DAY_MS = 86_400_000


def learn(model, impressions, outcomes, batch=7):
    for begin in range(0, len(impressions), batch):
        part = slice(begin, begin + batch)
        scored = model.predict(impressions.take(part))
        model.learn(scored, impressions.take(part), outcomes=outcomes.take(part))


@pytest.mark.parametrize("batch", [1, 7, 50])
def test_counters_are_sums_that_decay(batch):
    impressions, outcomes = log(200)
    model = OnlineModel()
    learn(model, impressions, outcomes, batch)
    ones = np.ones((200, 1))
    values = np.concatenate([ones, outcomes.labels, outcomes.watched[:, None]], axis=1)
    for number, keys in enumerate(keys_of(impressions)):
        half_life_ms = NAMESPACES[number].half_life_days * DAY_MS
        expected: dict = {}
        for key, time_ms, value in zip(keys, impressions.time_ms, values, strict=True):
            if key is None:
                continue
            left = 2.0 ** (-(impressions.time_ms[-1] - time_ms) / half_life_ms)
            expected[key] = expected.get(key, np.zeros(len(COUNTED))) + left * value
        for key, value in expected.items():
            (row,) = model.table.find([key])
            left = 2.0 ** (-(impressions.time_ms[-1] - model.counted_ms[row]) / half_life_ms)
            np.testing.assert_allclose(model.counts[row] * left, value, rtol=1e-9)


def test_there_is_no_key_of_what_is_not_known():
    impressions, _ = log(200)
    names = [namespace.name for namespace in NAMESPACES]
    keys = dict(zip(names, keys_of(impressions), strict=True))
    for name, column in (
        ("tab_position", "position"),
        ("query", "query"),
        ("query_video", "query"),
    ):
        is_known = getattr(impressions, column) != ("" if column == "query" else 0)
        assert [key is not None for key in keys[name]] == is_known.tolist()
        assert 0 < is_known.sum() < 200
    assert all(key is not None for name in names[:-3] for key in keys[name])


def test_positions_far_down_share_a_key():
    impressions, _ = log(60)
    positions = replace(impressions, position=np.arange(1, 61), tab=np.zeros(60, np.int64))
    keys = keys_of(positions)[[n.name for n in NAMESPACES].index("tab_position")]
    assert len(set(keys[:10])) == 10
    assert len(set(keys[:15])) == 11
    assert len(set(keys)) == 14


def test_queries_that_differ_in_case_and_blanks_are_one():
    assert query_key("  A  Cat\n") == query_key("a cat") != query_key("a car")
    assert query_key("STRASSE") == query_key("straße")
    assert query_key(" \t") == ""
    assert "cat" not in query_key("cat")


def test_rates_are_shrunk_to_those_of_the_parent():
    counts = np.array([[[10, 4, 2], [2, 1, 0], [0, 0, 0]]], float)  # root, child, grandchild
    rates = shrunken_rates(
        counts,
        levels=[np.array([0]), np.array([1]), np.array([2])],
        parents=np.array([0, 0, 1]),
        smoothing=np.array([5.0, 2.0, 3.0]),
        root=np.array([0.5, 0.1]),
    )
    root = np.array([(4 + 5 * 0.5) / 15, (2 + 5 * 0.1) / 15])
    child = (np.array([1, 0]) + 2 * root) / 4
    np.testing.assert_allclose(rates[0], [root, child, child])


def test_a_time_before_the_last_event_does_not_grow_a_counter():
    assert decay(np.array([-5.0, 0.0, DAY_MS]), np.array([1.0])).tolist() == [1.0, 1.0, 0.5]


def test_predictions_do_not_depend_on_the_size_of_the_batch():
    impressions, outcomes = log(300)
    model = OnlineModel()
    learn(model, impressions, outcomes)
    whole = model.predict(impressions).probabilities
    single = [model.predict(impressions.take(slice(i, i + 1))).probabilities for i in range(300)]
    np.testing.assert_allclose(np.concatenate(single), whole, rtol=1e-12)


def test_predicting_changes_nothing():
    impressions, outcomes = log(300)
    models = [OnlineModel() for _ in range(2)]
    for model in models:
        learn(model, impressions.take(slice(0, 150)), outcomes.take(slice(0, 150)))
    models[0].predict(impressions)
    late = impressions.take(slice(150, 300))
    np.testing.assert_array_equal(
        models[0].predict(late).probabilities, models[1].predict(late).probabilities
    )
    assert len(models[0].table) == len(models[1].table)


def test_it_learns_what_tells_videos_apart():
    impressions, outcomes = log(4000)
    model = OnlineModel()
    learn(model, impressions, outcomes)
    found = model.predict(impressions).probabilities[:, HEADS.index("long_view")]
    labels = outcomes.labels[:, 0]
    base = labels.mean()
    entropy = -(base * math.log(base) + (1 - base) * math.log(1 - base))
    assert -np.log(np.where(labels > 0, found, 1 - found)).mean() < 0.93 * entropy


def test_a_history_counts_before_anything_is_learned():
    impressions, _ = log(50)
    liked, disliked = impressions.video[0], impressions.video[1]
    prior = Prior(video={liked: (1.0, 10.0), disliked: (-1.0, 10.0)})
    found = OnlineModel(prior=prior).predict(impressions).probabilities[:, 0]
    log_odds = np.log(found / (1 - found))
    assert log_odds[0] == pytest.approx(1.0)
    assert log_odds[1] == pytest.approx(-1.0)


def test_values_of_tables_have_weights():
    impressions, outcomes = log(2000)
    codes = {user: np.array([user % 2]) for user in range(24)}  # the last user has none
    model = OnlineModel(users=Profiles(codes, 1, 2), videos=Profiles({}, 1, 3))
    outcomes.labels[:, 0] = impressions.user % 2
    learn(model, impressions, outcomes)
    assert model.profile_z[0, 0] > 0 > model.profile_z[1, 0]  # a weight's sign is opposite
    assert not model.profile_z[2:].any()


def test_memory_is_bounded_and_predictions_stay_finite():
    impressions, outcomes = log(2000, num_users=500, num_videos=900)
    model = OnlineModel(ModelSettings(capacity=700, max_candidates=50, min_sightings=2))
    learn(model, impressions, outcomes)
    assert len(model.table) <= 700
    assert model.table.size <= 700
    assert len(model.counts) <= 700
    assert model.table.num_candidates <= 50
    assert model.table.num_evicted > 0
    assert np.isfinite(model.predict(impressions).probabilities).all()


def test_rows_of_expired_keys_begin_empty():
    impressions, outcomes = log(300)
    model = OnlineModel(ModelSettings(expire_days=0.0001))
    learn(model, impressions, outcomes)
    later = impressions.take(slice(0, 1))
    later.time_ms[:] += 30 * DAY_MS
    learn(model, later, outcomes.take(slice(0, 1)))
    assert model.table.num_expired > 0
    used = set(range(len(model.counts))) - set(model.table.find(k[0] for k in keys_of(later)))
    assert not model.counts[sorted(used)].any()


def test_an_empty_batch_is_learned_without_effect():
    impressions, outcomes = log(10)
    model = OnlineModel()
    none = slice(0, 0)
    scored = model.predict(impressions.take(none))
    model.learn(scored, impressions.take(none), outcomes=outcomes.take(none))
    assert model.num_learned == 0


def test_a_correction_leads_to_the_counters_and_gradients_of_the_right_label():
    impressions, outcomes = log(150)
    # With such a rate the state `z` is the sum of gradients.
    sums = Rates(alpha=1e15, l2=1e9)
    settings = ModelSettings(dense=sums, sparse=sums)
    right, corrected = OnlineModel(settings), OnlineModel(settings)
    scored = right.predict(impressions)
    right.learn(scored, impressions, outcomes=outcomes)
    wrong = Outcomes(outcomes.labels.copy(), outcomes.watched.copy())
    wrong.labels[40:60] = 0
    corrected.learn(scored, impressions, outcomes=wrong)
    late = slice(40, 60)
    change = Outcomes(outcomes.labels[late] - wrong.labels[late], np.zeros(20))
    corrected.correct(scored.take(late), impressions.take(late), change=change)
    np.testing.assert_allclose(corrected.counts, right.counts, atol=1e-12)
    for name in ("dense_z", "row_z"):
        found = getattr(corrected, name)
        np.testing.assert_allclose(found, getattr(right, name), atol=1e-9)
        assert np.abs(found).max() > 1


def test_a_forgotten_user_has_no_counters():
    impressions, outcomes = log(300)
    model = OnlineModel()
    learn(model, impressions, outcomes)
    user = int(impressions.user[-1])
    rows = [
        row
        for keys in keys_of(impressions.take(slice(299, 300)))
        for row in model.table.find(k for k in keys if k and model._is_of_user(k))
    ]
    assert model.forget(lambda each: each == user) >= len(rows)
    assert not model.counts[rows].any()
    assert all(
        key is None or not model._is_of_user(key) or key[1] != user
        for key in model.table.keys_of(range(model.table.num_used))
    )
