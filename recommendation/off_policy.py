"""Logged impressions with their probabilities -> what another policy would have earned.

    value, interval = snips(rewards, logged_propensities, target_propensities)

Only what the logging policy could have shown can be weighed: a probability of 0 in the log, for
what the other policy would show, is not seen by these estimates.
"""

from dataclasses import dataclass

import numpy as np

from reelseek.recommendation.metrics import bootstrap_interval

__all__ = ["Estimate", "ips", "snips"]


@dataclass(frozen=True)
class Estimate:
    """What a policy would have earned an impression.

    Attributes:
        value: the mean reward.
        interval: 95 %, bootstrap over impressions, or over the groups that were given.
        effective_size: `sum(w)^2 / sum(w^2)` of the weights w: as many impressions of the policy
            itself would tell as much (Kong 1992). Of a small one, believe nothing.
        num_clipped: impressions whose weight was cut.
    """

    value: float
    interval: tuple[float, float]
    effective_size: float
    num_clipped: int


def ips(
    rewards: np.ndarray,
    logged_propensities: np.ndarray,
    target_propensities: np.ndarray,
    *,
    max_weight: float = np.inf,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> Estimate:
    """Inverse propensity score estimate: the mean of `reward * target / logged` (Horvitz and
    Thompson 1952; Bottou et al., JMLR 2013, "Counterfactual Reasoning and Learning Systems",
    section 4.2, with weights cut as in section 4.4).

    It is right on average where no weight is cut, and may lie beyond the range of rewards.

    Args:
        rewards: `(n,)`, of each impression, such as 1 for a click.
        logged_propensities: `(n,)`, more than 0 to 1: the probability with which the log's policy
            showed it.
        target_propensities: `(n,)`, 0 to 1: that of the policy which is asked about.
        max_weight: larger ones are cut to it, which makes the estimate lower and steadier.
        groups: `(n,)` int, such as users: the interval draws whole groups, as what a user does
            hangs together.
        seed: of the interval.

    Raises:
        ValueError: no impressions, arrays of different lengths, or a propensity out of its range.
    """
    weights, num_clipped = _weights(
        rewards, logged_propensities, target_propensities, max_weight=max_weight
    )
    earned, counts = _by_group(weights * rewards, np.ones(len(weights)), groups)
    interval = bootstrap_interval(earned / counts, counts, seed=seed)
    return Estimate(
        float((weights * rewards).mean()), interval, _effective_size(weights), num_clipped
    )


def snips(
    rewards: np.ndarray,
    logged_propensities: np.ndarray,
    target_propensities: np.ndarray,
    *,
    max_weight: float = np.inf,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> Estimate:
    """Self-normalised estimate: `sum(w * reward) / sum(w)` (Swaminathan and Joachims, NeurIPS 2015,
    "The Self-Normalized Estimator for Counterfactual Learning", section 4).

    It lies within the range of rewards and varies less than `ips`, for a bias that shrinks with n;
    NaN where the policy would have shown nothing of the log. Arguments and errors are those of
    `ips`.
    """
    weights, num_clipped = _weights(
        rewards, logged_propensities, target_propensities, max_weight=max_weight
    )
    earned, totals = _by_group(weights * rewards, weights, groups)
    value, interval = float("nan"), (float("nan"), float("nan"))
    if totals.sum() > 0:
        value = float(earned.sum() / totals.sum())
        means = np.divide(earned, totals, out=np.zeros_like(earned), where=totals > 0)
        interval = bootstrap_interval(means, totals, seed=seed)
    return Estimate(value, interval, _effective_size(weights), num_clipped)


def _weights(
    rewards: np.ndarray, logged: np.ndarray, target: np.ndarray, *, max_weight: float
) -> tuple[np.ndarray, int]:
    """`(n,)` weights, and how many were cut."""
    if not len(rewards):
        raise ValueError("no impressions: an estimate needs at least one")
    if not len(rewards) == len(logged) == len(target):
        raise ValueError(
            f"{len(rewards)} rewards, {len(logged)} logged and {len(target)} target propensities: "
            "must be as many"
        )
    if not max_weight > 0:
        raise ValueError(f"max_weight={max_weight}: must be more than 0")
    for name, values, is_allowed in (
        ("logged_propensities", logged, (logged > 0) & (logged <= 1)),
        ("target_propensities", target, (target >= 0) & (target <= 1)),
        ("rewards", rewards, np.isfinite(rewards)),
    ):
        if not is_allowed.all():
            index = int(np.argmin(is_allowed))
            allowed = {"rewards": "finite", "logged_propensities": "more than 0, at most 1"}
            raise ValueError(
                f"{name}[{index}]={values[index]}: must be {allowed.get(name, '0 to 1')}"
            )
    weights = target / logged
    return np.minimum(weights, max_weight), int(np.count_nonzero(weights > max_weight))


def _by_group(
    values: np.ndarray, counts: np.ndarray, groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of both in each group."""
    if groups is None:
        return values, counts
    _, numbers = np.unique(groups, return_inverse=True)
    return np.bincount(numbers, weights=values), np.bincount(numbers, weights=counts)


def _effective_size(weights: np.ndarray) -> float:
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0
