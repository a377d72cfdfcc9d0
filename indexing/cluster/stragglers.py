"""How long jobs take -> which of those that run should have ended long ago.

As in LATE (Zaharia et al., OSDI 2008, section 4), a job is tried a second time where its time says
that its node is slow, and only so many at once. What is usual is measured: jobs of a kind take
seconds in proportion to their size, times a factor that nine of ten stay below.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from reelseek.indexing.cluster.jobs import Attempt, Job

_NUM_MEASURED = 5  # jobs of a kind, before any is called slow
_NUM_REMEMBERED = 256  # of a kind
_QUANTILE = 0.9


@dataclass
class UsualTimes:
    """The times that jobs took.

    Attributes:
        min_seconds: a job that takes less is never slow.
        factor: a job is slow that takes this many times as long as nine of ten take for its size.
    """

    min_seconds: float = 20.0
    factor: float = 1.5
    _rates: dict[str, deque[float]] = field(default_factory=dict)

    def note(self, job: Job, *, seconds: float) -> None:
        """Takes the time of a job that is done."""
        rates = self._rates.setdefault(job.kind, deque(maxlen=_NUM_REMEMBERED))
        rates.append(seconds / max(1, job.size))

    def slow(self, attempts: Iterable[Attempt], *, now: float) -> list[Attempt]:
        """Returns attempts that should be made a second time, the slowest first."""
        limits = {
            kind: self.factor * float(np.quantile(rates, _QUANTILE))
            for kind, rates in self._rates.items()
            if len(rates) >= _NUM_MEASURED
        }
        found = []
        for attempt in attempts:
            job = attempt.job
            can_be = job.needs_core and not job.has_declined and len(job.attempts) == 1
            if not can_be or not attempt.started or job.kind not in limits:
                continue
            seconds = now - attempt.started
            if seconds > max(self.min_seconds, limits[job.kind] * job.size):
                found.append((seconds, attempt))
        return [attempt for _, attempt in sorted(found, key=lambda each: -each[0])]
