"""A hit's score, and what queries in general score -> the probability that the hit matches.

A score alone says little: some phrases score high everywhere, some videos attract every phrase, and
the nearest of many videos is near to anything. A few hundred everyday queries, asked of the same
collection, are the background that a hit is seen against.
"""

from dataclasses import dataclass

import numpy as np

FEATURE_NAMES = ("height", "beyond", "ordinariness")
_MARGIN_RANK = 4  # of an item's background scores: the best few may be right for it
_NUM_NEAREST = 3
_MIN_SPREAD = 1e-6
_MAX_STEPS = 100
_PRECISION = 1e-10


@dataclass(frozen=True, eq=False)
class Background:
    """What background queries score in a collection; `measure` makes it.

    Attributes:
        queries: `(B, D)`, their embeddings.
        mean, spread: of their scores over items of the collection (standard deviation).
        near_mean, near_spread: of each query's similarity to the background queries nearest to it.
    """

    queries: np.ndarray
    mean: float
    spread: float
    near_mean: float
    near_spread: float

    @classmethod
    def measure(cls, queries: np.ndarray, items: np.ndarray) -> "Background":
        """Asks the background queries.

        Args:
            queries: `(B, D)`, embeddings of `text.everyday_queries()` or others, more than four.
            items: `(N, D)`, of the collection, or some hundred drawn at random from it; of the
                level (videos or segments) that is searched.

        Raises:
            ValueError: shapes that do not fit, or too few queries.
        """
        queries, items = np.asarray(queries), np.asarray(items)
        if queries.ndim != 2 or items.ndim != 2 or queries.shape[1:] != items.shape[1:]:
            raise ValueError(
                f"queries is {queries.shape} and items {items.shape}: must be (B, D) and (N, D)"
            )
        if len(queries) <= _MARGIN_RANK or not len(items):
            raise ValueError(
                f"{len(queries)} background queries and {len(items)} items: must be at least "
                f"{_MARGIN_RANK + 1} and 1; give hundreds"
            )
        scores = queries @ items.T
        likeness = queries @ queries.T
        np.fill_diagonal(likeness, -np.inf)
        near = _mean_of_nearest(likeness)
        return cls(
            queries,
            float(scores.mean(dtype=np.float64)),
            max(float(scores.std(dtype=np.float64)), _MIN_SPREAD),
            float(near.mean()),
            max(float(near.std()), _MIN_SPREAD),
        )

    def features(self, query: np.ndarray, items: np.ndarray) -> np.ndarray:
        """How hits stand against the background.

        - height: the hit's score, in standard deviations above the background's mean.
        - beyond: by how many of them it is above what the fourth best background query scores for
          the same item, which holds back items that attract every query.
        - ordinariness: how near the query is to the background queries (mean of the three
          nearest), in standard deviations of what they are to each other. A collection more often
          holds what people often ask for, and a model more often knows it.

        Args:
            query: `(D,)`, L2-normalised.
            items: `(n, D)`, the hits' embeddings.

        Returns:
            `(n, 3)` float64, in the order of `FEATURE_NAMES`.
        """
        items = np.asarray(items)
        if items.ndim != 2 or query.shape != items.shape[1:]:
            raise ValueError(
                f"query is {query.shape} and items {items.shape}: must be (D,) and (n, D)"
            )
        # Not by BLAS, whose threads go on spinning and halve the speed of what PyTorch does next.
        scores = np.einsum("nd,d->n", items, query)
        every = np.einsum("bd,nd->nb", self.queries, items)
        usual = np.partition(every, -_MARGIN_RANK, axis=1)[:, -_MARGIN_RANK]
        near = _mean_of_nearest(np.einsum("bd,d->b", self.queries, query)[None])
        features = np.empty((len(items), len(FEATURE_NAMES)))
        features[:, 0] = (scores - self.mean) / self.spread
        features[:, 1] = (scores - usual) / self.spread
        features[:, 2] = (near - self.near_mean) / self.near_spread
        return features


@dataclass(frozen=True)
class Calibration:
    """Logistic regression: probability = 1 / (1 + exp(-(bias + weights . features))).

    Attributes:
        weights: one for each of `FEATURE_NAMES`.
        bias: of the logarithm of the odds.
    """

    weights: tuple[float, ...]
    bias: float

    def probability(self, features: np.ndarray) -> np.ndarray:
        """`(n, F)` -> `(n,)`, 0 to 1."""
        features = np.asarray(features, dtype=np.float64)
        if features.ndim != 2 or features.shape[1] != len(self.weights):
            raise ValueError(f"features is {features.shape}: must be (n, {len(self.weights)})")
        return _logistic(features @ np.array(self.weights) + self.bias)

    @classmethod
    def fit(
        cls,
        features: np.ndarray,
        matches: np.ndarray,
        *,
        sample_weights: np.ndarray | None = None,
        penalty: float = 1.0,
    ) -> "Calibration":
        """Maximum likelihood with a penalty of `penalty / 2` times the squared weights, by
        Newton's method.

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
        counts = (
            np.ones(len(matches)) if sample_weights is None else np.asarray(sample_weights, float)
        )
        if features.ndim != 2 or not matches.shape == counts.shape == features.shape[:1]:
            raise ValueError(
                f"features is {features.shape}, matches {matches.shape} and sample_weights "
                f"{counts.shape}: must be (n, F), (n,) and (n,)"
            )
        if not (np.isfinite(features).all() and (counts >= 0).all() and penalty > 0):
            raise ValueError("features must be finite, weights at least 0 and penalty above 0")
        if not (counts[matches].sum() > 0 and counts[~matches].sum() > 0):
            raise ValueError("matches are all alike: give hits that match, and hits that do not")
        rows = np.concatenate([features, np.ones((len(features), 1))], axis=1)
        # The bias bears a hundredth of the penalty, so that separable data have an optimum.
        ridge = penalty * np.append(np.ones(features.shape[1]), 0.01)
        solution = np.zeros(rows.shape[1])
        value = _loss(solution, rows, matches, counts, ridge)
        for _ in range(_MAX_STEPS):
            expected = _logistic(rows @ solution)
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
        return cls(tuple(solution[:-1].tolist()), float(solution[-1]))


# Fitted with the built-in model to the best hits of 170 short English queries, 99 of which have
# an answer among 2,721 videos and photographs, and of 44 asked of videos that show nothing of the
# kind, as if a query had an answer as often as not: `benchmarks/confidence.py`. The features have
# no unit, so it may serve for other models, but was measured with none.
DEFAULT_CALIBRATION = Calibration((0.469, 0.318, 0.767), -1.984)
# At which four of five short queries that have an answer still get one.
SUGGESTED_MIN_CONFIDENCE = 0.47


def expected_calibration_error(
    probabilities: np.ndarray, matches: np.ndarray, *, num_bins: int = 10
) -> float:
    """How far stated and observed probabilities are apart, on average over the hits, in bins of
    equal width (Naeini et al. 2015; Guo et al. 2017, equation 3)."""
    stated, observed, counts = reliability(probabilities, matches, num_bins=num_bins)
    filled = counts > 0
    gaps = np.abs(stated[filled] - observed[filled])
    return float(gaps @ counts[filled] / counts.sum())


def reliability(
    probabilities: np.ndarray, matches: np.ndarray, *, num_bins: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a reliability diagram draws.

    Args:
        probabilities: `(n,)`, 0 to 1.
        matches: `(n,)` bool.
        num_bins: of equal width.

    Returns:
        The mean stated probability, the share that matches (NaN both where a bin is empty) and the
        number of hits, `(num_bins,)` each.

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


def _mean_of_nearest(likeness: np.ndarray) -> np.ndarray:
    """`(n, B)` -> `(n,)` float64."""
    nearest = np.partition(likeness, -_NUM_NEAREST, axis=1)[:, -_NUM_NEAREST:]
    return nearest.mean(axis=1, dtype=np.float64)


def _logistic(logits: np.ndarray) -> np.ndarray:
    """Without overflow at either end."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, small) / (1.0 + small)


def _loss(
    solution: np.ndarray,
    rows: np.ndarray,
    matches: np.ndarray,
    counts: np.ndarray,
    ridge: np.ndarray,
) -> float:
    logits = rows @ solution
    return float(counts @ (np.logaddexp(0.0, logits) - matches * logits) + ridge @ solution**2 / 2)
