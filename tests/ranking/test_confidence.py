import numpy as np
import pytest

from reelseek.ranking.confidence import (
    DEFAULT_CALIBRATION,
    FEATURE_NAMES,
    SUGGESTED_MIN_CONFIDENCE,
    Background,
    Calibration,
    expected_calibration_error,
    reliability,
)
from reelseek.text import everyday_queries


def unit(random, *shape):
    rows = random.normal(size=shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_everyday_queries_are_short_and_different():
    queries = everyday_queries()
    assert 300 <= len(queries) == len(set(queries))
    assert all(query == query.strip() and 1 <= len(query.split()) <= 6 for query in queries)


def test_features_worked_out_in_plain_loops(random):
    queries, items, query = unit(random, 12, 8), unit(random, 30, 8), unit(random, 8)
    found = Background.measure(queries, items).features(query, items[:5])
    scores = [[float(q @ item) for item in items] for q in queries]
    mean, spread = np.mean(scores), np.std(scores)
    near = [
        np.mean(sorted(float(q @ p) for m, p in enumerate(queries) if m != n)[-3:])
        for n, q in enumerate(queries)
    ]
    for n, item in enumerate(items[:5]):
        score = float(query @ item)
        fourth = sorted(row[n] for row in scores)[-4]
        expected = [
            (score - mean) / spread,
            (score - fourth) / spread,
            (np.mean(sorted(float(q @ query) for q in queries)[-3:]) - np.mean(near))
            / np.std(near),
        ]
        np.testing.assert_allclose(found[n], expected)
    assert found.shape == (5, len(FEATURE_NAMES))


def test_item_that_attracts_every_query_is_less_sure(random):
    queries = unit(random, 50, 16)
    hub = queries.mean(axis=0)
    hub /= np.linalg.norm(hub)
    items = np.concatenate([unit(random, 100, 16), hub[None]])
    background = Background.measure(queries, items)
    query = hub + unit(random, 16)
    query /= np.linalg.norm(query)
    other = query - 0.1 * hub
    other *= (query @ hub) / (query @ other)  # scores as the hub does
    of_hub, of_other = background.features(query, np.stack([hub, other]))
    assert of_hub[0] == pytest.approx(of_other[0])
    assert of_hub[2] == of_other[2]
    near = np.stack([hub, other]) @ queries.T
    assert (of_hub[1] < of_other[1]) == (np.sort(near[0])[-4] > np.sort(near[1])[-4])


def test_background_that_does_not_fit_is_refused(random):
    with pytest.raises(ValueError, match=r"must be \(B, D\) and \(N, D\)"):
        Background.measure(np.ones((9, 3)), np.ones((9, 4)))
    with pytest.raises(ValueError, match="4 background queries and 9 items: must be at least 5"):
        Background.measure(np.ones((4, 3)), np.ones((9, 3)))
    background = Background.measure(unit(random, 9, 3), unit(random, 9, 3))
    with pytest.raises(ValueError, match=r"must be \(D,\) and \(n, D\)"):
        background.features(np.ones(4), np.ones((2, 3)))


def test_queries_that_all_score_alike_give_finite_features():
    same = np.tile([1.0, 0.0], (6, 1))
    background = Background.measure(same, same)
    assert np.isfinite(background.features(np.array([0.0, 1.0]), same)).all()


def test_fit_finds_the_coefficients_that_made_the_data(random):
    features = random.normal(size=(20_000, 3))
    made = Calibration((1.0, -2.0, 0.0), 0.5)
    matches = random.uniform(size=20_000) < made.probability(features)
    fitted = Calibration.fit(features, matches)
    np.testing.assert_allclose([*fitted.weights, fitted.bias], [1, -2, 0, 0.5], atol=0.08)
    assert expected_calibration_error(fitted.probability(features), matches) < 0.02


def test_fit_is_where_the_penalised_likelihood_is_flat(random):
    features, matches = random.normal(size=(40, 2)), random.uniform(size=40) < 0.4
    counts = random.uniform(size=40)
    fitted = Calibration.fit(features, matches, sample_weights=counts, penalty=0.7)
    rest = counts * (fitted.probability(features) - matches)
    np.testing.assert_allclose(features.T @ rest + 0.7 * np.array(fitted.weights), 0, atol=1e-4)
    np.testing.assert_allclose(rest.sum() + 0.007 * fitted.bias, 0, atol=1e-4)


def test_separable_data_and_great_features_give_finite_coefficients():
    features = np.array([[-1e4], [-9e3], [9e3], [1e4]])
    fitted = Calibration.fit(features, np.array([False, False, True, True]))
    assert np.isfinite([*fitted.weights, fitted.bias]).all()
    assert fitted.probability(features).round().tolist() == [0, 0, 1, 1]
    assert Calibration((1.0,), 0.0).probability(np.array([[-1e9], [1e9]])).tolist() == [0, 1]


def test_sample_weights_count_as_repetitions(random):
    features, matches = random.normal(size=(30, 2)), random.uniform(size=30) < 0.5
    counts = random.integers(1, 4, size=30)
    weighted = Calibration.fit(features, matches, sample_weights=counts)
    repeated = Calibration.fit(np.repeat(features, counts, axis=0), np.repeat(matches, counts))
    np.testing.assert_allclose(weighted.weights, repeated.weights, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.ones((3, 2)), [True, True, True]), {}, "matches are all alike"),
        ((np.ones((3, 2)), [True, False]), {}, r"matches \(2,\)"),
        ((np.full((2, 2), np.nan), [True, False]), {}, "features must be finite"),
        ((np.ones((2, 2)), [True, False]), {"penalty": 0}, "penalty above 0"),
        ((np.ones((2, 2)), [True, False]), {"sample_weights": [1, 0]}, "matches are all alike"),
    ],
)
def test_what_cannot_be_fitted_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        Calibration.fit(*arguments, **options)


def test_default_is_surer_of_higher_scores_and_of_ordinary_queries():
    start = np.array([[2.5, 0.0, 0.0]])
    for position in range(3):
        more = start.copy()
        more[0, position] += 1
        assert DEFAULT_CALIBRATION.probability(more) > DEFAULT_CALIBRATION.probability(start)
    assert 0 < SUGGESTED_MIN_CONFIDENCE < 1
    with pytest.raises(ValueError, match=r"features is \(1, 2\): must be \(n, 3\)"):
        DEFAULT_CALIBRATION.probability(np.ones((1, 2)))


def test_reliability_worked_out_by_hand():
    stated, observed, counts = reliability(
        np.array([0.1, 0.2, 0.3, 0.9, 1.0]), np.array([0, 0, 1, 1, 1], bool), num_bins=4
    )
    assert counts.tolist() == [2, 1, 0, 2]
    np.testing.assert_allclose(stated, [0.15, 0.3, np.nan, 0.95])
    np.testing.assert_allclose(observed, [0, 1, np.nan, 1])
    error = expected_calibration_error(
        np.array([0.1, 0.2, 0.3, 0.9, 1.0]), np.array([0, 0, 1, 1, 1], bool), num_bins=4
    )
    assert error == pytest.approx((2 * 0.15 + 1 * 0.7 + 2 * 0.05) / 5)


@pytest.mark.parametrize(
    ("probabilities", "matches"), [([0.5], [True, False]), ([], []), ([1.1], [True])]
)
def test_probabilities_that_are_none_are_refused(probabilities, matches):
    with pytest.raises(ValueError, match="probabilities"):
        reliability(np.array(probabilities), np.array(matches, bool))
