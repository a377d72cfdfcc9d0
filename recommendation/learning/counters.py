"""Counts that decay with event time, and the rates that they give."""

import numpy as np

__all__ = ["COUNTED", "decay", "log_odds", "shrunken_rates"]

_DAY_MS = 86_400_000.0
_LOWEST = 0.002  # of a rate, so that log-odds are bounded

# What is counted of each event; the first is the event itself.
COUNTED = ("events", "long_view", "click", "like", "watched")


def decay(elapsed_ms: np.ndarray, half_life_days: np.ndarray) -> np.ndarray:
    """Returns what is left of each count after a time; time that runs backwards changes nothing."""
    return np.exp2(-np.maximum(elapsed_ms, 0.0) / (half_life_days * _DAY_MS))


def shrunken_rates(
    counts: np.ndarray,
    *,
    levels: list[np.ndarray],
    parents: np.ndarray,
    smoothing: np.ndarray,
    root: np.ndarray,
) -> np.ndarray:
    """Shrinks the rates of counters to those of their parents, from the root down.

    Args:
        counts: `(k, N, len(COUNTED))`, decayed.
        levels: namespaces by their distance from the root.
        parents, smoothing: `(N,)`, of each namespace.
        root: `(len(COUNTED) - 1,)`, the rates that the root is shrunk to.

    Returns:
        `(k, N, len(COUNTED) - 1)`: of each namespace, `(count + m * parent's rate) / (events + m)`.
    """
    rates = np.empty((*counts.shape[:2], counts.shape[2] - 1))
    for distance, level in enumerate(levels):
        above = root if distance == 0 else rates[:, parents[level]]
        m = smoothing[level][:, None]
        found = counts[:, level]
        rates[:, level] = (found[:, :, 1:] + m * above) / (found[:, :, :1] + m)
    return rates


def log_odds(rates: np.ndarray) -> np.ndarray:
    bounded = np.clip(rates, _LOWEST, 1 - _LOWEST)
    return np.log(bounded / (1 - bounded))
