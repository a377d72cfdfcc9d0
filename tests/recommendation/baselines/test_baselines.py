import numpy as np
import pytest

from reelseek.recommendation.baselines.history_matrix import history_matrix
from reelseek.recommendation.baselines.ials import Ials
from reelseek.recommendation.baselines.item_knn import (
    ItemKnn,
    ItemKnnRecency,
    item_similarity,
    keep_nearest,
)
from reelseek.recommendation.baselines.popularity import Popularity
from reelseek.recommendation.data.influence import bound_influence
from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.recommender import FitSettings
from reelseek.recommendation.registry import BASELINE_NAMES, FACTORIES

NOTHING = np.zeros(0, np.int32)


@pytest.fixture(scope="module")
def training():
    """40 users, 12 items, of which the last is chosen by nobody."""
    rng = np.random.default_rng(0)
    users = [
        (f"u{user}", [str(item) for item in rng.integers(0, 11, size=rng.integers(1, 9))])
        for user in range(40)
    ]
    sequences = Sequences.of(users, Sequences.of([("all", [str(i) for i in range(12)])]).items)
    assert sequences.num_items == 12
    return sequences


def fitted(make, training, **settings):
    recommender = make(FitSettings(**settings))
    recommender.fit(training)
    return recommender


def test_weights_of_a_history_go_by_the_last_time():
    found = history_matrix(
        [np.array([2, 0, 2]), NOTHING], 4, weight=lambda from_end: 0.5**from_end
    ).toarray()
    assert found.tolist() == [[0.5, 0, 1, 0], [0, 0, 0, 0]]
    assert history_matrix([np.array([1, 1])], 2).toarray().tolist() == [[0, 1]]


def test_popularity_counts_users(training):
    scores = fitted(Popularity, training).scores([NOTHING, np.array([1])])
    expected = [
        sum(item in set(history.tolist()) for history in training.histories()) for item in range(12)
    ]
    assert scores.tolist() == [expected, expected]


def test_similarity_is_the_shrunk_cosine(training):
    chosen = training.matrix().toarray()
    found = item_similarity(training.matrix(), shrinkage=3.0).toarray()
    for a in range(12):
        for b in range(12):
            together = (chosen[:, a] * chosen[:, b]).sum()
            norm = np.sqrt(chosen[:, a].sum() * chosen[:, b].sum()) + 3
            assert found[a, b] == pytest.approx(0 if a == b else together / norm, rel=1e-5)


def test_only_the_nearest_are_kept(training):
    similarity = item_similarity(training.matrix(), shrinkage=3.0)
    kept = keep_nearest(similarity, 4).toarray()
    whole = similarity.toarray()
    for row, whole_row in zip(kept, whole, strict=True):
        least = np.sort(whole_row)[-4]
        np.testing.assert_array_equal(row, np.where(whole_row >= least, whole_row, 0))


def test_item_knn_adds_up_similarities(training):
    recommender = fitted(ItemKnn, training)
    similarity = item_similarity(training.matrix(), shrinkage=10.0).toarray()
    found = recommender.scores([np.array([3, 5, 3]), NOTHING])
    np.testing.assert_allclose(found[0], similarity[3] + similarity[5], rtol=1e-5)
    assert not found[1].any()


def test_the_last_items_count_most(training):
    recommender = fitted(ItemKnnRecency, training)
    similarity = item_similarity(training.matrix(), shrinkage=10.0).toarray()
    found = recommender.scores([np.array([3, 5])])[0]
    np.testing.assert_allclose(found, similarity[5] + 0.8 * similarity[3], rtol=1e-5)


def test_without_order_there_is_no_recency(training):
    pairs = Sequences.of_histories(
        training.items, training.users, training.histories(), is_ordered=False
    )
    histories = training.histories(range(9))
    np.testing.assert_array_equal(
        fitted(ItemKnnRecency, pairs).scores(histories), fitted(ItemKnn, pairs).scores(histories)
    )


def test_factors_are_folded_in_by_the_equation_of_the_paper(training):
    recommender = fitted(Ials, training)
    items = recommender._model.item_factors
    history = np.array([1, 4, 7])
    weight = np.zeros(12)
    weight[history] = recommender._model.alpha
    # implicit: confidence 1 + (alpha - 1) of what was chosen, where alpha is the whole weight.
    confidence = np.where(weight > 0, weight, 1.0)
    left = (items.T * confidence) @ items + recommender._model.regularization * np.eye(
        items.shape[1]
    )
    user = np.linalg.solve(left, items.T @ weight)
    np.testing.assert_allclose(recommender.scores([history])[0], items @ user, atol=1e-3)


@pytest.mark.parametrize("name", BASELINE_NAMES)
def test_same_seed_same_scores(name, training):
    histories = [NOTHING, *training.histories()]
    first, second = (fitted(FACTORIES[name], training, seed=3).scores(histories) for _ in range(2))
    assert first.shape == (41, 12)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", BASELINE_NAMES)
@pytest.mark.parametrize(
    "users",
    [
        [("only", ["a", "b"])],
        [("only", ["a"])],
        [("a", ["a"]), ("b", ["a"])],
        [("a", ["a", "a", "a"]), ("b", ["b"])],
    ],
)
def test_one_user_or_one_item_is_enough(name, users):
    training = Sequences.of(users)
    scores = fitted(FACTORIES[name], training).scores([NOTHING, training.history(0)])
    assert scores.shape == (2, training.num_items)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", BASELINE_NAMES)
def test_a_robot_changes_little(name):
    rng = np.random.default_rng(0)
    # Two groups of users, each with its own 20 items.
    users = [
        (f"{group}{user}", [f"{group}{item}" for item in rng.permutation(20)[:8]])
        for group in "ab"
        for user in range(100)
    ]
    robot = ("robot", [f"{'ab'[draw % 2]}{draw % 20}" for draw in rng.integers(0, 40, 100_000)])
    plain = Sequences.of(users)
    attacked = bound_influence(Sequences.of([*users, robot], plain.items), 1000)
    assert attacked.lengths.max() == 1000
    histories = plain.histories(range(0, 200, 10))
    before, after = (
        fitted(FACTORIES[name], training).scores(histories) for training in (plain, attacked)
    )
    scale = before.max(axis=1, keepdims=True)
    assert (np.abs(after - before) / scale).max() < 0.25
    if name == "popularity":
        assert (after - before).max() == 1
    else:  # each group still sees its own
        own = np.array([item.startswith("a") for item in plain.items])
        for user, row in enumerate(after):
            assert own[row.argmax()] == (user < 10)
