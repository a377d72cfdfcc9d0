"""A process that decodes: jobs go in and frames come out through a pipe of its own, so that it can
be killed at any moment without harm to others. A full pipe makes it wait.

Workers are forked from a server process that has loaded the libraries and done nothing else: one
starts in milliseconds, and inherits no thread, lock or open file of the process that asks for it.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from reelseek.vision.decoding.file_content import FileContent, read_content, why_unreadable
from reelseek.vision.decoding.frames import (
    Frames,
    FrameSettings,
    ReaderOpeners,
    VideoEnd,
    iter_frames,
)
from reelseek.vision.errors import VideoDecodeError
from reelseek.vision.sampling import Sampler

_KILL_SECONDS = 5.0
_SIGN_OF_LIFE_SECONDS = 1.0  # while a file is read
_RETRY_SECONDS = 0.1
# Sent to all processes of a service or a terminal; Windows has no SIGHUP.
_PARENTS_SIGNALS = [
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
]
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class FailedVideo:
    """Stands for the rest of a video: nothing further decodes, for this reason.

    Attributes:
        decoder: that has decoded what came before; empty where nothing has come.
        is_silent: the file did not answer, as on a network drive that is away.
    """

    reason: str
    decoder: str = ""
    is_silent: bool = False


@dataclass(frozen=True)
class UnexpectedError:
    """An error of the decoder that is no verdict on the video."""

    error: str


@dataclass(frozen=True)
class FileSize:
    """Comes before a video's frames; 0 where it is not known."""

    size_bytes: int


@dataclass(frozen=True)
class StillReading:
    """A sign of life."""


@dataclass(frozen=True)
class ReadRequest:
    """A file of which a worker is to tell the `FileContent`."""

    path: Path


@dataclass(frozen=True)
class DecodeRequest:
    """What a worker is to decode: the arguments of `iter_frames`, and a sampler of its own."""

    path: Path
    decoders: tuple[str, ...]
    after_seconds: float
    num_before: int
    sampler: Sampler | None = None


Answer = FileContent | FileSize | StillReading | Frames | FailedVideo | UnexpectedError


class DecodeWorker:
    """The near end of a worker.

    Args:
        settings: what is to come of each video.
        openers: for `iter_frames`.
        memory_bytes: what it may take; twice as much and it cannot allocate.
    """

    def __init__(
        self, settings: FrameSettings, openers: ReaderOpeners, *, memory_bytes: int
    ) -> None:
        self._process, self.connection = start_worker(_work, settings, openers, memory_bytes)
        self.num_videos = 0
        self._heard_at = time.monotonic()

    def start(self, request: ReadRequest | DecodeRequest) -> None:
        self.num_videos += isinstance(request, DecodeRequest)
        self._heard_at = time.monotonic()
        with suppress(OSError):  # it has died: the next receive will say so
            self.connection.send(request)

    def receive(self) -> Answer:
        """Takes what it has to say.

        Raises:
            EOFError, OSError: it has died.
        """
        item = self.connection.recv()
        if isinstance(item, _FramesHead):
            pixels = torch.empty(item.shape, dtype=torch.uint8)
            if pixels.numel():
                self.connection.recv_bytes_into(pixels.numpy().reshape(-1))
            item = Frames(pixels, item.times_seconds, item.rows, item.end)
        self._heard_at = time.monotonic()
        return item

    def idle_seconds(self) -> float:
        """Since it was last heard; 0 where something waits to be received, since then the silence
        is this process's."""
        return 0.0 if self.connection.poll() else time.monotonic() - self._heard_at

    def memory_bytes(self) -> int:
        """Resident."""
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def exit_reason(self) -> str:
        self._process.join(timeout=_KILL_SECONDS)
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"it crashed ({signal.Signals(-code).name})"
        return f"it ended ({code})"

    def kill(self) -> None:
        kill_worker(self._process)
        self.connection.close()


def start_worker(work: Callable[..., None], *args: Any) -> tuple[Any, Connection]:
    """Starts a process that calls `work` with the far end of a pipe and these arguments.

    Returns:
        The process, and the near end.
    """
    deadline = time.monotonic() + _KILL_SECONDS
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
    process.kill()
    process.join(timeout=_KILL_SECONDS)
    if process.exitcode is not None:
        process.close()
    else:  # it hangs in the kernel, as on a dead disk: nobody waits for it, at the exit neither
        multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]


def start_decode_server() -> None:
    """Starts the process that workers are forked from, which needs seconds to load its libraries,
    and does not wait for it. Started from the main thread, it ignores SIGTERM and SIGHUP, which
    services and terminals send to all their processes, and which are this process's to hear."""
    if _context().get_start_method() != "forkserver":
        return
    with _environment(_ONE_THREAD), _ignored_signals():
        forkserver.ensure_running()


@dataclass(frozen=True)
class _FramesHead:
    """`Frames` on its way through a pipe: the pixels follow, as they are."""

    shape: tuple[int, ...]
    times_seconds: np.ndarray
    rows: np.ndarray
    end: VideoEnd | None


def _work(
    connection: Connection, settings: FrameSettings, openers: ReaderOpeners, memory_bytes: int
) -> None:
    """A worker's life: requests in, frames out, until the pipe is closed."""
    init_worker(memory_bytes)
    while True:
        try:
            request = connection.recv()
            if isinstance(request, ReadRequest):
                _read(connection, request.path)
            else:
                _decode(connection, request, settings, openers)
        except (EOFError, OSError):
            return


def _read(connection: Connection, path: Path) -> None:
    heard_at = time.monotonic()

    def give_sign() -> None:
        nonlocal heard_at
        if time.monotonic() - heard_at > _SIGN_OF_LIFE_SECONDS:
            connection.send(StillReading())
            heard_at = time.monotonic()

    try:
        connection.send(read_content(path, after_block=give_sign))
    except VideoDecodeError as error:
        connection.send(FailedVideo(str(error)))
    except (BrokenPipeError, ConnectionResetError):
        raise
    except OSError as error:
        connection.send(FailedVideo(why_unreadable(error)))
    except ValueError:  # a lone surrogate, or a zero byte
        connection.send(FailedVideo("its path is not UTF-8 text"))


def _size_bytes(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):  # the decoder will say why it cannot be read
        return 0


def _decode(
    connection: Connection, request: DecodeRequest, settings: FrameSettings, openers: ReaderOpeners
) -> None:
    connection.send(FileSize(_size_bytes(request.path)))
    if request.sampler is not None:
        settings = replace(settings, sampler=request.sampler)
    try:
        for frames in iter_frames(
            request.path,
            settings,
            decoders=request.decoders,
            after_seconds=request.after_seconds,
            num_before=request.num_before,
            openers=openers,
        ):
            shape = tuple(frames.pixels.shape)
            connection.send(_FramesHead(shape, frames.times_seconds, frames.rows, frames.end))
            if frames.pixels.numel():
                connection.send_bytes(frames.pixels.contiguous().numpy().reshape(-1).data)
    except VideoDecodeError as error:
        connection.send(FailedVideo(str(error)))
    except (BrokenPipeError, ConnectionResetError):
        raise
    except MemoryError:
        connection.send(UnexpectedError("out of memory"))
    except Exception as error:
        connection.send(UnexpectedError(f"{type(error).__name__}: {error}"[:200]))


def init_worker(memory_bytes: int) -> None:
    """One thread; deaf to what the parent is to hear; silent; gone with the parent."""
    for number in (signal.SIGINT, *_PARENTS_SIGNALS):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    # FFmpeg and decord write there what they please; and one who reads what the parent has written
    # is not to wait for a worker that nothing can kill.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    # The server and the resource tracker live as long as anyone holds these ends of their pipes:
    # only the parent is to, which a worker that hangs in the kernel may outlive.
    for holder, name in (
        (forkserver._forkserver, "_forkserver_alive_fd"),
        (resource_tracker._resource_tracker, "_fd"),
    ):
        descriptor = getattr(holder, name, None)
        if descriptor is not None:
            os.close(descriptor)
            setattr(holder, name, None)
    if sys.platform == "linux":
        import resource

        death_signal_option = 1  # PR_SET_PDEATHSIG: of the server, which ends with the parent
        ctypes.CDLL(None).prctl(death_signal_option, signal.SIGKILL)
        # A second bound, for what swells faster than it is looked after.
        max_bytes = psutil.Process().memory_info().rss + 2 * memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (max_bytes, max_bytes))


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Sets variables for the processes that are started within."""
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
    """What is started within ignores the parent's signals. Only the main thread may change what
    signals do."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _PARENTS_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _context() -> Any:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # decord is not to be had everywhere: what cannot be imported is passed over.
    context.set_forkserver_preload(
        [f"reelseek.vision.decoding.{name}" for name in ("worker", "decord_reader", "pyav_reader")]
    )
    return context
