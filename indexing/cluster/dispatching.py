"""Jobs -> their results, whatever dies on the way: what is given to Ray when, and again.

Ray chooses the node, and starts tasks, actors and workers again. What it does not know is kept
here: long jobs go first, a job that kills its worker twice is not tried a third time, and one that
takes far longer than its size explains is tried a second time on another node.
"""

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from reelseek.indexing.cluster.jobs import Answer, Attempt, Declined, Job, Killed
from reelseek.indexing.cluster.placement import Node, live_nodes
from reelseek.indexing.cluster.stragglers import UsualTimes

T = TypeVar("T")

_POLL_SECONDS = 0.2
_NODES_EVERY_SECONDS = 2.0
_MAX_DEATHS = 2  # of its workers, after which a job has failed
_MAX_LOSSES = 8  # of nodes that a job was on; then something else is wrong
AGAIN_SHARE = 0.1  # of the cores, that jobs may have a second time while others wait

# Starts a task for a job, away from these nodes where it can; returns the generator of what the
# task yields (the id of its node, a small value, and what need not be fetched), and the node that
# it must run on, where it chose one.
Submit: TypeAlias = Callable[[Job, frozenset[str]], tuple[Any, str]]


class Dispatcher(Generic[T]):
    """Gives jobs to Ray, as many at once as the cluster has cores for and a few more.

    Args:
        submit: starts a task for a job.
        nodes: returns the nodes that answer.
        spare: jobs that wait on the nodes, so that a core that is free has the next at once; a
            share of the cores.
        usual: tells which jobs are slow.

    Attributes:
        num_repeated: jobs that were given away once more, in part or as a whole.
    """

    def __init__(
        self,
        submit: Submit,
        *,
        nodes: Callable[[], Sequence[Node]] = live_nodes,
        spare: float = 0.25,
        usual: UsualTimes | None = None,
    ) -> None:
        self._submit = submit
        self._nodes = nodes
        self._spare = spare
        self._usual = UsualTimes() if usual is None else usual
        self._live: list[Node] = []
        self._waiting: list[tuple[int, int, Job[T]]] = []
        self._num_put = 0
        self._running: dict[Any, Attempt] = {}
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
            self._live = list(self._nodes())
            self.num_slots = sum(node.num_cores for node in self._live)
        limit = max(self.num_slots + 1, self.num_slots * (1 + self._spare))
        num_running = sum(attempt.job.needs_core for attempt in self._running.values())
        while self._waiting and num_running < limit:
            self._give_away(heapq.heappop(self._waiting)[2])
            num_running += 1
        self._try_again(now, num_running)

    def _try_again(self, now: float, num_running: int) -> None:
        """Tries slow jobs a second time: on cores that are idle, and while others wait on a few,
        since a job that has just begun elsewhere often ends before one on a slow node does."""
        num_free = self.num_slots - num_running
        if self._waiting:
            num_again = sum(len(a.job.attempts) > 1 for a in self._running.values()) // 2
            num_free = max(1, int(AGAIN_SHARE * self.num_slots)) - num_again
        if num_free > 0:
            for attempt in self._usual.slow(self._running.values(), now=now)[:num_free]:
                self.num_repeated += 1
                self._give_away(attempt.job, avoid=frozenset({attempt.node_id}))

    def least_busy(self, avoid: frozenset[str]) -> str:
        """Returns the node with the fewest jobs for its cores; empty where there is none but these.

        Args:
            avoid: ids of nodes that it may not be.
        """
        num_on = Counter(a.node_id for a in self._running.values() if a.job.needs_core)
        nodes = [node for node in self._live if node.num_cores and node.id not in avoid]
        by_use = sorted(nodes, key=lambda node: num_on[node.id] / node.num_cores)
        return by_use[0].id if by_use else ""

    def _give_away(self, job: Job[T], avoid: frozenset[str] = frozenset()) -> None:
        generator, node_id = self._submit(job, avoid)
        attempt = Attempt(job, generator, node_id)
        job.attempts.append(attempt)
        self._running[generator] = attempt

    def _advance(self, attempt: Attempt) -> Iterator[tuple[Job[T], Answer | Killed]]:
        """Takes what a task has yielded."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            reference = next(attempt.generator)
            if not attempt.started:
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
                seconds = time.monotonic() - attempt.started
                self._usual.note(attempt.job, seconds=seconds)
            self._drop(attempt.job)
            yield attempt.job, attempt.answer
        except RayTaskError as error:
            if not isinstance(error.cause, RayError):
                raise
            yield from self._give_up(attempt, error.cause)
        except RayError as error:
            yield from self._give_up(attempt, error)

    def _give_up(
        self, attempt: Attempt, error: Exception
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

    def _remove(self, attempt: Attempt) -> None:
        del self._running[attempt.generator]
        attempt.job.attempts.remove(attempt)

    def _is_fault_of_job(self, attempt: Attempt, error: Exception) -> bool:
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

    def _count_use(self) -> None:
        now = time.monotonic()
        seconds, self._counted_at = now - self._counted_at, now
        started = sum(a.started > 0 and a.job.needs_core for a in self._running.values())
        self._busy_seconds += seconds * min(started, self.num_slots)
        self._slot_seconds += seconds * self.num_slots
