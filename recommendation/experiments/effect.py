"""Figures of users in two arms -> the effect, its interval, and whether the arms can be trusted."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

__all__ = ["Effect", "chi_square_p", "ratio_effect", "sample_ratio_p"]

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Effect:
    """Of the second arm, the treatment.

    Attributes:
        control, treatment: the metric in both.
        difference: of them; `interval` is that of it.
        p_value: two-sided; that chance alone gives so large a difference.
    """

    control: float
    treatment: float
    difference: float
    interval: tuple[float, float]
    p_value: float


def ratio_effect(
    control: tuple[np.ndarray, np.ndarray],
    treatment: tuple[np.ndarray, np.ndarray],
    *,
    confidence: float = 0.95,
) -> Effect:
    """Compares a ratio, such as clicks by impressions, between groups of users.

    Users are what was drawn, not impressions, which are not independent of each other; the variance
    of a ratio of sums is by the delta method (Deng, Knoblich and Lu, KDD 2018, section 3.1).

    Args:
        control, treatment: `(n,)` numerators and denominators of users.

    Raises:
        ValueError: an arm has fewer than two users, or a denominator of 0.
    """
    (a, variance_a), (b, variance_b) = (_ratio(*each) for each in (control, treatment))
    deviation = math.sqrt(variance_a + variance_b)
    half = _NORMAL.inv_cdf(0.5 + confidence / 2) * deviation
    deviations = abs(b - a) / deviation if deviation else (0.0 if a == b else math.inf)
    p_value = math.erfc(deviations / math.sqrt(2))
    return Effect(a, b, b - a, (b - a - half, b - a + half), p_value)


def sample_ratio_p(counts: list[int], shares: list[float]) -> float:
    """Returns the probability that users fall so unevenly into arms by chance (Fabijan et al., KDD
    2019). Below .001, something lost users of one arm, and no effect can be believed."""
    total, pairs = sum(counts), zip(counts, shares, strict=True)
    statistic = sum((n - total * share) ** 2 / (total * share) for n, share in pairs)
    return chi_square_p(statistic, len(counts) - 1)


def chi_square_p(statistic: float, degrees: int) -> float:
    """Returns P(X >= statistic) of a chi-square distribution.

    By the recurrence of the incomplete gamma function over degrees in steps of two (Abramowitz and
    Stegun 26.4.4 and 26.4.5).
    """
    half = statistic / 2
    if degrees % 2:
        p, k = math.erfc(math.sqrt(half)), 1
    else:
        p, k = math.exp(-half), 2
    while k < degrees:
        p += math.exp(k / 2 * math.log(half) - half - math.lgamma(k / 2 + 1)) if half else 0.0
        k += 2
    return min(p, 1.0)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> tuple[float, float]:
    num = len(numerator)
    if num < 2 or not denominator.sum():
        raise ValueError(f"an arm has {num} users with impressions; at least two are needed")
    ratio = float(numerator.sum() / denominator.sum())
    residuals = (numerator - ratio * denominator) / denominator.mean()
    return ratio, float(residuals.var(ddof=1) / num)
