"""A recommender and held-out items -> how well it finds them, and what its lists are like."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from reelseek.recommendation import metrics
from reelseek.recommendation.beyond_accuracy import list_statistics
from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.data.splits import HeldOut
from reelseek.recommendation.recommender import Progress, Recommender, silent

__all__ = ["measure"]

CUTS = (10, 20)
_BATCH_NUMBERS = 8_000_000  # scores that are in memory at once, 32 MB


def measure(
    recommender: Recommender,
    held_out: HeldOut,
    *,
    training: Sequences,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Ranks the whole catalogue for each user.

    Args:
        recommender: fitted on `training`.

    Returns:
        `R@10`, `NDCG@10`, `R@20`, `NDCG@20` with their 95 % `intervals` (bootstrap over users),
        `num_users`, `num_items`; of the first ten items `coverage@10`, `novelty@10`,
        `popularity_lift@10`, `gini@10` (see `list_statistics`); and under `cold` what becomes of
        targets that nobody chose in training.
    """
    ranks, lists = _ranks_and_lists(recommender, held_out, progress=progress)
    per_user = {
        f"{name}@{k}": np.array([function(k, each) for each in ranks])
        for k in CUTS
        for name, function in (("R", metrics.recall_at), ("NDCG", metrics.ndcg_at))
    }
    item_counts = np.asarray(training.matrix().sum(axis=0)).ravel()
    described = list_statistics(
        lists, item_counts, num_trained_users=training.num_users, histories=held_out.histories
    )
    return {
        **{name: _rounded(values.mean()) for name, values in per_user.items()},
        "num_users": len(ranks),
        "num_items": training.num_items,
        "intervals": {
            name: [_rounded(bound) for bound in metrics.bootstrap_interval(values)]
            for name, values in per_user.items()
        },
        "coverage@10": _rounded(described.coverage),
        "novelty@10": _rounded(described.novelty),
        "popularity_lift@10": _rounded(described.popularity_lift),
        "gini@10": _rounded(described.gini),
        "cold": _cold(
            np.concatenate(ranks),
            item_counts[np.concatenate(held_out.targets)] == 0,
            num_items=training.num_items,
        ),
    }


def _ranks_and_lists(
    recommender: Recommender, held_out: HeldOut, *, progress: Progress
) -> tuple[list[np.ndarray], np.ndarray]:
    """The ranks of each user's targets, and each user's first items, `(num_users, CUTS[0])`."""
    ranks: list[np.ndarray] = []
    lists: list[np.ndarray] = []
    num_users = len(held_out.targets)
    batch = 256
    first = 0
    while first < num_users:
        known: Sequence[np.ndarray] = held_out.histories[first : first + batch]
        scores = np.array(recommender.scores(known), np.float32)
        metrics.mask_seen(scores, known)
        lists.append(metrics.top_k(scores, CUTS[0]))
        for row, targets in zip(scores, held_out.targets[first : first + batch], strict=True):
            ranks.append(metrics.ranks_of(row, targets))
        first += len(known)
        batch = max(1, min(1024, _BATCH_NUMBERS // scores.shape[1]))
        progress(first / num_users, "users asked")
    return ranks, np.concatenate(lists)


def _cold(ranks: np.ndarray, is_cold: np.ndarray, *, num_items: int) -> dict[str, Any]:
    """How targets without history fare. By chance, R@k is k / num_items and the percentile 50.

    Args:
        ranks: `(num_targets,)`.
        is_cold: `(num_targets,)` bool.
    """
    found = ranks[is_cold]
    below = 1 - (np.minimum(found, num_items) - 1) / max(num_items - 1, 1)
    return {
        "num_targets": len(found),
        **{f"R@{k}": _rounded((found <= k).mean()) if len(found) else None for k in CUTS},
        "R@10_by_chance": _rounded(CUTS[0] / max(num_items, 1)),
        "mean_percentile": _rounded(100 * below.mean()) if len(found) else None,
    }


def _rounded(value: float | np.floating) -> float:
    return round(float(value), 5)
