"""Files -> their sampled frames, decoded in worker processes that may hang, crash or swell.

Each worker has a pipe of its own, so that it can be killed at any moment without harm to the
others. Frames arrive through it as they are decoded; a full pipe makes a worker wait.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import psutil
import torch

from vision.decoding import DECODERS, reader_openers
from vision.errors import VideoDecodeError
from vision.frames import Frames, FrameSettings, ReaderOpeners, VideoEnd, iter_frames

_LOOK_EVERY_SECONDS = 0.1
_LIMIT_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Tag = TypeVar("Tag")


@dataclass(frozen=True)
class WorkerLimits:
    """What a worker may take before it is killed and replaced.

    Attributes:
        timeout_seconds: without a frame, or without the end of the video; more than 0.
        memory_bytes: resident, at least 0.5 GB, since the libraries alone take a fifth of one.
        videos_each: a worker is replaced after as many, since decoders leak; at least 1.
    """

    timeout_seconds: float = 120.0
    memory_bytes: int = 2 << 30
    videos_each: int = 200


@dataclass(frozen=True)
class FailedVideo:
    """Stands for the rest of a video: nothing further decodes, for this reason.

    Attributes:
        decoder: that has decoded what came before; empty where nothing has come.
    """

    reason: str
    decoder: str = ""


@dataclass
class _Job(Generic[Tag]):
    """A video and how far it has come."""

    tag: Tag
    path: Path
    decoders: tuple[str, ...]  # yet to be tried, from the one that is being tried
    last_seconds: float = -1.0
    num_rows: int = 0
    decoder: str = ""  # of the frames that have come
    reason: str = ""  # of the first decoder's end


class DecodePool:
    """Workers that decode. Use as a context manager; leaving it kills them.

    Args:
        settings: what is to come of each video.
        num_workers: 0 for one a core.
        decoders: in the order in which they are tried: the next one where a worker dies.
        limits: of each worker.
        openers: for `iter_frames`; another one for tests, importable by its name.
    """

    def __init__(
        self,
        settings: FrameSettings,
        *,
        num_workers: int = 0,
        decoders: Sequence[str] = DECODERS,
        limits: WorkerLimits | None = None,
        openers: ReaderOpeners = reader_openers,
    ) -> None:
        self._limits = limits or WorkerLimits()
        self._decoders = tuple(decoders)
        self._arguments = (settings, openers)
        self._num_workers = num_workers or num_cores()
        self._workers: list[_Worker] = []

    def __enter__(self) -> "DecodePool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers = []

    def decode(
        self, videos: Iterable[tuple[Tag, Path]], *, stopped: threading.Event | None = None
    ) -> Iterator[tuple[Tag, Frames | FailedVideo]]:
        """Decodes videos, several at a time; those that are ready come first.

        Args:
            videos: paths, and what is to be given back with their frames.
            stopped: set by another thread to end at once.

        Yields:
            Each video's frames in order. Its last item is a `Frames` with an `end`, or a
            `FailedVideo`, which may follow frames that came before.
        """
        try:
            yield from self._decode(videos, stopped or threading.Event())
        finally:
            for worker in [worker for worker in self._workers if worker.job is not None]:
                self._remove(worker)  # what it has yet to say is of no use to anyone

    def _decode(
        self, videos: Iterable[tuple[Tag, Path]], stopped: threading.Event
    ) -> Iterator[tuple[Tag, Frames | FailedVideo]]:
        left = iter(videos)
        is_over = False
        while not stopped.is_set():
            while not is_over and (free := self._free_worker()) is not None:
                if (video := next(left, None)) is None:
                    is_over = True
                else:
                    free.start(_Job(video[0], video[1], self._decoders))
            busy = [worker for worker in self._workers if worker.job is not None]
            if not busy:
                return
            ready = wait([w.connection for w in busy], timeout=_LOOK_EVERY_SECONDS)
            for worker in busy:
                job = worker.job
                assert job is not None
                if worker.connection in ready:
                    item = self._receive(worker, job)
                else:
                    item = self._look_after(worker, job)
                if item is not None:
                    yield job.tag, item
                    worker.heard()  # the time that the caller took is not the worker's

    def _remove(self, worker: "_Worker") -> None:
        worker.kill()
        self._workers.remove(worker)

    def _free_worker(self) -> "_Worker | None":
        for worker in list(self._workers):
            if worker.job is None:
                if worker.num_videos < self._limits.videos_each and worker.is_alive():
                    return worker
                self._remove(worker)
        if len(self._workers) < self._num_workers:
            self._workers.append(_Worker(self._arguments, self._limits))
            return self._workers[-1]
        return None

    def _receive(self, worker: "_Worker", job: _Job) -> Frames | FailedVideo | None:
        try:
            item = worker.receive()
        except (EOFError, OSError):
            return self._died(worker, job, worker.how_it_died())
        if isinstance(item, _Unexpected):
            return self._died(worker, job, f"it failed unexpectedly ({item.error})")
        if isinstance(item, FailedVideo):
            worker.job = None
            return FailedVideo(job.reason or item.reason, job.decoder)
        if len(item.times_seconds):
            job.last_seconds = float(item.times_seconds[-1])
            job.num_rows += len(item.pixels)
            job.decoder = job.decoder or job.decoders[0]
        if item.end is not None:
            worker.job = None
        return item

    def _look_after(self, worker: "_Worker", job: _Job) -> FailedVideo | None:
        """Kills a worker that takes too long or too much."""
        if worker.silent_seconds() > self._limits.timeout_seconds:
            seconds = f"{self._limits.timeout_seconds:g}"
            return self._died(worker, job, f"it gave no frame for {seconds} seconds")
        if worker.memory_bytes() > self._limits.memory_bytes:
            gigabytes = f"{self._limits.memory_bytes / (1 << 30):.3g}"
            return self._died(worker, job, f"it needed more than {gigabytes} GB of memory")
        return None

    def _died(self, worker: "_Worker", job: _Job, how: str) -> FailedVideo | None:
        """Replaces a worker, whose video goes to the next decoder, if there is one."""
        self._remove(worker)
        job.reason = job.reason or f"{job.decoders[0]} was stopped: {how}"
        job.decoders = job.decoders[1:]
        if not job.decoders:
            return FailedVideo(job.reason, job.decoder)
        self._workers.append(_Worker(self._arguments, self._limits))
        self._workers[-1].start(job)
        return None


def num_cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start_decode_server() -> None:
    """Starts the process that workers are forked from, which needs seconds to load its libraries,
    and does not wait for it."""
    if _context().get_start_method() == "forkserver":
        with _environment(_LIMIT_ENVIRONMENT):
            forkserver.ensure_running()


class _Worker:
    """The near end of a worker process."""

    def __init__(
        self, arguments: tuple[FrameSettings, ReaderOpeners], limits: WorkerLimits
    ) -> None:
        context = _context()
        self.connection, far_end = context.Pipe()
        self._process = context.Process(
            target=_work, args=(far_end, *arguments, limits), name="decode", daemon=True
        )
        with _environment(_LIMIT_ENVIRONMENT):
            self._process.start()
        far_end.close()
        self.job: Any = None
        self.num_videos = 0
        self._heard_at = time.monotonic()

    def start(self, job: _Job) -> None:
        self.job = job
        self.num_videos += 1
        self.heard()
        with suppress(OSError):  # it has died: the next receive will say so
            self.connection.send((job.path, job.decoders, job.last_seconds, job.num_rows))

    def receive(self) -> "Frames | FailedVideo | _Unexpected":
        """Raises EOFError or OSError where the worker has died."""
        item = self.connection.recv()
        if isinstance(item, _FramesHead):
            pixels = torch.empty(item.shape, dtype=torch.uint8)
            if pixels.numel():
                self.connection.recv_bytes_into(pixels.numpy().reshape(-1))
            item = Frames(pixels, item.times_seconds, item.rows, item.end)
        self.heard()
        return item

    def heard(self) -> None:
        self._heard_at = time.monotonic()

    def silent_seconds(self) -> float:
        return time.monotonic() - self._heard_at

    def memory_bytes(self) -> int:
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def how_it_died(self) -> str:
        self._process.join(timeout=5)
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"it crashed ({signal.Signals(-code).name})"
        return f"it ended ({code})"

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()
        self.connection.close()


@dataclass(frozen=True)
class _FramesHead:
    """`Frames` on its way through a pipe: the pixels follow, as they are."""

    shape: tuple[int, ...]
    times_seconds: np.ndarray
    rows: np.ndarray
    end: VideoEnd | None


@dataclass(frozen=True)
class _Unexpected:
    """An error that is no verdict on the video."""

    error: str


def _work(
    connection: Connection, settings: FrameSettings, openers: ReaderOpeners, limits: WorkerLimits
) -> None:
    """A worker's life: jobs in, frames out, until the pipe is closed."""
    _be_a_worker(limits)
    while True:
        try:
            path, decoders, after_seconds, num_before = connection.recv()
        except (EOFError, OSError):
            return
        try:
            for frames in iter_frames(
                path,
                settings,
                decoders=decoders,
                after_seconds=after_seconds,
                num_before=num_before,
                openers=openers,
            ):
                shape = tuple(frames.pixels.shape)
                connection.send(_FramesHead(shape, frames.times_seconds, frames.rows, frames.end))
                if frames.pixels.numel():
                    connection.send_bytes(frames.pixels.contiguous().numpy().reshape(-1).data)
        except VideoDecodeError as error:
            connection.send(FailedVideo(str(error)))
        except (BrokenPipeError, ConnectionResetError):
            return
        except Exception as error:
            connection.send(_Unexpected(f"{type(error).__name__}: {error}"[:200]))


def _be_a_worker(limits: WorkerLimits) -> None:
    """One thread; deaf to Ctrl-C, which is the parent's to hear; silent; gone with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # FFmpeg and decord write there what they please
    if sys.platform == "linux":
        import resource

        death_signal_option = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(death_signal_option, signal.SIGKILL)
        # A second bound, for what swells faster than it is looked after.
        most = psutil.Process().memory_info().rss + 2 * limits.memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


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


def _context() -> Any:
    """Workers are forked from a process that has loaded the libraries and done nothing else, so
    that one starts in milliseconds and inherits no thread, lock or open file of this one."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vision.workers", "vision.pyav_reader"])
    return context
