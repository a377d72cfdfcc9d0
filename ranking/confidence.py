"""A hit's score and the scores of background queries -> the probability that the hit matches.

A score alone says little: some phrases score high everywhere, some videos attract every phrase, and
the nearest of many videos is near to anything. A few hundred everyday queries, scored against the
same collection, are the background that a hit is compared with.
"""

from dataclasses import dataclass

import numpy as np

FEATURE_NAMES = ("score_z", "margin", "query_typicality")
_MARGIN_RANK = 4  # of an item's background scores: the best few may be right for it
_NUM_NEAREST = 3
_MIN_SPREAD = 1e-6


@dataclass(frozen=True, eq=False)
class Background:
    """Statistics of background queries in a collection; made by `measure`.

    Attributes:
        queries: `(B, D)`, their embeddings.
        mean, spread: mean and standard deviation of their scores over items of the collection.
        near_mean, near_spread: the same of each query's similarity to the background queries
            nearest to it.
    """

    queries: np.ndarray
    mean: float
    spread: float
    near_mean: float
    near_spread: float

    @classmethod
    def measure(cls, queries: np.ndarray, items: np.ndarray) -> "Background":
        """Scores the background queries against the collection.

        Args:
            queries: `(B, D)`, embeddings of `text.everyday_queries()` or others, more than four.
            items: `(N, D)`, embeddings of the collection, or a random sample of some hundred; whole
                videos or segments, whichever is searched.

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

    def features(
        self, query: np.ndarray, items: np.ndarray, *, num_compared: int | None = None
    ) -> np.ndarray:
        """Returns the features of a query's hits.

        - score_z: the hit's score, in standard deviations above the background's mean.
        - margin: the hit's score above that of the fourth best background query for the same item,
          in the same unit. It holds back items that attract every query.
        - query_typicality: mean similarity of the query to its three nearest background queries,
          in standard deviations above their similarity to each other. Collections hold more often,
          and models know better, what people often ask for.

        Args:
            query: `(D,)`, L2-normalised.
            items: `(n, D)`, the hits' embeddings.
            num_compared: background queries whose scores the margin is above, at least four: of
                fewer than all it is no smaller, and takes less time. None for all.

        Returns:
            `(n, 3)` float64, in the order of `FEATURE_NAMES`.
        """
        items = np.asarray(items)
        if items.ndim != 2 or query.shape != items.shape[1:]:
            raise ValueError(
                f"query is {query.shape} and items {items.shape}: must be (D,) and (n, D)"
            )
        # Not by BLAS, whose threads go on spinning and halve PyTorch's speed right after.
        scores = np.einsum("nd,d->n", items, query)
        every = np.einsum("bd,nd->nb", self.queries[:num_compared], items)
        fourth = np.partition(every, -_MARGIN_RANK, axis=1)[:, -_MARGIN_RANK]
        near = _mean_of_nearest(np.einsum("bd,d->b", self.queries, query)[None])
        features = np.empty((len(items), len(FEATURE_NAMES)))
        features[:, 0] = (scores - self.mean) / self.spread
        features[:, 1] = (scores - fourth) / self.spread
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
        # Not by BLAS, which rounds a row by the number of rows beside it.
        return logistic(np.einsum("nf,f->n", features, np.array(self.weights)) + self.bias)


# Fitted with the model `mini_fast` by `benchmarks/confidence.py`: to the best hits of 170 short
# English queries, 99 of them with an answer among 2,721 videos and photographs, and of 44 queries
# of videos that show nothing of the kind; half of the weight is on queries with an answer. The
# features have no unit, so other models may use it, but it was measured with none.
DEFAULT_CALIBRATION = Calibration((0.469, 0.318, 0.767), -1.984)
# Four of five short queries that have an answer still get one.
SUGGESTED_MIN_CONFIDENCE = 0.47


def _mean_of_nearest(likeness: np.ndarray) -> np.ndarray:
    """`(n, B)` -> `(n,)` float64."""
    nearest = np.partition(likeness, -_NUM_NEAREST, axis=1)[:, -_NUM_NEAREST:]
    return nearest.mean(axis=1, dtype=np.float64)


def logistic(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-logits)), without overflow at either end."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, small) / (1.0 + small)
