"""Relevance and what a user is for -> an order, in which relevance has the say.

A hit may pass another only where their relevance is close: what a user is for adds at most `bound`
to a score, or takes as much off, so hits that lie at least twice as far apart keep their order.
"""

from collections.abc import Sequence

import numpy as np

__all__ = ["personal_order"]


def personal_order(scores: Sequence[float], personal: np.ndarray, *, bound: float) -> list[int]:
    """Orders hits.

    Args:
        scores: of their relevance, in the order in which they were found. That order holds at each
            place where a score is higher than the one before, as there it is not by score.
        personal: `(n,)`, -1 to 1.
        bound: of what is added to a score, in its unit.

    Returns:
        The positions of the hits in the new order; of equal ones in the one before.

    Raises:
        ValueError: a bound below 0, or other than n scores.
    """
    if not bound >= 0 or len(scores) != len(personal):
        raise ValueError(
            f"bound={bound}, {len(scores)} scores, {len(personal)} of the user: the bound must be "
            "at least 0, and there must be as many of both"
        )
    if not len(scores):
        return []
    relevance = np.asarray(scores, np.float64)
    group = np.cumsum(np.diff(relevance, prepend=relevance[0]) > 0)
    added = relevance + bound * np.clip(personal, -1.0, 1.0)
    return np.lexsort((np.arange(len(relevance)), -added, group)).tolist()
