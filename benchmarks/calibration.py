"""Features of hits, and whether they match -> a fitted `Calibration`, and how far it is off."""

import numpy as np

from reelseek.ranking.confidence import Calibration, logistic

_MAX_STEPS = 100
_PRECISION = 1e-10


def fit_calibration(
    features: np.ndarray,
    matches: np.ndarray,
    *,
    sample_weights: np.ndarray | None = None,
    penalty: float = 1.0,
) -> Calibration:
    """Fits a calibration by maximum likelihood with a penalty of `penalty / 2` times the squared
    weights, by Newton's method.

    Args:
        features: `(n, F)`.
        matches: `(n,)` bool, of which some are true and some false.
        sample_weights: `(n,)`, at least 0; default 1. Those of matches and of the rest say how
            probable a match is before anything is known.
        penalty: above 0, in the unit of the number of samples.

    Raises:
        ValueError: shapes that do not fit, values out of range, or one class only.
    """
    features = np.asarray(features, dtype=np.float64)
    matches = np.asarray(matches, dtype=bool)
    counts = np.ones(len(matches)) if sample_weights is None else np.asarray(sample_weights, float)
    if features.ndim != 2 or not matches.shape == counts.shape == features.shape[:1]:
        raise ValueError(
            f"features is {features.shape}, matches {matches.shape} and sample_weights "
            f"{counts.shape}: must be (n, F), (n,) and (n,)"
        )
    if not (np.isfinite(features).all() and (counts >= 0).all() and penalty > 0):
        raise ValueError("features must be finite, weights at least 0 and penalty above 0")
    if not (counts[matches].sum() > 0 and counts[~matches].sum() > 0):
        raise ValueError("matches are all alike: give hits that match, and hits that do not")
    solution = _minimise(features, matches, counts, penalty=penalty)
    return Calibration(tuple(solution[:-1].tolist()), float(solution[-1]))


def expected_calibration_error(
    probabilities: np.ndarray, matches: np.ndarray, *, num_bins: int = 10
) -> float:
    """Returns the mean distance between stated and observed probabilities over the hits, in bins
    of equal width (Naeini et al. 2015; Guo et al. 2017, equation 3)."""
    stated, observed, counts = reliability(probabilities, matches, num_bins=num_bins)
    filled = counts > 0
    gaps = np.abs(stated[filled] - observed[filled])
    return float(gaps @ counts[filled] / counts.sum())


def reliability(
    probabilities: np.ndarray, matches: np.ndarray, *, num_bins: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the points of a reliability diagram.

    Args:
        probabilities: `(n,)`, 0 to 1.
        matches: `(n,)` bool.
        num_bins: of equal width.

    Returns:
        The mean stated probability, the fraction that matches (NaN both where a bin is empty) and
        the number of hits, `(num_bins,)` each.

    Raises:
        ValueError: shapes that do not fit, nothing given, or probabilities out of range.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    matches = np.asarray(matches, dtype=bool)
    if probabilities.shape != matches.shape or probabilities.ndim != 1 or not len(matches):
        raise ValueError(
            f"probabilities is {probabilities.shape} and matches {matches.shape}: must be (n,) both"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("probabilities are out of range: must be 0 to 1")
    bins = np.minimum((probabilities * num_bins).astype(int), num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        stated = np.bincount(bins, probabilities, minlength=num_bins) / counts
        observed = np.bincount(bins, matches, minlength=num_bins) / counts
    return stated, observed, counts


def _minimise(
    features: np.ndarray, matches: np.ndarray, counts: np.ndarray, *, penalty: float
) -> np.ndarray:
    """`(F + 1,)`, the weights and last the bias."""
    rows = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    # The bias bears a hundredth of the penalty, so that separable data have an optimum.
    ridge = penalty * np.append(np.ones(features.shape[1]), 0.01)
    solution = np.zeros(rows.shape[1])
    value = _loss(solution, rows, matches, counts, ridge)
    for _ in range(_MAX_STEPS):
        expected = logistic(rows @ solution)
        gradient = rows.T @ (counts * (expected - matches)) + ridge * solution
        curvature = (rows.T * (counts * expected * (1 - expected))) @ rows + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0  # halved until the loss falls, as it does for a small enough step
        while (after := _loss(solution - size * step, rows, matches, counts, ridge)) > value:
            size /= 2
            if size < _PRECISION:
                break
        if size < _PRECISION:
            break
        solution = solution - size * step
        if value - after <= _PRECISION * max(1.0, value):
            break
        value = after
    return solution


def _loss(
    solution: np.ndarray,
    rows: np.ndarray,
    matches: np.ndarray,
    counts: np.ndarray,
    ridge: np.ndarray,
) -> float:
    logits = rows @ solution
    return float(counts @ (np.logaddexp(0.0, logits) - matches * logits) + ridge @ solution**2 / 2)
