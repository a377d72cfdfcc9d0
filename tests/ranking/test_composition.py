import numpy as np
import pytest

from reelseek.ranking import compose, penalize_negatives


def test_sum_is_weighted_and_normalised():
    found = compose(np.eye(3, dtype=np.float32), np.array([3.0, -4.0, 0.0]))
    np.testing.assert_allclose(found, [0.6, -0.8, 0.0])
    assert found.dtype == np.float32


def test_one_phrase_stays_as_it_is_whatever_its_weight():
    phrase = np.array([[0.6, 0.8]], dtype=np.float32)
    np.testing.assert_allclose(compose(phrase, np.array([7.0])), phrase[0])


def test_parts_of_one_weight_move_scores_as_far():
    random = np.random.default_rng(0)
    items = random.normal(size=(4_000, 8))
    items[:, 0] *= 5  # what the first part asks about differs more
    parts = np.eye(8, dtype=np.float32)[:2]
    scores = items @ parts.T
    found = compose(parts, np.ones(2), spreads=scores.std(axis=0))
    moved = (items[:, :2] * found[:2]).std(axis=0)
    assert moved[0] == pytest.approx(moved[1])
    assert found[1] / found[0] == pytest.approx(5, rel=0.1)
    again = compose(parts, np.array([1.0, 2.0]), spreads=scores.std(axis=0))
    assert again[1] / again[0] == pytest.approx(2 * found[1] / found[0])
    same = compose(parts, np.array([3.0, -4.0]), spreads=np.full(2, 0.1))
    np.testing.assert_allclose(same[:2], [0.6, -0.8], rtol=1e-6)


@pytest.mark.parametrize("spreads", [[1.0], [1.0, 0.0], [1.0, np.nan], [-1.0, 1.0]])
def test_spreads_that_do_not_fit_are_refused(spreads):
    with pytest.raises(ValueError, match=r"spreads must be \(2,\)"):
        compose(np.eye(2), np.ones(2), spreads=np.array(spreads))


@pytest.mark.parametrize("weights", [[1.0, -1.0], [0.0, 0.0], [1.0, -1.0001]])
def test_sum_that_cancels_out_is_refused(weights):
    with pytest.raises(ValueError, match="cancel out"):
        compose(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array(weights))


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"must be \(n, D\) and \(n,\)"):
        compose(np.eye(2), np.ones(3))
    with pytest.raises(ValueError, match="not finite"):
        compose(np.eye(2), np.array([1.0, np.nan]))


def test_excluded_costs_worked_out_by_hand():
    positive = np.array([0.5, 0.3, 0.3, 0.1])  # spread sqrt(0.02)
    negative = np.array([[0.0, 0.0, 2.0, 2.0]])  # mean 1, spread 1
    found = penalize_negatives(positive, negative, weight=2.0, threshold=0.5)
    cost = 2 * 0.02**0.5 * 0.5
    np.testing.assert_allclose(found, [0.5, 0.3, 0.3 - cost, 0.1 - cost])


def test_shown_for_a_second_is_enough_and_one_of_several_phrases_too():
    random = np.random.default_rng(0)
    background = random.normal(0.2, 0.05, (2, 500))
    positive = np.array([0.40, 0.39, 0.38])
    negative = np.array([[0.5, 0.2, 0.2], [0.2, 0.2, 0.5]])
    found = penalize_negatives(
        positive,
        negative,
        positive_background=random.normal(0.2, 0.05, 500),
        negative_background=background,
    )
    assert found.argmax() == 1
    assert found[1] == positive[1]


def test_phrase_that_scores_high_everywhere_costs_nothing():
    positive = np.array([0.4, 0.3, 0.2])
    negative = np.full((1, 3), 0.9)
    assert penalize_negatives(positive, negative).tolist() == positive.tolist()


def test_unit_and_offset_of_the_unwanted_scores_do_not_matter():
    random = np.random.default_rng(1)
    positive, negative = random.normal(size=50), random.normal(size=(2, 50))
    np.testing.assert_allclose(
        penalize_negatives(positive, negative), penalize_negatives(positive, 0.1 * negative + 3.0)
    )
    np.testing.assert_allclose(
        5 * penalize_negatives(positive, negative), penalize_negatives(5 * positive, negative)
    )


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.ones(3), np.ones((1, 2))), {}, r"negative is \(1, 2\): must be \(M, 3\)"),
        ((np.ones(3), np.ones(3)), {}, r"negative is \(3,\): must be \(phrases, items\)"),
        ((np.ones(3), np.full((1, 3), np.inf)), {}, "negative holds values that are not finite"),
        ((np.ones(3), np.ones((1, 3))), {"weight": -1}, "weight=-1: must be at least 0"),
        (
            (np.ones(3), np.ones((2, 3))),
            {"negative_background": np.ones((1, 9))},
            r"negative_background is \(1, 9\): must be \(2, B\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        penalize_negatives(*arguments, **options)
