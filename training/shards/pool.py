"""Loads samples in worker processes, and replaces workers that hang, crash or have grown old."""

import signal
import tempfile
import time
from collections import Counter, deque
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path, PurePosixPath
from typing import Generic, TypeVar

from reelseek.training.shards.worker import (
    BrokenSample,
    LoadedSample,
    Ready,
    SampleRequest,
    SampleSettings,
    receive_sample,
    run_worker,
)
from reelseek.vision import IMAGE_SUFFIXES, WorkerLimits
from reelseek.vision.decoding.process import KILL_SECONDS, kill_worker, start_worker

_POLL_SECONDS = 0.1
_START_SECONDS = 60.0
_SECONDS_PER_BYTE = 0.5e-6
_REQUESTS_AHEAD = 2  # so that a worker has one to go on with while its answer is received

Tag = TypeVar("Tag")


class _Worker(Generic[Tag]):
    """A worker process and the requests that it has not answered yet."""

    def __init__(self, settings: SampleSettings, scratch: Path, *, memory_bytes: int) -> None:
        scratch.mkdir(exist_ok=True)
        self._process, self.connection = start_worker(run_worker, settings, scratch, memory_bytes)
        self.pending: deque[tuple[Tag, SampleRequest]] = deque()
        self.num_videos = 0
        # No sample's fault may be that the system is slow to start a process.
        self._heard_at = time.monotonic() + _START_SECONDS

    def send(self, tag: Tag, request: SampleRequest) -> None:
        if not self.pending:
            self._heard_at = max(self._heard_at, time.monotonic())
        self.pending.append((tag, request))
        suffix = PurePosixPath(request.location.name).suffix.lower()
        self.num_videos += suffix not in IMAGE_SUFFIXES
        with suppress(OSError):  # it is dead, and the next receive raises
            self.connection.send(request)

    def receive(self) -> tuple[Tag, LoadedSample | BrokenSample] | None:
        """Returns an answer, or None if the worker says that it has started.

        Raises:
            EOFError, OSError: the worker is dead.
        """
        sample = receive_sample(self.connection)
        self._heard_at = time.monotonic()
        if isinstance(sample, Ready):
            return None
        tag, _ = self.pending.popleft()
        return tag, sample

    def is_late(self, timeout_seconds: float) -> bool:
        if not self.pending or self.connection.poll():
            return False
        size_bytes = self.pending[0][1].location.size_bytes
        idle_seconds = time.monotonic() - self._heard_at
        return idle_seconds > timeout_seconds + _SECONDS_PER_BYTE * size_bytes

    def exit_reason(self) -> str:
        self._process.join(timeout=KILL_SECONDS)
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"its decoder crashed ({signal.Signals(-code).name})"
        return f"its decoder ended ({code})"

    def kill(self) -> None:
        kill_worker(self._process)
        self.connection.close()


class SamplePool(Generic[Tag]):
    """Loads samples in parallel; for one thread. Use as a context manager.

    Args:
        settings: of the samples.
        num_workers: worker processes.
        limits: of each.
    """

    def __init__(
        self, settings: SampleSettings, *, num_workers: int, limits: WorkerLimits | None = None
    ) -> None:
        self._settings = settings
        self._limits = limits or WorkerLimits()
        self._num_workers = num_workers
        self._waiting: deque[tuple[Tag, SampleRequest]] = deque()
        self._done: deque[tuple[Tag, LoadedSample | BrokenSample]] = deque()
        self._workers: list[_Worker[Tag]] = []
        self._num_started = 0
        self._deaths: Counter[Tag] = Counter()
        self._scratch = tempfile.TemporaryDirectory(prefix="reelseek-shards-")

    def __enter__(self) -> "SamplePool[Tag]":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers = []
        self._scratch.cleanup()

    def submit(self, tag: Tag, request: SampleRequest) -> None:
        """Asks for a sample; `tag` is returned with it."""
        self._waiting.append((tag, request))

    def receive(
        self, timeout_seconds: float = _POLL_SECONDS
    ) -> list[tuple[Tag, LoadedSample | BrokenSample]]:
        """Returns the samples that are ready, in any order, after waiting for one for a while."""
        self._feed()
        busy = {worker.connection: worker for worker in self._workers if worker.pending}
        for connection in wait(list(busy), timeout=timeout_seconds) if not self._done else ():
            worker = busy[connection]  # type: ignore[index]
            try:
                answer = worker.receive()
                self._done += [] if answer is None else [answer]
            except (EOFError, OSError):
                self._bury(worker)
        for worker in [each for each in self._workers if self._is_late(each)]:
            tag, _ = worker.pending.popleft()
            reason = f"it gave no frame for {self._limits.timeout_seconds:.0f} seconds"
            self._done.append((tag, BrokenSample(reason)))
            self._replace(worker)
        done, self._done = list(self._done), deque()
        return done

    def _is_late(self, worker: _Worker[Tag]) -> bool:
        return worker.is_late(self._limits.timeout_seconds)

    def _feed(self) -> None:
        """Gives waiting requests to the workers that have the fewest."""
        while self._waiting:
            for worker in [each for each in self._workers if not each.pending]:
                if worker.num_videos >= self._limits.max_videos_per_worker:
                    self._replace(worker)
            least = min(self._workers, key=lambda each: len(each.pending), default=None)
            if (least is None or least.pending) and len(self._workers) < self._num_workers:
                least = self._start()
            if least is None or len(least.pending) >= _REQUESTS_AHEAD:
                return
            least.send(*self._waiting.popleft())

    def _start(self) -> _Worker[Tag]:
        scratch = Path(self._scratch.name, str(self._num_started))
        self._num_started += 1
        worker: _Worker[Tag] = _Worker(
            self._settings, scratch, memory_bytes=self._limits.memory_bytes
        )
        self._workers.append(worker)
        return worker

    def _bury(self, worker: _Worker[Tag]) -> None:
        """Replaces a dead worker. The sample that it died of is tried once more, since the system
        may have killed the worker for its neighbours' memory."""
        if worker.pending:
            tag, _ = worker.pending[0]
            self._deaths[tag] += 1
            if self._deaths[tag] > 1:
                worker.pending.popleft()
                self._done.append((tag, BrokenSample(worker.exit_reason())))
        self._replace(worker)

    def _replace(self, worker: _Worker[Tag]) -> None:
        worker.kill()
        self._workers.remove(worker)
        self._waiting.extendleft(reversed(worker.pending))
