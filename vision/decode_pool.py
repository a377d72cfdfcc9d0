"""Files -> their sampled frames, decoded in worker processes that may hang, crash or swell."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Generic, TypeVar

from vision.decode_worker import DecodeRequest, DecodeWorker, FailedVideo, UnexpectedError
from vision.decoding import DECODERS, reader_openers
from vision.frames import Frames, FrameSettings, ReaderOpeners
from vision.sampling import Sampler

_LOOK_EVERY_SECONDS = 0.1
_SECONDS_A_BYTE = 0.5e-6

Tag = TypeVar("Tag")


@dataclass(frozen=True)
class WorkerLimits:
    """What a worker may take before it is killed and replaced.

    Attributes:
        timeout_seconds: without a frame, or without the end of the video; more than 0. Before the
            first frame, for which some files must be decoded from end to end, half a second more
            for each MB.
        memory_bytes: resident; at least 1 GB, since the libraries alone take half of one.
        videos_each: a worker is replaced after as many, since decoders leak; at least 1.
    """

    timeout_seconds: float = 120.0
    memory_bytes: int = 2 << 30
    videos_each: int = 200


@dataclass
class _Job(Generic[Tag]):
    """A video and how far it has come."""

    tag: Tag
    path: Path
    decoders: tuple[str, ...]  # yet to be tried, from the one that is being tried
    size_bytes: int
    sampler: Sampler | None
    last_seconds: float = -1.0
    num_rows: int = 0
    decoder: str = ""  # of the frames that have come
    reason: str = ""  # of the first decoder's end

    def request(self) -> DecodeRequest:
        return DecodeRequest(
            self.path, self.decoders, self.last_seconds, self.num_rows, self.sampler
        )


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
        self._settings = settings
        self._openers = openers
        self._limits = WorkerLimits() if limits is None else limits
        self._decoders = tuple(decoders)
        self._num_workers = num_workers or num_cores()
        self._idle: list[DecodeWorker] = []
        self._busy: list[tuple[DecodeWorker, _Job]] = []

    def __enter__(self) -> "DecodePool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for worker in self._idle:
            worker.kill()
        self._idle = []

    def decode(
        self,
        videos: Iterable[tuple[Tag, Path]],
        *,
        stopped: threading.Event | None = None,
        sampler_of: Callable[[Tag], Sampler] | None = None,
    ) -> Iterator[tuple[Tag, Frames | FailedVideo]]:
        """Decodes videos, several at a time; those that are ready come first.

        Args:
            videos: paths, and what is to be given back with their frames.
            stopped: set by another thread to end at once.
            sampler_of: gives each video a sampler of its own, by what is given back with it.

        Yields:
            Each video's frames in order. Its last item is a `Frames` with an `end`, or a
            `FailedVideo`, which may follow frames that came before.
        """
        left = iter(videos)
        is_over = False
        try:
            while stopped is None or not stopped.is_set():
                while not is_over and len(self._busy) < self._num_workers:
                    if (video := next(left, None)) is None:
                        is_over = True
                    else:
                        sampler = sampler_of(video[0]) if sampler_of else None
                        size_bytes = _size_bytes(video[1])
                        self._start(_Job(*video, self._decoders, size_bytes, sampler))
                if not self._busy:
                    return
                spoken = wait([w.connection for w, _ in self._busy], timeout=_LOOK_EVERY_SECONDS)
                for worker, job in list(self._busy):
                    if worker.connection in spoken:
                        item = self._receive(worker, job)
                    else:
                        item = self._look_after(worker, job)
                    if item is not None:
                        yield job.tag, item
        finally:
            for worker, _ in self._busy:
                worker.kill()  # what it has yet to say is of no use to anyone
            self._busy = []

    def _start(self, job: _Job) -> None:
        """Gives a job to a worker that is idle and neither old nor dead, or to a new one."""
        worker = self._idle.pop() if self._idle else None
        if worker is not None and (
            worker.num_videos >= self._limits.videos_each or not worker.is_alive()
        ):
            worker.kill()
            worker = None
        if worker is None:
            worker = DecodeWorker(
                self._settings, self._openers, memory_bytes=self._limits.memory_bytes
            )
        worker.start(job.request())
        self._busy.append((worker, job))

    def _receive(self, worker: DecodeWorker, job: _Job) -> Frames | FailedVideo | None:
        try:
            item = worker.receive()
        except (EOFError, OSError):
            return self._replace(worker, job, because=worker.how_it_died())
        if isinstance(item, UnexpectedError):
            return self._replace(worker, job, because=f"it failed unexpectedly ({item.error})")
        if isinstance(item, Frames):
            if len(item.times_seconds):
                job.last_seconds = float(item.times_seconds[-1])
                job.num_rows += len(item.pixels)
                job.decoder = job.decoder or job.decoders[0]
            if item.end is None:
                return item
        self._busy.remove((worker, job))
        self._idle.append(worker)
        if isinstance(item, FailedVideo):
            return FailedVideo(job.reason or item.reason, job.decoder)
        return item

    def _look_after(self, worker: DecodeWorker, job: _Job) -> FailedVideo | None:
        """Replaces a worker that takes too long or too much."""
        patience = self._limits.timeout_seconds
        if job.num_rows == 0:
            patience += _SECONDS_A_BYTE * job.size_bytes
        if worker.silent_seconds() > patience:
            return self._replace(
                worker, job, because=f"it gave no frame for {patience:.0f} seconds"
            )
        if worker.memory_bytes() <= self._limits.memory_bytes:
            return None
        if worker.num_videos > 1:  # others may have leaked it: once more, in a fresh worker
            return self._replace(worker, job, because="")
        gigabytes = self._limits.memory_bytes / (1 << 30)
        return self._replace(
            worker, job, because=f"it needed more than {gigabytes:.3g} GB of memory"
        )

    def _replace(self, worker: DecodeWorker, job: _Job, *, because: str) -> FailedVideo | None:
        """Kills a worker, and gives its video to a new one: to the next decoder, if there is one,
        where there is a reason against this one."""
        worker.kill()
        self._busy.remove((worker, job))
        if because:
            job.reason = job.reason or f"{job.decoders[0]} was stopped: {because}"
            job.decoders = job.decoders[1:]
            if not job.decoders:
                return FailedVideo(job.reason, job.decoder)
        self._start(job)
        return None


def num_cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # the worker will say why it cannot be read
        return 0
