"""Searches over many shards with replicas, simulated event by event: failures, and what hedging
leaves of them.

A search asks one replica of each shard and waits for all, at most until the deadline. A replica is
a node that serves its requests in order on some cores. A node that is gone answers nothing, and is
asked nothing more once the router knows. With hedging, a shard that has not answered after
`hedge_seconds` is asked a second time, at another replica; the first answer counts, and the other
is computed all the same.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr


@dataclass(frozen=True)
class Service:
    """How long one shard's answer takes on one core.

    Attributes:
        median_seconds: of those that do not straggle.
        spread: standard deviation of the time's logarithm.
        straggler_fraction: of requests, such as those that wait for a disk or a neighbour.
        straggler_factor: by which these take longer.
    """

    median_seconds: float
    spread: float = 0.25
    straggler_fraction: float = 0.0
    straggler_factor: float = 1.0

    def sample(self, random: np.random.Generator, size: int) -> np.ndarray:
        """`(size,)` seconds."""
        seconds = self.median_seconds * np.exp(self.spread * random.standard_normal(size))
        straggles = random.random(size) < self.straggler_fraction
        return np.where(straggles, seconds * self.straggler_factor, seconds)

    @property
    def mean_seconds(self) -> float:
        longer = 1 + self.straggler_fraction * (self.straggler_factor - 1)
        return self.median_seconds * float(np.exp(self.spread**2 / 2)) * longer


@dataclass(frozen=True)
class Cluster:
    """S shards of R replicas each, every replica a node of its own.

    Attributes:
        racks: that nodes stand in.
        is_spread: whether the replicas of a shard stand in different racks; otherwise neighbours
            share one.
    """

    shards: int
    replicas: int
    cores: int
    service: Service
    racks: int = 8
    is_spread: bool = True

    def rack_of(self, shard: int, replica: int) -> int:
        if self.is_spread:
            return (shard + replica) % self.racks
        return (shard * self.replicas + replica) * self.racks // (self.shards * self.replicas)


@dataclass(frozen=True)
class Faults:
    """What goes wrong.

    Attributes:
        gone: nodes, each a shard and a replica, that answer nothing from `start_seconds` on.
        known_after_seconds: until the router asks them nothing more.
        slow: nodes whose answers take `slow_factor` times as long, and `slow_seconds` more.
    """

    gone: frozenset[tuple[int, int]] = frozenset()
    start_seconds: float = 0.0
    known_after_seconds: float = 10.0
    slow: frozenset[tuple[int, int]] = frozenset()
    slow_factor: float = 1.0
    slow_seconds: float = 0.0


@dataclass
class Outcome:
    """What the searches met with.

    Attributes:
        seconds: of each search, `(n,)`.
        answered: shards that answered each in time, `(n,)`.
        requests: sent to replicas in all.
        shard_p95_seconds: 95th percentile of the time of one shard's answer, its queue included.
    """

    seconds: np.ndarray
    answered: np.ndarray
    requests: int
    shard_p95_seconds: float

    def percentile(self, percent: float) -> float:
        return float(np.percentile(self.seconds, percent))


def simulate(
    cluster: Cluster,
    *,
    queries_per_second: float,
    num_queries: int,
    deadline_seconds: float = 1.0,
    hedge_seconds: float | None = None,
    faults: Faults | None = None,
    seed: int = 0,
) -> Outcome:
    """Simulates searches that arrive at random (a Poisson process).

    Args:
        hedge_seconds: after which a shard is asked again, at another replica; None for never.
    """
    random = np.random.default_rng(seed)
    arrivals = np.cumsum(random.exponential(1 / queries_per_second, num_queries))
    run = _Run(cluster, faults or Faults(), arrivals, random)
    again: list[tuple[float, int, int, int]] = []  # time, query, shard, the replica asked before
    for query, arrival in enumerate(arrivals.tolist()):
        # Nodes serve in order of arrival, so requests are sent in order of time.
        while again and again[0][0] <= arrival:
            run.send(*heapq.heappop(again))
        for shard in range(cluster.shards):
            replica = run.send(arrival, query, shard)
            if hedge_seconds is not None and run.done[query, shard] > arrival + hedge_seconds:
                heapq.heappush(again, (arrival + hedge_seconds, query, shard, replica))
    while again:
        run.send(*heapq.heappop(again))
    waited = run.done - arrivals[:, None]
    return Outcome(
        np.minimum(waited, deadline_seconds).max(axis=1),
        (waited <= deadline_seconds).sum(axis=1),
        run.requests,
        float(np.percentile(np.minimum(waited, deadline_seconds), 95)),
    )


class _Run:
    """The nodes while requests are sent to them in order of time.

    Attributes:
        done: when the first answer of each shard to each search is there, `(n, S)`.
    """

    def __init__(
        self,
        cluster: Cluster,
        faults: Faults,
        arrivals: np.ndarray,
        random: np.random.Generator,
    ) -> None:
        self._cluster = cluster
        self._faults = faults
        self.done = np.full((len(arrivals), cluster.shards), np.inf)
        self.requests = 0
        # When each core of each node is free again.
        self._free = np.zeros((cluster.shards, cluster.replicas, cluster.cores))
        # In one call, with some left for hedges: a call for each would take most of the time.
        size = 2 * self.done.size + 1
        self._service = iter(cluster.service.sample(random, size).tolist())
        self._choice = iter(random.random(size).tolist())

    def send(self, time: float, query: int, shard: int, avoid: int = -1) -> int:
        """Asks a replica; returns which, or -1 where there is none to ask."""
        replicas = [
            replica
            for replica in range(self._cluster.replicas)
            if replica != avoid and not self._is_known_gone(time, shard, replica)
        ]
        if not replicas:
            return -1
        replica = replicas[int(next(self._choice) * len(replicas))]
        self.requests += 1
        seconds = next(self._service)
        node = shard, replica
        if node in self._faults.slow:
            seconds = seconds * self._faults.slow_factor + self._faults.slow_seconds
        free = self._free[node]
        core = int(free.argmin())
        finished = max(time, float(free[core])) + seconds
        if node in self._faults.gone and finished > self._faults.start_seconds:
            return replica  # and no answer comes
        free[core] = finished
        self.done[query, shard] = min(self.done[query, shard], finished)
        return replica

    def _is_known_gone(self, time: float, shard: int, replica: int) -> bool:
        faults = self._faults
        known_at = faults.start_seconds + faults.known_after_seconds
        return (shard, replica) in faults.gone and time >= known_at


def fan_out_quantile(service: Service, shards: int, fraction: float) -> float:
    """Returns the seconds within which this fraction of searches has all answers, where nothing
    waits in a queue: the quantile of the slowest of S independent answers (Dean & Barroso, "The
    tail at scale", 2013)."""
    return _quantile(lambda seconds: _finished(service, seconds) ** shards, fraction)


def hedged_quantile(
    service: Service, shards: int, fraction: float, *, hedge_seconds: float
) -> float:
    """Returns the same where each shard is asked again after a time."""

    def all_finished(seconds: float) -> float:
        first = 1 - _finished(service, seconds)
        second = 1 - _finished(service, seconds - hedge_seconds)
        return float((1 - first * second) ** shards)

    return _quantile(all_finished, fraction)


def _finished(service: Service, seconds: float) -> float:
    """Returns the fraction of one shard's answers that take at most so long."""
    if seconds <= 0:
        return 0.0

    def lognormal(median: float) -> float:
        if not service.spread:
            return float(seconds >= median)
        return float(ndtr(np.log(seconds / median) / service.spread))

    straggle = service.straggler_fraction
    usual = lognormal(service.median_seconds)
    late = lognormal(service.median_seconds * service.straggler_factor)
    return (1 - straggle) * usual + straggle * late


def _quantile(finished: Callable[[float], float], fraction: float) -> float:
    """Returns where an increasing function reaches a fraction."""
    low, high = 0.0, 1e-6
    while finished(high) < fraction:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if finished(middle) < fraction else (low, middle)
    return high
