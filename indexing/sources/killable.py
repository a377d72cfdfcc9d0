"""Calls into file systems that may never answer, each in a process that can be given up.

A network drive that is away blocks whoever touches it, in a wait that no signal ends. Where none is
mounted, calls are made directly.
"""

import gc
import os
import pickle
import signal
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, TypeVar

import psutil

from reelseek.indexing.sources.mounts import SilentMounts, may_hang
from reelseek.vision.decoding.parent_death import die_with_parent

_LOOK_EVERY_SECONDS = 0.5
_SECOND_CHANCE = 0.1  # of the deadline, for files beside one that did not answer

AnyPath = TypeVar("AnyPath", str, Path)
Result = TypeVar("Result")


def map_killably(
    function: Callable[[AnyPath], Result], paths: Sequence[AnyPath], *, timeout_seconds: float
) -> Iterator[Result | Exception]:
    """Calls a function for each path, in another process where one may be needed.

    Args:
        timeout_seconds: a call that uses no processor time for so long is given up.

    Yields:
        The result or the exception of each call; TimeoutError for a call that was given up, and for
        those skipped because too many on the same file system were given up before.
    """
    if not may_hang():
        for path in paths:
            try:
                yield function(path)
            except Exception as error:
                yield error
        return
    left, mounts = deque(paths), SilentMounts()
    while left:
        if mounts.is_given_up(Path(left[0])):
            left.popleft()
            yield TimeoutError(None, "others beside it did not answer")
            continue
        worker = _Worker(function, list(left))
        try:
            while left and not worker.is_lost:
                fraction = _SECOND_CHANCE if mounts.is_silent(Path(left[0])) else 1.0
                answer = worker.answer(fraction * timeout_seconds)
                is_silent = isinstance(answer, TimeoutError)
                mounts.note(Path(left.popleft()), is_silent=is_silent)
                yield answer
        finally:
            worker.kill()


class _Worker:
    """A fork of this process that calls the function and sends the results."""

    def __init__(self, function: Callable[[Any], Any], paths: Sequence[Any]) -> None:
        self._connection, far_end = Pipe(duplex=False)
        with warnings.catch_warnings():
            # Other threads may hold locks that the fork would wait for; it takes none of theirs.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if self._pid == 0:
            _work(far_end, function, paths)
        far_end.close()
        self.is_lost = False

    def answer(self, timeout_seconds: float) -> Any:
        busy_seconds, since = self._busy_seconds(), time.monotonic()
        while not self._connection.poll(min(_LOOK_EVERY_SECONDS, timeout_seconds)):
            if (now_busy := self._busy_seconds()) != busy_seconds:
                busy_seconds, since = now_busy, time.monotonic()
            elif time.monotonic() - since > timeout_seconds:
                self.is_lost = True
                return TimeoutError(None, f"it did not answer for {timeout_seconds:.0f} seconds")
        try:
            return pickle.loads(self._connection.recv_bytes())
        except EOFError:
            self.is_lost = True
            return OSError(None, "the process that was to look at it has died")

    def kill(self) -> None:
        """Kills the fork without waiting for it: it may hang in the kernel."""
        self._connection.close()
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        if not self.is_lost:
            with suppress(ChildProcessError):
                os.waitpid(self._pid, 0)

    def _busy_seconds(self) -> float:
        try:
            times = psutil.Process(self._pid).cpu_times()
        except psutil.Error:
            return 0.0
        return times.user + times.system


def _work(connection: Connection, function: Callable[[Any], Any], paths: Sequence[Any]) -> None:
    """Runs in the fork, and ends without this process's exit handlers."""
    gc.disable()  # finalizers may wait for threads that a fork lacks
    try:
        die_with_parent()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):  # readers of this process's output must not wait for the fork
            os.dup2(nowhere, stream)
        # A fork that hangs must not hold this process's locks or keep another process alive.
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            if descriptor > 2 and descriptor != connection.fileno():
                with suppress(OSError):
                    os.close(descriptor)
        for path in paths:
            try:
                answer: Any = function(path)
            except Exception as error:
                answer = error
            connection.send_bytes(pickle.dumps(answer))
    finally:
        os._exit(0)
