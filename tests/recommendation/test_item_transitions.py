import numpy as np
import pytest

from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.item_transitions import (
    ItemTransitions,
    TransitionSettings,
    count_transitions,
)
from reelseek.recommendation.recommender import FitSettings

SETTINGS = TransitionSettings(window=3, backward=0.25)


def sequences_of(seed):
    rng = np.random.default_rng(seed)
    return Sequences.of(
        (f"u{user}", [str(i) for i in rng.integers(0, 9, size=rng.integers(1, 12))])
        for user in range(20)
    )


def counted_one_by_one(training, settings):
    counts = np.zeros((training.num_items, training.num_items))
    for history in training.histories():
        for later in range(len(history)):
            for earlier in range(max(0, later - settings.window), later):
                a, b = history[earlier], history[later]
                if a != b:
                    weight = (later - earlier) ** -settings.distance_exponent
                    counts[a, b] += weight
                    counts[b, a] += settings.backward * weight
    return counts


@pytest.mark.parametrize("seed", range(3))
def test_transitions_are_those_counted_one_by_one(seed):
    training = sequences_of(seed)
    np.testing.assert_allclose(
        count_transitions(training, SETTINGS).toarray(),
        counted_one_by_one(training, SETTINGS),
        rtol=1e-5,
    )


def test_scores_by_hand():
    training = sequences_of(0)
    recommender = ItemTransitions(FitSettings(), SETTINGS)
    recommender.fit(training)
    num_users_of = np.asarray(training.matrix().sum(axis=0)).ravel()
    norm = np.sqrt(np.outer(num_users_of, num_users_of)) + SETTINGS.shrinkage
    following = counted_one_by_one(training, SETTINGS) / norm
    found = recommender.scores([np.array([2, 5]), np.zeros(0, np.int32)])
    np.testing.assert_allclose(found[0], following[5] + SETTINGS.decay * following[2], rtol=1e-5)
    assert not found[1].any()
    assert found.dtype == np.float32


def test_what_follows_is_found():
    letters = "abcdefghijkl"
    training = Sequences.of(
        (f"u{start}", list((letters * 2)[start : start + 5])) for start in range(12)
    )
    recommender = ItemTransitions(FitSettings())
    recommender.fit(training)
    scores = recommender.scores([np.array([training.items[letter] for letter in "bcd"])])[0]
    scores[[training.items[letter] for letter in "bcd"]] = -1
    assert training.items.ids()[scores.argmax()] == "e"


def test_sets_have_no_transitions():
    training = Sequences.of([("a", ["x", "y"])], is_ordered=False)
    with pytest.raises(ValueError, match="item_transitions learns from sequences"):
        ItemTransitions(FitSettings()).fit(training)


def test_one_event_is_enough():
    recommender = ItemTransitions(FitSettings())
    recommender.fit(Sequences.of([("a", ["x"])]))
    assert recommender.scores([np.array([0])]).tolist() == [[0]]
