"""Weights of events that fade with time, as sums that need no second look at the events.

An event at time t weighs `2 ** ((t - LANDMARK) / half_life)`; seen from a later time, all weights
shrink by the same factor (Cormode et al., ICDE 2009, "Forward Decay: A Practical Time Decay Model
for Streaming Systems", section III).
"""

import numpy as np

__all__ = ["DAY_SECONDS", "LANDMARK_SECONDS", "scale_at", "weights_at"]

DAY_SECONDS = 86400.0
# In 2033: with half-lives from a day on, float64 holds the weights of 2014 to 2052.
LANDMARK_SECONDS = 2e9


def weights_at(times_seconds: np.ndarray | float, *, half_life_days: float) -> np.ndarray:
    """The weight of events at these Unix times, to be added up."""
    return np.exp2((np.asarray(times_seconds) - LANDMARK_SECONDS) / (half_life_days * DAY_SECONDS))


def scale_at(now_seconds: float, *, half_life_days: float) -> float:
    """The factor that turns sums of weights into what they are at a time: an event of just then
    counts 1."""
    return float(np.exp2((LANDMARK_SECONDS - now_seconds) / (half_life_days * DAY_SECONDS)))
