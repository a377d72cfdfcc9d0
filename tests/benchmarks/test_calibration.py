import numpy as np
import pytest

from benchmarks.calibration import expected_calibration_error, fit_calibration, reliability
from reelseek.ranking.confidence import Calibration


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_fit_finds_the_coefficients_that_made_the_data(random):
    features = random.normal(size=(20_000, 3))
    made = Calibration((1.0, -2.0, 0.0), 0.5)
    matches = random.uniform(size=20_000) < made.probability(features)
    fitted = fit_calibration(features, matches)
    np.testing.assert_allclose([*fitted.weights, fitted.bias], [1, -2, 0, 0.5], atol=0.08)
    assert expected_calibration_error(fitted.probability(features), matches) < 0.02


def test_fit_is_where_the_penalised_likelihood_is_flat(random):
    features, matches = random.normal(size=(40, 2)), random.uniform(size=40) < 0.4
    counts = random.uniform(size=40)
    fitted = fit_calibration(features, matches, sample_weights=counts, penalty=0.7)
    rest = counts * (fitted.probability(features) - matches)
    np.testing.assert_allclose(features.T @ rest + 0.7 * np.array(fitted.weights), 0, atol=1e-4)
    np.testing.assert_allclose(rest.sum() + 0.007 * fitted.bias, 0, atol=1e-4)


def test_separable_data_and_great_features_give_finite_coefficients():
    features = np.array([[-1e4], [-9e3], [9e3], [1e4]])
    fitted = fit_calibration(features, np.array([False, False, True, True]))
    assert np.isfinite([*fitted.weights, fitted.bias]).all()
    assert fitted.probability(features).round().tolist() == [0, 0, 1, 1]
    assert Calibration((1.0,), 0.0).probability(np.array([[-1e9], [1e9]])).tolist() == [0, 1]


def test_sample_weights_count_as_repetitions(random):
    features, matches = random.normal(size=(30, 2)), random.uniform(size=30) < 0.5
    counts = random.integers(1, 4, size=30)
    weighted = fit_calibration(features, matches, sample_weights=counts)
    repeated = fit_calibration(np.repeat(features, counts, axis=0), np.repeat(matches, counts))
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
        fit_calibration(*arguments, **options)


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
