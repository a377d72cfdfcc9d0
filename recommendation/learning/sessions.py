"""Events -> sessions, and how well scores order the events inside them."""

from dataclasses import dataclass

import numpy as np

__all__ = ["GAP_MS", "SessionAuc", "auc", "session_auc", "sessions_of"]

GAP_MS = 30 * 60 * 1000  # between two events of a session at most


@dataclass(frozen=True)
class SessionAuc:
    """Of each session with both labels.

    Attributes:
        auc: `(n,)`.
        num_events: `(n,)`, which weigh it.
    """

    auc: np.ndarray
    num_events: np.ndarray

    @property
    def mean(self) -> float:
        """The mean weighted by events; NaN where no session has both labels."""
        if not len(self.auc):
            return float("nan")
        return float((self.auc * self.num_events).sum() / self.num_events.sum())


def sessions_of(user: np.ndarray, time_ms: np.ndarray) -> np.ndarray:
    """Numbers sessions: a user's events, of which each follows the one before within `GAP_MS`.

    Args:
        user: `(n,)` ids.
        time_ms: `(n,)`, in any order.

    Returns:
        `(n,)` numbers from 0, by user, then by time.
    """
    if not len(user):
        return np.zeros(0, np.int64)
    order = np.lexsort((time_ms, user))
    sorted_user, sorted_time = user[order], time_ms[order]
    begins = np.ones(len(user), bool)
    begins[1:] = (sorted_user[1:] != sorted_user[:-1]) | (np.diff(sorted_time) > GAP_MS)
    numbers = np.empty(len(user), np.int64)
    numbers[order] = np.cumsum(begins) - 1
    return numbers


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Returns the share of pairs of a positive and a negative that scores order rightly; ties count
    half. NaN without either."""
    found = session_auc(labels, scores, np.zeros(len(labels), np.int64))
    return found.mean


def session_auc(labels: np.ndarray, scores: np.ndarray, session: np.ndarray) -> SessionAuc:
    """Computes the AUC inside each session that has both labels; ties count half.

    By ranks, the mean for ties (Mann and Whitney 1947).
    """
    if not len(labels):
        return SessionAuc(np.zeros(0), np.zeros(0, np.int64))
    order = np.lexsort((scores, session))
    score, is_positive = scores[order], labels[order] > 0
    _, first, group, sizes = np.unique(
        session[order], return_index=True, return_inverse=True, return_counts=True
    )
    begins = np.ones(len(score), bool)
    begins[1:] = (np.diff(group) != 0) | (np.diff(score) != 0)
    starts = np.flatnonzero(begins)
    num_tied = np.diff(np.append(starts, len(score)))
    rank = (starts + (num_tied + 1) / 2)[np.cumsum(begins) - 1] - first[group]
    num_positive = np.bincount(group, is_positive)
    rank_sum = np.bincount(group, rank * is_positive)
    has_both = (num_positive > 0) & (num_positive < sizes)
    p, n = num_positive[has_both], sizes[has_both]
    return SessionAuc((rank_sum[has_both] - p * (p + 1) / 2) / (p * (n - p)), n)
