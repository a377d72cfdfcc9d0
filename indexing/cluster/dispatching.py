"""Jobs -> their results, whatever dies on the way: what is given to Ray when, and again.

Ray chooses the node, and starts tasks, actors and workers again. What it does not know is kept
here: long jobs go first, a job that kills its worker twice is not tried a third time, and one that
takes far longer than its size explains is tried a second time on another node.
"""

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Generic, TypeVar

from reelseek.indexing.cluster.placement import Node, live_nodes

T = TypeVar("T")

_POLL_SECONDS = 0.2
_NODES_EVERY_SECONDS = 2.0
_MAX_DEATHS = 2  # of its workers, after which a job has failed
_MAX_LOSSES = 8  # of nodes that a job was on; then something else is wrong
_NUM_MEASURED = 5  # jobs, before any is called slow
_NUM_REMEMBERED = 256  # of a kind, whose times tell what is usual


@dataclass(eq=False)
class Job(Generic[T]):
    """Something to be done once.

    Attributes:
        value: the caller's.
        size: that its time depends on, such as bytes; of jobs that wait, the largest goes first.
        kind: jobs of a kind take a time by their size.
        needs_core: else it is given away at once, and neither counted nor tried a second time.
        has_declined: a node that it was tried on a second time could not begin with it.
        num_deaths: of workers that had it.
        num_losses: of nodes and objects, which is not its fault.
    """

    value: T
    size: int
    kind: str = ""
    needs_core: bool = True
    has_declined: bool = False
    num_deaths: int = 0
    num_losses: int = 0
    attempts: list["_Attempt"] = field(default_factory=list)


@dataclass(eq=False)
class _Attempt:
    job: Job
    generator: Any
    node_id: str = ""  # empty before it runs
    started: float = 0.0
    answer: "Answer | None" = None


@dataclass(frozen=True)
class Answer:
    """What a task has yielded.

    Attributes:
        node_id: of the node that it ran on.
        value: the first.
        rest: references to the others, which may be lost before they are fetched.
    """

    node_id: str
    value: Any
    rest: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Killed:
    """A job has killed its worker twice.

    Attributes:
        error: Ray's name of the last death.
    """

    error: str


@dataclass(frozen=True)
class Declined:
    """The value of a task that could not begin with its job, and has changed nothing. The other
    attempt at the job goes on; without one, this is the answer."""


class Dispatcher(Generic[T]):
    """Gives jobs to Ray, as many at once as the cluster has cores for and a few more.

    Args:
        submit: starts a task for a job, away from these nodes where it can; the task is a generator
            that yields the id of its node, a small value, and what need not be fetched.
        nodes: returns the nodes that answer.
        spare: jobs that wait on the nodes, so that a core that is free has the next at once; a
            share of the cores.
        min_slow_seconds: a job that takes less is never called slow.
        slow_factor: by which a slow job exceeds the time that its size explains.

    Attributes:
        num_repeated: jobs that were given away once more, in part or as a whole.
    """

    def __init__(
        self,
        submit: Callable[[Job[T], frozenset[str]], Any],
        *,
        nodes: Callable[[], Sequence[Node]] = live_nodes,
        spare: float = 0.25,
        min_slow_seconds: float = 20.0,
        slow_factor: float = 3.0,
    ) -> None:
        self._submit = submit
        self._nodes = nodes
        self._spare = spare
        self._min_slow_seconds = min_slow_seconds
        self._slow_factor = slow_factor
        self._waiting: list[tuple[int, int, Job[T]]] = []
        self._num_put = 0
        self._running: dict[Any, _Attempt] = {}
        self._seconds_per_size: dict[str, deque[float]] = {}
        self._asked_at = 0.0
        self.num_slots = 0
        self.num_repeated = 0
        self._busy_seconds = self._slot_seconds = 0.0
        self._counted_at = time.monotonic()

    def put(self, job: Job[T]) -> None:
        """Adds a job to those that wait."""
        if not job.needs_core:
            self._give_away(job)
            return
        self._num_put += 1
        heapq.heappush(self._waiting, (-job.size, self._num_put, job))

    def __len__(self) -> int:
        """The number of jobs that are not done."""
        return len(self._waiting) + len({id(a.job) for a in self._running.values()})

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def utilisation(self) -> float:
        """The fraction of the cluster's cores that had a task, over the run."""
        return self._busy_seconds / self._slot_seconds if self._slot_seconds else 0.0

    def cancel_waiting(self) -> list[Job[T]]:
        """Takes back the jobs that were not given away yet."""
        taken = [job for _, _, job in self._waiting]
        self._waiting = []
        return taken

    def poll(self) -> Iterator[tuple[Job[T], Answer | Killed]]:
        """Gives jobs away, waits a moment, and yields those that are done.

        Raises:
            RayTaskError: a task has raised an exception, which another attempt would, too.
        """
        import ray

        self._fill()
        self._count_use()
        if not self._running:
            return
        generators = list(self._running)
        ready, _ = ray.wait(generators, num_returns=1, timeout=_POLL_SECONDS, fetch_local=False)
        if ready:
            ready, _ = ray.wait(
                generators, num_returns=len(generators), timeout=0, fetch_local=False
            )
        for generator in ready:
            attempt = self._running.get(generator)
            if attempt is not None:  # else the other attempt was just first
                yield from self._advance(attempt)

    def _fill(self) -> None:
        now = time.monotonic()
        if now - self._asked_at > _NODES_EVERY_SECONDS or not self.num_slots:
            self._asked_at = now
            self.num_slots = sum(node.num_cores for node in self._nodes())
        limit = max(self.num_slots + 1, self.num_slots * (1 + self._spare))
        num_running = sum(attempt.job.needs_core for attempt in self._running.values())
        while self._waiting and num_running < limit:
            self._give_away(heapq.heappop(self._waiting)[2])
            num_running += 1
        if not self._waiting and num_running < self.num_slots:
            for attempt in self._slow(now)[: self.num_slots - num_running]:
                self.num_repeated += 1
                self._give_away(attempt.job, avoid=frozenset({attempt.node_id}))

    def _give_away(self, job: Job[T], avoid: frozenset[str] = frozenset()) -> None:
        generator = self._submit(job, avoid)
        attempt = _Attempt(job, generator)
        job.attempts.append(attempt)
        self._running[generator] = attempt

    def _slow(self, now: float) -> list[_Attempt]:
        """Returns attempts that should have ended long ago, the slowest first."""
        found = []
        for attempt in self._running.values():
            job = attempt.job
            rates = self._seconds_per_size.get(job.kind, ())
            if not job.needs_core or job.has_declined or len(job.attempts) > 1:
                continue
            if not attempt.node_id or len(rates) < _NUM_MEASURED:
                continue
            expected = median(rates) * job.size
            seconds = now - attempt.started
            if seconds > max(self._min_slow_seconds, self._slow_factor * expected):
                found.append((seconds, attempt))
        return [attempt for _, attempt in sorted(found, key=lambda each: -each[0])]

    def _advance(self, attempt: _Attempt) -> Iterator[tuple[Job[T], Answer | Killed]]:
        """Takes what a task has yielded."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            reference = next(attempt.generator)
            if not attempt.node_id:
                attempt.node_id = ray.get(reference)
                attempt.started = time.monotonic()
            elif attempt.answer is None:
                attempt.answer = Answer(attempt.node_id, ray.get(reference))
            else:
                attempt.answer.rest.append(reference)
        except StopIteration:
            assert attempt.answer is not None
            if isinstance(attempt.answer.value, Declined):
                attempt.job.has_declined = True
                if len(attempt.job.attempts) > 1:
                    self._remove(attempt)
                    self.num_repeated -= 1
                    return
            else:
                self._note_time(attempt)
            self._drop(attempt.job)
            yield attempt.job, attempt.answer
        except RayTaskError as error:
            if not isinstance(error.cause, RayError):
                raise
            yield from self._give_up(attempt, error.cause)
        except RayError as error:
            yield from self._give_up(attempt, error)

    def _give_up(
        self, attempt: _Attempt, error: Exception
    ) -> Iterator[tuple[Job[T], Answer | Killed]]:
        """Puts the job of a dead task back, or ends it where it has killed too many workers."""
        job = attempt.job
        self._remove(attempt)
        if self._is_fault_of_job(attempt, error):
            job.num_deaths += 1
        else:
            job.num_losses += 1
            if job.num_losses > _MAX_LOSSES:
                raise error
        if job.num_deaths >= _MAX_DEATHS:
            self._drop(job)
            yield job, Killed(type(error).__name__)
        elif not job.attempts:
            self.num_repeated += 1
            self.put(job)

    def _remove(self, attempt: _Attempt) -> None:
        del self._running[attempt.generator]
        attempt.job.attempts.remove(attempt)

    def _is_fault_of_job(self, attempt: _Attempt, error: Exception) -> bool:
        """Whether a worker has died on a node that lives on."""
        from ray.exceptions import OutOfMemoryError, WorkerCrashedError

        if not isinstance(error, WorkerCrashedError | OutOfMemoryError):
            return False
        return attempt.node_id in {node.id for node in self._nodes()}

    def _drop(self, job: Job[T]) -> None:
        """Ends all attempts at a job."""
        import ray

        for attempt in job.attempts:
            del self._running[attempt.generator]
            if not attempt.generator.is_finished():
                ray.cancel(attempt.generator, force=True)
        job.attempts = []

    def _note_time(self, attempt: _Attempt) -> None:
        rates = self._seconds_per_size.setdefault(attempt.job.kind, deque(maxlen=_NUM_REMEMBERED))
        rates.append((time.monotonic() - attempt.started) / max(1, attempt.job.size))

    def _count_use(self) -> None:
        now = time.monotonic()
        seconds, self._counted_at = now - self._counted_at, now
        started = sum(bool(a.node_id) and a.job.needs_core for a in self._running.values())
        self._busy_seconds += seconds * min(started, self.num_slots)
        self._slot_seconds += seconds * self.num_slots
