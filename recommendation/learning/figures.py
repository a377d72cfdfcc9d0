"""Predictions and labels -> AUC, session GAUC, calibration, and their intervals."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from reelseek.recommendation.learning.replaying import Replayed
from reelseek.recommendation.learning.sessions import auc, session_auc

__all__ = ["bootstrap", "calibration", "log_loss", "summary", "weighted_auc"]

_NUM_RESAMPLES = 300
_NUM_BINS = 10
_DIGITS = 4

Interval = tuple[float, float]


def weighted_auc(labels: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], float]:
    """Returns a function that gives the AUC of events with weights; ties count half.

    Scores are sorted once, as a bootstrap asks for many weights.
    """
    order = np.argsort(scores, kind="stable")
    is_positive = labels[order] > 0
    sorted_scores = scores[order]
    begins = np.flatnonzero(np.diff(sorted_scores, prepend=-np.inf))

    def of(weights: np.ndarray) -> float:
        weight = weights[order]
        positive = np.add.reduceat(weight * is_positive, begins)
        negative = np.add.reduceat(weight * ~is_positive, begins)
        total = positive.sum() * negative.sum()
        below = np.cumsum(negative) - negative / 2
        return float((positive * below).sum() / total) if total else math.nan

    return of


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray], num_sessions: int, *, seed: int = 0
) -> np.ndarray:
    """Draws sessions with replacement (Efron and Tibshirani 1993, section 13.3).

    Args:
        statistic: `(num_sessions,)` times that each was drawn -> `(num_figures,)`.

    Returns:
        `(2, num_figures)`, the bounds of 95 % percentile intervals; NaN where it is never defined.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(_NUM_RESAMPLES):
        counts = np.bincount(rng.integers(num_sessions, size=num_sessions), minlength=num_sessions)
        drawn.append(statistic(counts))
    samples = np.array(drawn)
    with np.errstate(all="ignore"):
        has_any = ~np.isnan(samples).all(axis=0)
        bounds = np.full((2, samples.shape[1]), math.nan)
        bounds[:, has_any] = np.nanquantile(samples[:, has_any], (0.025, 0.975), axis=0)
    return bounds


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float(-np.log(np.where(labels > 0, probabilities, 1 - probabilities)).mean())


def calibration(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Returns `ratio`, predicted by observed positives, and `error`, the expected calibration error
    over bins of equal size (Naeini et al., AAAI 2015)."""
    order = np.argsort(probabilities, kind="stable")
    bins = np.array_split(order, min(_NUM_BINS, len(order)))
    gaps = [abs(probabilities[each].mean() - labels[each].mean()) * len(each) for each in bins]
    observed = labels.sum()
    return {
        "ratio": _rounded(probabilities.sum() / observed if observed else math.nan),
        "error": _rounded(sum(gaps) / len(labels)),
        "log_loss": _rounded(log_loss(labels, probabilities)),
    }


def summary(
    replayed: Replayed,
    labels: np.ndarray,
    *,
    head: int,
    slices: dict[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Returns the figures of a replay, ready for JSON.

    Args:
        labels: `(n,)`, of the measured events.
        head: whose predictions are measured.
        slices: name -> `(n,)` bool, events that are measured apart.
    """
    if not len(labels):
        raise ValueError("there are no events from measure_from on; name an earlier time")
    online, frozen = replayed.online[:, head], replayed.frozen[:, head]
    names = ("AUC", "session_GAUC", "frozen AUC", "frozen session_GAUC", "lift", "session_lift")
    figures = _figures(replayed, labels, head=head)
    sessions = int(replayed.session.max()) + 1
    values = figures(np.ones(sessions))
    bounds = dict(zip(names, bootstrap(figures, sessions).T.tolist(), strict=True))
    intervals = {name: [_rounded(bound) for bound in bounds[name]] for name in names}
    return {
        "AUC": _rounded(values[0]),
        "session_GAUC": _rounded(values[1]),
        "num_events": len(labels),
        "num_sessions": sessions,
        "sessions_with_both": len(session_auc(labels, online, replayed.session).auc),
        "intervals": {name: intervals[name] for name in names if not name.startswith("frozen")},
        "frozen": {
            "AUC": _rounded(values[2]),
            "session_GAUC": _rounded(values[3]),
            "intervals": {name: intervals[f"frozen {name}"] for name in names[:2]},
            **{"calibration": calibration(labels, frozen)},
        },
        "calibration": calibration(labels, online),
        "slices": {
            name: {
                "num_events": int(chosen.sum()),
                "AUC": _rounded(auc(labels[chosen], online[chosen])),
                "frozen AUC": _rounded(auc(labels[chosen], frozen[chosen])),
                "interval": _slice_interval(labels, online, replayed.session, chosen=chosen),
            }
            for name, chosen in (slices or {}).items()
        },
    }


def _figures(
    replayed: Replayed, labels: np.ndarray, *, head: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function: times that each session was drawn -> AUC and session GAUC, those of the
    frozen model, and the differences."""
    session = replayed.session
    aucs = [weighted_auc(labels, each[:, head]) for each in (replayed.online, replayed.frozen)]
    starts = (replayed.at_session_start, replayed.frozen_at_session_start)
    inside = [session_auc(labels, each[:, head], session).auc for each in starts]
    sizes = np.bincount(session)
    positives = np.bincount(session, labels)
    has_both = (positives > 0) & (positives < sizes)

    def figures(drawn: np.ndarray) -> np.ndarray:
        weights = drawn[session].astype(np.float64)
        weight = (drawn * sizes)[has_both]
        total = weight.sum()
        gauc = [(each * weight).sum() / total if total else math.nan for each in inside]
        found = [aucs[0](weights), gauc[0], aucs[1](weights), gauc[1]]
        return np.array([*found, found[0] - found[2], found[1] - found[3]])

    return figures


def _slice_interval(
    labels: np.ndarray, scores: np.ndarray, session: np.ndarray, *, chosen: np.ndarray
) -> list[float | None]:
    if not chosen.any():
        return [None, None]
    of = weighted_auc(labels[chosen], scores[chosen])
    _, numbers = np.unique(session[chosen], return_inverse=True)
    num = int(numbers.max()) + 1
    bounds = bootstrap(lambda drawn: np.array([of(drawn[numbers].astype(float))]), num)
    return [_rounded(bound) for bound in bounds[:, 0]]


def _rounded(value: float) -> float | None:
    """NaN, which JSON does not have, becomes None."""
    return None if math.isnan(value) else round(float(value), _DIGITS)
