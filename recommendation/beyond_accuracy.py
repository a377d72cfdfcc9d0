"""What lists of recommendations are like, besides right: how many items they reach, how well known
those are, and whether items without history are found."""

from dataclasses import dataclass

import numpy as np

__all__ = ["ListStatistics", "list_statistics"]


@dataclass(frozen=True)
class ListStatistics:
    """Of the first k items of all lists.

    Attributes:
        coverage: share of the catalogue that is in at least one list, 0 to 1.
        novelty: mean of -log2 of the share of trained users who chose an item, in bits (Zhou et
            al. 2010, PNAS 107 (10), "Solving the apparent diversity-accuracy dilemma"); an item
            that nobody chose counts like one that half a user did.
        popularity_lift: how much more often the recommended items were chosen, on average, than
            those of the users' own histories, relative to these: 0 where a recommender is as
            popular as what users choose, 1 where it is twice as popular (Abdollahpouri et al.
            2020, RecSys, "The Connection Between Popularity Bias, Calibration, and Fairness in
            Recommendation", section 3).
        gini: how unequally the items of the catalogue are shown, 0 to 1.
    """

    coverage: float
    novelty: float
    popularity_lift: float
    gini: float


def list_statistics(
    lists: np.ndarray,
    item_counts: np.ndarray,
    *,
    num_trained_users: int,
    histories: list[np.ndarray],
) -> ListStatistics:
    """Describes lists of recommendations.

    Args:
        lists: `(num_users, k)` item indices; -1 for no item.
        item_counts: `(num_items,)`, users who chose each item in training.
        histories: of the same users, item indices; those without any are left out of the lift.
    """
    shown = lists[lists >= 0]
    exposure = np.bincount(shown, minlength=len(item_counts))
    share = np.maximum(item_counts, 0.5) / max(num_trained_users, 1)
    has_both = np.array([len(h) > 0 for h in histories], bool) & (lists >= 0).any(axis=1)
    recommended = [item_counts[row[row >= 0]].mean() for row in lists[has_both]]
    chosen = [item_counts[histories[user]].mean() for user in np.flatnonzero(has_both)]
    own = float(np.mean(chosen)) if chosen else 0.0
    return ListStatistics(
        coverage=float(np.count_nonzero(exposure) / max(len(item_counts), 1)),
        novelty=float(-np.log2(share[shown]).mean()) if len(shown) else float("nan"),
        popularity_lift=float(np.mean(recommended)) / own - 1 if own > 0 else float("nan"),
        gini=_gini(exposure),
    )


def _gini(exposure: np.ndarray) -> float:
    """The Gini coefficient of `(num_items,)` counts; NaN where all are 0."""
    total = exposure.sum()
    if not total:
        return float("nan")
    n = len(exposure)
    ranks = np.arange(1, n + 1)
    return float((2 * ranks - n - 1) @ np.sort(exposure) / (n * total))
