"""The jobs on one index, one at a time: writes, which are short and come first, and runs of the
indexer, which are stopped for them and go on afterwards."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from reelseek.serving.library.errors import InvalidRequest

logger = logging.getLogger(__name__)

T = TypeVar("T")

_QUIET_SECONDS = 2.0  # after a write, so that many writes stop a run once
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 2.0, 300.0
_AGAIN_SECONDS = 60.0  # until files are looked at again that were being written
_USERS_MISTAKE = 2  # exit codes of the indexer
_NOTHING_SEARCHABLE = 1
_MAX_ADD_ATTEMPTS = 3


class Run(Protocol):
    """A run of the indexer, as `IndexRun`."""

    progress: dict[str, Any]
    summary: dict[str, Any]

    @property
    def has_ended(self) -> bool: ...
    @property
    def exit_code(self) -> int: ...
    @property
    def reason(self) -> str: ...
    def stop(self) -> None: ...


@dataclass
class _Write:
    work: Callable[[], Any]
    done: "Future[Any]" = field(default_factory=Future)


@dataclass
class _Adding:
    """A run over single videos that somebody waits for."""

    videos: tuple[str, ...]
    done: "Future[None]" = field(default_factory=Future)
    num_attempts: int = 0


class Jobs:
    """The queue of jobs, and the thread that does them.

    Args:
        start_run: starts the indexer over single videos, or over all that are watched where none
            are named; calls the function it is given when there is news.
        quiet_seconds: without a write, after which an interrupted run goes on.
    """

    def __init__(
        self,
        start_run: Callable[[Sequence[str], Callable[[], None]], Run],
        *,
        quiet_seconds: float = _QUIET_SECONDS,
        first_pause_seconds: float = _FIRST_PAUSE_SECONDS,
        again_seconds: float = _AGAIN_SECONDS,
    ) -> None:
        self._start_run = start_run
        self._quiet_seconds = quiet_seconds
        self._first_pause_seconds = self._pause_seconds = first_pause_seconds
        self._again_seconds = again_seconds
        self._changed = threading.Condition()
        self._writes: deque[_Write] = deque()
        self._adding: deque[_Adding] = deque()
        self._run_at: float | None = None  # when to look at all videos; None where nothing changed
        self._not_before = 0.0  # of any run
        self._is_closing = False
        self._state: dict[str, Any] = _state("idle")
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def write(self, work: Callable[[], T]) -> T:
        """Does a write when its turn has come, and returns what it returns."""
        write = _Write(work)
        with self._changed:
            self._refuse_if_closing()
            self._writes.append(write)
            self._changed.notify_all()
        return write.done.result()

    def add(self, videos: Sequence[str]) -> "Future[None]":
        """Indexes single videos before all others; the future is done when they can be searched."""
        adding = _Adding(tuple(videos))
        with self._changed:
            self._refuse_if_closing()
            self._adding.append(adding)
            self._changed.notify_all()
        return adding.done

    def request_run(self, *, after_seconds: float = 0.0) -> None:
        """Has the indexer look at all watched videos, soon."""
        with self._changed:
            self._request_run(after_seconds)

    def state(self) -> dict[str, Any]:
        """Returns how far the indexer is: `state` (idle, running, stopped or failed), `done`,
        `total`, `failed`, `seconds_left`, `video` and `reason`."""
        with self._changed:
            return dict(self._state)

    def close(self) -> None:
        """Stops a run, and does no further job."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()

    def _refuse_if_closing(self) -> None:
        if self._is_closing:
            raise RuntimeError("the service is stopping")

    def _request_run(self, after_seconds: float) -> None:
        at = time.monotonic() + after_seconds
        self._run_at = at if self._run_at is None else min(at, self._run_at)
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                job = None
                while job is None:
                    if self._is_closing:
                        self._cancel_all()
                        return
                    job = self._next_job()
                    if job is None:
                        self._changed.wait(self._seconds_to_run())
            if isinstance(job, _Write):
                _do(job)
                self._not_before = time.monotonic() + self._quiet_seconds
                continue
            try:
                self._run(job)
            except Exception as error:  # such as no memory for another process
                logger.exception("the indexer cannot be run")
                self._note_failed(job, str(error), is_hopeless=False)

    def _next_job(self) -> _Write | _Adding | None:
        """Takes the next job whose time has come; a run over all videos is an `_Adding` of none."""
        if self._writes:
            return self._writes.popleft()
        now = time.monotonic()
        if now < self._not_before:
            return None
        if self._adding:
            return self._adding.popleft()
        if self._run_at is not None and now >= self._run_at:
            self._run_at = None
            return _Adding(())
        return None

    def _seconds_to_run(self) -> float | None:
        if not self._adding and self._run_at is None:
            return None
        at = self._not_before if self._adding else max(self._not_before, self._run_at or 0.0)
        return max(0.0, at - time.monotonic())

    def _run(self, job: _Adding) -> None:
        job.num_attempts += 1
        run = self._start_run(job.videos, self._notify)
        with self._changed:
            while not run.has_ended and not self._must_yield(job):
                self._state = _state("running", run.progress)
                self._changed.wait()
        if not run.has_ended:
            run.stop()
            self._note_stopped(job, run)
        elif run.exit_code in (0, _NOTHING_SEARCHABLE):
            self._note_done(job, run)
        else:
            logger.error("indexing failed", extra={"fields": {"reason": run.reason}})
            is_hopeless = run.exit_code == _USERS_MISTAKE or job.num_attempts >= _MAX_ADD_ATTEMPTS
            self._note_failed(job, run.reason, is_hopeless=is_hopeless)

    def _must_yield(self, job: _Adding) -> bool:
        return self._is_closing or bool(self._writes) or bool(self._adding and not job.videos)

    def _note_stopped(self, job: _Adding, run: Run) -> None:
        with self._changed:
            self._state = _state("stopped", run.progress)
            job.num_attempts -= 1
            self._put_back(job)

    def _note_done(self, job: _Adding, run: Run) -> None:
        with self._changed:
            self._state = _state("idle", run.progress)
            self._pause_seconds = self._first_pause_seconds
            if run.summary.get("settling"):
                self._request_run(self._again_seconds)
        job.done.set_result(None)

    def _note_failed(self, job: _Adding, reason: str, *, is_hopeless: bool) -> None:
        """Tries again later; tells those who wait for single videos when that is of no use."""
        is_given_up = is_hopeless and bool(job.videos)
        with self._changed:
            self._state = _state("failed", self._state, reason=reason)
            self._not_before = time.monotonic() + self._pause_seconds
            self._pause_seconds = min(2 * self._pause_seconds, _MAX_PAUSE_SECONDS)
            if not is_given_up:
                self._put_back(job)
        if is_given_up:
            job.done.set_exception(InvalidRequest(f"the videos cannot be indexed: {reason}"))

    def _put_back(self, job: _Adding) -> None:
        if job.videos:
            self._adding.appendleft(job)
        else:
            self._request_run(0.0)

    def _cancel_all(self) -> None:
        waiting: list[_Write | _Adding] = [*self._writes, *self._adding]
        for job in waiting:
            job.done.set_exception(RuntimeError("the service is stopping"))
        self._writes.clear()
        self._adding.clear()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


def _do(write: _Write) -> None:
    try:
        write.done.set_result(write.work())
    except BaseException as error:
        write.done.set_exception(error)


def _state(name: str, progress: dict[str, Any] | None = None, *, reason: str = "") -> dict:
    progress = progress or {}
    return {
        "state": name,
        "done": progress.get("done", 0),
        "total": progress.get("total", 0),
        "failed": progress.get("failed", 0),
        "seconds_left": progress.get("seconds_left") if name == "running" else None,
        "video": progress.get("video", "") if name == "running" else "",
        "reason": reason,
    }
