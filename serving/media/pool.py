"""Worker processes that cut: one that hangs, crashes or grows too large is killed and replaced."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil

from reelseek.serving.media.cutting import cut as cut_media
from reelseek.serving.media.cutting import work
from reelseek.serving.media.errors import MediaBusy
from reelseek.serving.media.requests import MediaRequest
from reelseek.vision.decoding.process import kill_worker, start_worker

_POLL_SECONDS = 0.25
_starting = threading.Lock()  # `start_worker` sets environment variables meanwhile


class WorkerKilled(Exception):
    """A request killed its worker, or made it hang. The message says how, for people."""


@dataclass(frozen=True)
class PoolLimits:
    """What a pool and its workers may take.

    Attributes:
        num_workers: at least 1.
        max_waiting: requests that may wait for a worker.
        max_wait_seconds: for a worker.
        memory_bytes: resident memory of a worker; the libraries alone take 400 MB.
        max_cuts: after which a worker is replaced, since decoders leak.
    """

    num_workers: int = 2
    max_waiting: int = 64
    max_wait_seconds: float = 10.0
    memory_bytes: int = 2 << 30
    max_cuts: int = 200


class CutPool:
    """Threads may share it; each waits for the answer to its own request.

    Args:
        cut: what workers do with a request; tests pass another function, importable by its name.
    """

    def __init__(
        self,
        limits: PoolLimits | None = None,
        *,
        cut: Callable[[MediaRequest], Any] = cut_media,
    ) -> None:
        self._limits = PoolLimits() if limits is None else limits
        self._cut = cut
        self._free = threading.Semaphore(self._limits.num_workers)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._num_waiting = 0

    def run(self, request: MediaRequest, *, timeout_seconds: float) -> Any:
        """Returns what a worker makes of a request.

        Raises:
            MediaBusy: too many wait already, or waited for too long.
            MediaError: the worker's own.
            WorkerKilled: the worker hung or died.
        """
        with self._turn():
            worker = self._take()
            try:
                succeeded, answer = worker.run(
                    request, timeout_seconds=timeout_seconds, memory_bytes=self._limits.memory_bytes
                )
            except BaseException:
                worker.kill()
                raise
            with self._lock:
                self._idle.append(worker)
        if not succeeded:
            raise answer
        return answer

    def close(self) -> None:
        """Ends the workers that have nothing to do."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.kill()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self._lock:
            if self._num_waiting >= self._limits.max_waiting:
                raise MediaBusy("too many thumbnails and clips at once; try again")
            self._num_waiting += 1
        try:
            has_turn = self._free.acquire(timeout=self._limits.max_wait_seconds)
        finally:
            with self._lock:
                self._num_waiting -= 1
        if not has_turn:
            raise MediaBusy("too many thumbnails and clips at once; try again")
        try:
            yield
        finally:
            self._free.release()

    def _take(self) -> "_Worker":
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        if worker is not None and (worker.num_cuts >= self._limits.max_cuts or worker.is_dead()):
            worker.kill()
            worker = None
        return worker or _Worker(self._cut, self._limits.memory_bytes)


class _Worker:
    """Our handle of a process."""

    def __init__(self, cut: Callable[[MediaRequest], Any], memory_bytes: int) -> None:
        with _starting:
            self._process, self._connection = start_worker(work, memory_bytes, cut)
        self.num_cuts = 0

    def run(
        self, request: MediaRequest, *, timeout_seconds: float, memory_bytes: int
    ) -> tuple[bool, Any]:
        self.num_cuts += 1
        deadline = time.monotonic() + timeout_seconds
        with suppress(OSError):  # it is dead, and `recv` below says so
            self._connection.send(request)
        while True:
            left = deadline - time.monotonic()
            if self._connection.poll(max(0.0, min(left, _POLL_SECONDS))):
                break
            if left <= 0:
                raise WorkerKilled(f"decoding it took over {timeout_seconds:.0f} seconds")
            if self._memory_bytes() > memory_bytes:
                raise WorkerKilled("decoding it needs too much memory")
        try:
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerKilled("decoding it crashed") from error

    def is_dead(self) -> bool:
        return not self._process.is_alive()

    def kill(self) -> None:
        kill_worker(self._process)
        self._connection.close()

    def _memory_bytes(self) -> int:
        """Resident memory; 0 if unknown."""
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return 0
