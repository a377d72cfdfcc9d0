"""Logits of the transformer and scores of transitions -> one score, and how much each counts."""

from collections.abc import Sequence

import numpy as np

__all__ = ["blend", "choose_weight", "mean_gain"]

# An item's part of a user's transition scores that says hardly more than none does.
_SMALL_SHARE = 1e-4
_CUT = 20  # as many as are shown
WEIGHTS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)


def blend(logits: np.ndarray, transition_scores: np.ndarray, weight: float) -> np.ndarray:
    """Returns `logits + weight * log(1 + share / small)`, where a share is an item's part of a
    user's transition scores: a product of two models' opinions, in which items that never came near
    those of the history keep the transformer's score.

    Args:
        logits: `(B, N)` float32.
        transition_scores: `(B, N)`, at least 0.
        weight: at least 0.
    """
    total = transition_scores.sum(axis=1, keepdims=True)
    share = transition_scores / np.maximum(total, np.finfo(np.float32).tiny)
    return np.asarray(logits + np.float32(weight) * np.log1p(share / _SMALL_SHARE), np.float32)


def choose_weight(
    logits: np.ndarray,
    transition_scores: np.ndarray,
    *,
    histories: Sequence[np.ndarray],
    targets: np.ndarray,
    weights: Sequence[float] = WEIGHTS,
) -> tuple[float, dict[float, float]]:
    """Chooses the weight that ranks held-out items best.

    Args:
        logits, transition_scores: `(B, N)` of users of whom one item was held out.
        histories: of these users; what they have seen is not ranked.
        targets: `(B,)` the held-out items.
        weights: to choose from, the smallest first; among equals the smallest is chosen.

    Returns:
        The weight, and the `mean_gain` of each.
    """
    gains = {
        weight: mean_gain(
            blend(logits, transition_scores, weight), histories=histories, targets=targets
        )
        for weight in weights
    }
    return max(gains, key=lambda weight: gains[weight]), gains


def mean_gain(
    scores: np.ndarray,
    *,
    histories: Sequence[np.ndarray],
    targets: np.ndarray,
    cut: int = _CUT,
) -> float:
    """Returns NDCG@cut where each user has one right item: the mean of `1 / log2(1 + rank)`, or 0
    beyond the cut. What the user has seen is not ranked; a tie counts against the system."""
    gains = []
    for row, history, target in zip(scores, histories, targets, strict=True):
        is_other = np.ones(len(row), bool)
        is_other[history] = False
        is_other[target] = False
        rank = 1 + np.count_nonzero(row[is_other] >= row[target])
        gains.append(1 / np.log2(1 + rank) if rank <= cut else 0.0)
    return float(np.mean(gains)) if gains else 0.0
