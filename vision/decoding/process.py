"""Starts worker processes that can be killed at any moment without harm to others.

Workers are forked from a server process that has only loaded the libraries: a worker starts in
milliseconds and inherits no thread, lock or open file of the process that starts it.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from typing import Any

import psutil
import torch

from reelseek.vision.decoding.parent_death import die_with_parent

KILL_SECONDS = 5.0  # maximum wait for a killed process
_RETRY_SECONDS = 0.1
# Sent to all processes of a service or a terminal; Windows has no SIGHUP.
_PARENT_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def start_worker(work: Callable[..., None], *args: Any) -> tuple[Any, Connection]:
    """Starts a process that calls `work` with its end of a pipe and these arguments.

    Returns:
        The process, and our end of the pipe.
    """
    deadline = time.monotonic() + KILL_SECONDS
    while True:
        connection, far_end = _context().Pipe()
        process = _context().Process(target=work, args=(far_end, *args), name="decode", daemon=True)
        try:
            with _environment(_ONE_THREAD):
                process.start()
            return process, connection
        except (EOFError, OSError):  # the server is just dying: the next call starts another
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
        finally:
            far_end.close()


def kill_worker(process: Any) -> None:
    """Kills a worker and waits for its end, but not for ever."""
    process.kill()
    process.join(timeout=KILL_SECONDS)
    if process.exitcode is not None:
        process.close()
    else:  # it hangs in the kernel, as on a dead disk: do not wait for it at our exit either
        multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]


def start_decode_server() -> None:
    """Starts the process that workers are forked from, without waiting for it.

    The server needs seconds to load its libraries. When started from the main thread, it ignores
    SIGTERM and SIGHUP, which services and terminals send to all processes and which are for the
    parent to handle.
    """
    if _context().get_start_method() != "forkserver":
        return
    with _environment(_ONE_THREAD), _ignored_signals():
        forkserver.ensure_running()


def init_worker(memory_bytes: int) -> None:
    """Prepares a worker: one thread, no signals, no output, no life beyond the parent's.

    Args:
        memory_bytes: Expected maximum; allocations beyond twice as much fail (on Linux).
    """
    for number in (signal.SIGINT, *_PARENT_SIGNALS):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    _discard_output()
    _release_parent_pipes()
    die_with_parent()  # the server, which dies with its own
    if sys.platform == "linux":
        import resource

        # A second bound, for memory that grows faster than the parent checks it.
        max_bytes = psutil.Process().memory_info().rss + 2 * memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (max_bytes, max_bytes))


def _discard_output() -> None:
    """Drops what FFmpeg and decord print.

    It also keeps readers of the parent's output from waiting for a worker that cannot be killed.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def _release_parent_pipes() -> None:
    """Closes the pipe ends that keep the fork server and the resource tracker alive.

    Only the parent should hold them: a worker that hangs in the kernel may outlive it.
    """
    for holder, name in (
        (forkserver._forkserver, "_forkserver_alive_fd"),
        (resource_tracker._resource_tracker, "_fd"),
    ):
        descriptor = getattr(holder, name, None)
        if descriptor is not None:
            os.close(descriptor)
            setattr(holder, name, None)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Sets variables for processes that are started inside the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _ignored_signals() -> Iterator[None]:
    """Makes processes that are started inside the block ignore the parent's signals.

    Does nothing outside the main thread, which alone may set signal handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _PARENT_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _context() -> Any:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # The server skips modules that cannot be imported: decord has no build for some processors.
    readers = [f"{__package__}.{name}" for name in ("worker", "decord_reader", "pyav_reader")]
    context.set_forkserver_preload([*readers, "torchvision.transforms.v2"])  # which resizes
    return context
