"""Scores of all items -> the ranks of the right ones, and what those are worth.

Every unseen item of the catalogue is ranked; sampled candidates would order recommenders wrongly
(Krichene and Rendle, KDD 2020, "On Sampled Metrics for Item Recommendation", section 4).
"""

from collections.abc import Sequence

import numpy as np

__all__ = ["NEVER", "bootstrap_interval", "mask_seen", "ndcg_at", "ranks_of", "recall_at", "top_k"]

NEVER = np.iinfo(np.int64).max  # rank of an item that cannot be recommended

_BLOCK_SIZE = 4_000_000  # numbers that one block of resamples draws


def mask_seen(scores: np.ndarray, seen: Sequence[np.ndarray]) -> None:
    """Sets the scores of items that users have seen to -inf, in place.

    Args:
        scores: `(B, num_items)`.
        seen: of each user, the item indices.

    Raises:
        ValueError: a score is NaN, so that it has no rank.
    """
    if np.isnan(scores).any():
        raise ValueError("scores hold NaN: a recommender must score every item with a number")
    rows = np.repeat(np.arange(len(seen)), [len(items) for items in seen])
    scores[rows, np.concatenate([np.zeros(0, np.int32), *seen])] = -np.inf


def ranks_of(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Ranks the right items of one user; a tie counts against the system.

    The rank is 1 + the number of wrong items that score at least as high + the number of right
    ones before it.

    Args:
        scores: `(num_items,)`, -inf for those that were seen.
        targets: `(n,)`, the indices of the right items, each once.

    Returns:
        `(n,)` int64, 1-based, in the order of the targets; `NEVER` for those that score -inf.
    """
    order = np.argsort(-scores[targets], kind="stable")
    of_targets = scores[targets[order]]
    # All items at least as high, less the right ones among them, which are no obstacle.
    num_at_least = np.array([np.count_nonzero(scores >= score) for score in of_targets], np.int64)
    targets_at_least = np.searchsorted(-of_targets, -of_targets, side="right")
    sorted_ranks = 1 + num_at_least - targets_at_least + np.arange(len(targets))
    ranks = np.empty(len(targets), np.int64)
    ranks[order] = np.where(of_targets > -np.inf, sorted_ranks, NEVER)
    return ranks


def recall_at(k: int, ranks: np.ndarray) -> float:
    """Returns the share of one user's right items that rank among the first k."""
    return float(np.count_nonzero(ranks <= k)) / len(ranks)


def ndcg_at(k: int, ranks: np.ndarray) -> float:
    """Normalised discounted cumulative gain (Järvelin and Kekäläinen 2002) of one user, with the
    gain 1 for each right item; the ideal has min(k, number of right items) of them first."""
    found = ranks[ranks <= k]
    ideal = np.arange(1, min(k, len(ranks)) + 1)
    return float((1 / np.log2(found + 1)).sum() / (1 / np.log2(ideal + 1)).sum())


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Returns the indices of the best k items of each row, `(B, k)` int64, best first; -1 where a
    row has fewer that are not -inf. Equal scores go by index."""
    num = min(k, scores.shape[1])
    if num < scores.shape[1]:
        found = np.argpartition(-scores, num - 1, axis=1)[:, :num]
    else:
        found = np.tile(np.arange(num), (len(scores), 1))
    found.sort(axis=1)
    values = np.take_along_axis(scores, found, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    best = np.take_along_axis(found, order, axis=1)
    best[np.take_along_axis(values, order, axis=1) == -np.inf] = -1
    return np.pad(best, ((0, 0), (0, k - num)), constant_values=-1)


def bootstrap_interval(
    values: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the 95 % percentile interval of a mean (Efron and Tibshirani 1993, section 13.3).

    Args:
        values: `(n,)`, one for each thing that is drawn, such as a user.
        weights: `(n,)`; with them the mean is `sum(weights * values) / sum(weights)`.

    Returns:
        Both bounds; NaN where there are no values.
    """
    if not len(values):
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = []
    for first in range(0, num_resamples, max(1, _BLOCK_SIZE // len(values))):
        num = min(num_resamples - first, max(1, _BLOCK_SIZE // len(values)))
        drawn = rng.integers(len(values), size=(num, len(values)))
        if weights is None:
            means.append(values[drawn].mean(axis=1))
        else:
            total = weights[drawn].sum(axis=1)
            with np.errstate(invalid="ignore", divide="ignore"):
                means.append((weights * values)[drawn].sum(axis=1) / total)
    low, high = np.nanquantile(np.concatenate(means), (0.025, 0.975))
    return float(low), float(high)
