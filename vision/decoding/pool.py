"""Files -> their sampled frames, decoded in worker processes that may hang, crash or swell."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Generic, TypeVar

from reelseek.vision.decoding.file_content import FileContent
from reelseek.vision.decoding.frames import Frames, FrameSettings, ReaderOpeners
from reelseek.vision.decoding.opening import reader_openers
from reelseek.vision.decoding.reader import DECODERS
from reelseek.vision.decoding.worker import (
    DecodeRequest,
    DecodeWorker,
    FailedVideo,
    FileSize,
    ReadRequest,
    StillReading,
    UnexpectedError,
)
from reelseek.vision.sampling import Sampler

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
        max_videos_per_worker: a worker is replaced after as many, since decoders leak; at least 1.
    """

    timeout_seconds: float = 120.0
    memory_bytes: int = 2 << 30
    max_videos_per_worker: int = 200


@dataclass(frozen=True)
class ResumePoint:
    """Where to begin with a video.

    Attributes:
        after_seconds: leave out the frames up to this time, of which
        num_before: were to be encoded.
    """

    after_seconds: float = -1.0
    num_before: int = 0


@dataclass
class _Job(Generic[Tag]):
    """A video and how far it has come."""

    tag: Tag
    path: Path
    decoders: tuple[str, ...]  # yet to be tried, from the one that is being tried
    sampler: Sampler | None
    is_admitted: bool  # else its file is being read
    size_bytes: int = 0
    last_seconds: float = -1.0
    num_rows: int = 0
    decoder: str = ""  # of the frames that have come
    reason: str = ""  # of the first decoder's end

    def request(self) -> ReadRequest | DecodeRequest:
        if not self.is_admitted:
            return ReadRequest(self.path)
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
        admit: Callable[[Tag, FileContent], ResumePoint | None] | None = None,
    ) -> Iterator[tuple[Tag, Frames | FailedVideo]]:
        """Decodes videos, several at a time; those that are ready come first.

        Args:
            videos: paths, and what is to be given back with their frames.
            stopped: set by another thread to end at once.
            sampler_of: gives each video a sampler of its own, by what is given back with it.
            admit: says of a video whose file has been read whether to decode it, and from where;
                one for which it gives None does not come back.

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
                        self._start(_Job(*video, self._decoders, sampler, admit is None))
                if not self._busy:
                    return
                spoken = wait([w.connection for w, _ in self._busy], timeout=_LOOK_EVERY_SECONDS)
                for worker, job in list(self._busy):
                    if worker.connection in spoken:
                        item = self._receive(worker, job, admit)
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
            worker.num_videos >= self._limits.max_videos_per_worker or not worker.is_alive()
        ):
            worker.kill()
            worker = None
        if worker is None:
            worker = DecodeWorker(
                self._settings, self._openers, memory_bytes=self._limits.memory_bytes
            )
        worker.start(job.request())
        self._busy.append((worker, job))

    def _receive(
        self,
        worker: DecodeWorker,
        job: _Job,
        admit: Callable[[Any, FileContent], ResumePoint | None] | None,
    ) -> Frames | FailedVideo | None:
        try:
            item = worker.receive()
        except (EOFError, OSError):
            return self._replace(worker, job, because=worker.exit_reason())
        if isinstance(item, StillReading):
            return None
        if isinstance(item, FileSize):
            job.size_bytes = item.size_bytes
            return None
        if isinstance(item, FileContent):
            assert admit is not None
            resume = admit(job.tag, item)
            if resume is None:
                self._busy.remove((worker, job))
                self._idle.append(worker)
                return None
            job.is_admitted = True
            job.last_seconds, job.num_rows = resume.after_seconds, resume.num_before
            worker.start(job.request())
            return None
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
        if not job.decoder:
            patience += _SECONDS_A_BYTE * job.size_bytes
        if worker.idle_seconds() > patience:
            if not job.is_admitted:
                self._discard(worker, job)
                return FailedVideo(
                    f"its file did not answer for {patience:.0f} seconds", is_silent=True
                )
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
        self._discard(worker, job)
        if because and not job.is_admitted:
            return FailedVideo(f"it cannot be read: {because}")
        if because:
            job.reason = job.reason or f"{job.decoders[0]} was stopped: {because}"
            job.decoders = job.decoders[1:]
            if not job.decoders:
                return FailedVideo(job.reason, job.decoder)
        self._start(job)
        return None

    def _discard(self, worker: DecodeWorker, job: _Job) -> None:
        worker.kill()
        self._busy.remove((worker, job))


def num_cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
