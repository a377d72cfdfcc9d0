"""Decodes videos in worker processes, and replaces workers that hang, crash or grow too large."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Generic, TypeVar

from reelseek.vision.cores import num_cores
from reelseek.vision.decoding.file_content import FileContent
from reelseek.vision.decoding.frames import Frames, FrameSettings, ReaderOpeners
from reelseek.vision.decoding.opening import reader_openers
from reelseek.vision.decoding.reader import DECODERS
from reelseek.vision.decoding.worker import (
    DecodeRequest,
    DecodeWorker,
    FailedVideo,
    FileSize,
    Heartbeat,
    ReadRequest,
    UnexpectedError,
)
from reelseek.vision.sampling import Sampler

_POLL_SECONDS = 0.1
_SECONDS_PER_BYTE = 0.5e-6

Tag = TypeVar("Tag")


class _End:
    """Follows the last video."""


_END = _End()


@dataclass(frozen=True)
class WorkerLimits:
    """Limits beyond which a worker is killed and replaced.

    Attributes:
        timeout_seconds: Maximum wait for the next frame or the end of a video; more than 0. The
            first frame may take half a second longer for each MB, since some files must first be
            decoded from end to end.
        memory_bytes: Resident memory; at least 1 GB, since the libraries alone take half of it.
        max_videos_per_worker: Videos before a worker is replaced, since decoders leak; at least 1.
    """

    timeout_seconds: float = 120.0
    memory_bytes: int = 2 << 30
    max_videos_per_worker: int = 200


@dataclass(frozen=True)
class ResumePoint:
    """Where to resume a video that was partly decoded before.

    Attributes:
        after_seconds: Skip frames up to this time.
        num_before: Frames up to this time that were to be encoded.
    """

    after_seconds: float = -1.0
    num_before: int = 0


@dataclass
class _Job(Generic[Tag]):
    """A video and its progress."""

    tag: Tag
    path: Path
    decoders: tuple[str, ...]  # the current decoder, and those not tried yet
    sampler: Sampler | None
    is_admitted: bool  # False while its file is being read
    size_bytes: int = 0
    last_seconds: float = -1.0
    num_rows: int = 0
    decoder: str = ""  # decoder of the frames received so far
    reason: str = ""  # why the first decoder was stopped

    def request(self) -> ReadRequest | DecodeRequest:
        if not self.is_admitted:
            return ReadRequest(self.path)
        return DecodeRequest(
            self.path, self.decoders, self.last_seconds, self.num_rows, self.sampler
        )


class DecodePool:
    """Decodes videos in parallel. Use as a context manager; leaving it kills the workers.

    Args:
        settings: Frames to take from each video.
        num_workers: Number of workers; 0 uses one per core.
        decoders: Decoders in the order to try them; the next one is used when a worker dies.
        limits: Limits of each worker.
        openers: For `iter_frames`; tests pass another function, importable by its name.
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
        videos: Iterable[tuple[Tag, Path] | None],
        *,
        stopped: threading.Event | None = None,
        sampler_of: Callable[[Tag], Sampler] | None = None,
        admit: Callable[[Tag, FileContent], ResumePoint | None] | None = None,
    ) -> Iterator[tuple[Tag, Frames | FailedVideo]]:
        """Decodes several videos at a time and yields frames as soon as they are ready.

        Args:
            videos: Pairs of a tag, which is returned with the frames, and a path; None where none
                is ready yet, to be asked again.
            stopped: Set by another thread to end at once.
            sampler_of: Returns a video's own sampler by its tag.
            admit: Decides, once a video's file has been read, where to resume it; videos for
                which it returns None are left out.

        Yields:
            Pairs of a tag and frames, in order within each video. The last item of a video is a
            `Frames` with an `end`, or a `FailedVideo`, which may follow frames.
        """
        remaining = iter(videos)
        is_exhausted = False
        try:
            while stopped is None or not stopped.is_set():
                while not is_exhausted and len(self._busy) < self._num_workers:
                    video = next(remaining, _END)
                    if video is None:
                        break
                    if isinstance(video, _End):
                        is_exhausted = True
                    else:
                        sampler = sampler_of(video[0]) if sampler_of else None
                        self._start(_Job(*video, self._decoders, sampler, admit is None))
                if not self._busy and is_exhausted:
                    return
                ready = wait([w.connection for w, _ in self._busy], timeout=_POLL_SECONDS)
                for worker, job in list(self._busy):
                    if worker.connection in ready:
                        item = self._receive(worker, job, admit)
                    else:
                        item = self._check_limits(worker, job)
                    if item is not None:
                        yield job.tag, item
        finally:
            for worker, _ in self._busy:
                worker.kill()  # nobody needs its remaining answers
            self._busy = []

    def _start(self, job: _Job) -> None:
        """Gives a job to an idle worker that is fit for it, or to a new worker."""
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
        if isinstance(item, Heartbeat):
            return None
        if isinstance(item, FileSize):
            job.size_bytes = item.size_bytes
            return None
        if isinstance(item, FileContent):
            assert admit is not None
            resume = admit(job.tag, item)
            if resume is None:
                self._release(worker, job)
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
        self._release(worker, job)
        if isinstance(item, FailedVideo):
            return FailedVideo(job.reason or item.reason, job.decoder)
        return item

    def _check_limits(self, worker: DecodeWorker, job: _Job) -> FailedVideo | None:
        """Replaces a worker that exceeds its limits."""
        timeout = self._limits.timeout_seconds
        if not job.decoder:
            timeout += _SECONDS_PER_BYTE * job.size_bytes
        if worker.idle_seconds() > timeout:
            if not job.is_admitted:
                self._discard(worker, job)
                return FailedVideo(
                    f"its file did not answer for {timeout:.0f} seconds", is_silent=True
                )
            return self._replace(worker, job, because=f"it gave no frame for {timeout:.0f} seconds")
        if worker.memory_bytes() <= self._limits.memory_bytes:
            return None
        if worker.num_videos > 1:  # earlier videos may have leaked it: retry in a fresh worker
            return self._replace(worker, job, because="")
        gigabytes = self._limits.memory_bytes / (1 << 30)
        return self._replace(
            worker, job, because=f"it needed more than {gigabytes:.3g} GB of memory"
        )

    def _replace(self, worker: DecodeWorker, job: _Job, *, because: str) -> FailedVideo | None:
        """Kills a worker and gives its video to a new one.

        Args:
            because: The fault of the current decoder, so that the next one takes over; empty to
                retry with the same decoder.
        """
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

    def _release(self, worker: DecodeWorker, job: _Job) -> None:
        self._busy.remove((worker, job))
        self._idle.append(worker)

    def _discard(self, worker: DecodeWorker, job: _Job) -> None:
        worker.kill()
        self._busy.remove((worker, job))
