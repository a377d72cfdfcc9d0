"""Videos -> frame embeddings: worker processes decode ahead while the model encodes.

Packs frames of many videos into full batches, so that short videos fill the model's batches too.
Both sides wait for each other through bounded queues, and a core that one of them leaves idle is
the other's. Keeps each encoded frame at once in the video's file of `indexing.store.unfinished`,
where there is one.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch

from reelseek.indexing.store.unfinished import FinishedVideo, UnfinishedVideo
from reelseek.vision import (
    DecodePool,
    FailedVideo,
    FileContent,
    Frames,
    ResumePoint,
    VideoEnd,
)
from reelseek.vision.decoding.capture_date import CaptureDate

QUEUED_CHUNKS = 16  # chunks of at most 32 frames at the model's size: 6 MB each at 260 pixels
_PATIENCE_SECONDS = 0.5  # without a frame from the decoders, after which a batch goes as it is

Tag = TypeVar("Tag")


class Encoder(Protocol):
    """Encodes frames: a `FrameEncoder`, or what stands for one on another machine."""

    @property
    def embedding_dim(self) -> int: ...

    @property
    def batch_frames(self) -> int: ...

    @property
    def num_parallel(self) -> int: ...

    def submit(self, pixels: torch.Tensor) -> "Future[torch.Tensor]":
        """See `FrameEncoder.submit`."""
        ...

    def pool(self, frame_embeddings: torch.Tensor) -> torch.Tensor:
        """See `FrameEncoder.pool`."""
        ...


@dataclass(frozen=True)
class EncodedVideo(Generic[Tag]):
    """The outcome of one video.

    Attributes:
        tag: the caller's, given with the path.
        embeddings: `(T, D)` float32, L2-normalised; T is 0 where the outcome is failed.
        times_seconds: `(T,)` float64, presentation times.
        outcome: `ok`, `partial` (other frames are lost or do not decode) or `failed`.
        reason: for people; empty for `ok`.
        decoder: that decoded it; empty if none could.
        num_encoded: frames that went through the model, at most T.
        shot_spans: `(S, 2)` float64, where the sampler finds shots.
        captured: when it was recorded, where the file says so.
        is_silent: its file did not answer.
    """

    tag: Tag
    embeddings: torch.Tensor
    times_seconds: np.ndarray
    duration_seconds: float
    outcome: str
    reason: str
    decoder: str = ""
    num_encoded: int = 0
    shot_spans: np.ndarray | None = None
    captured: CaptureDate | None = None
    is_silent: bool = False


def encode_videos(
    videos: Iterable[tuple[Tag, Path] | None],
    *,
    encoder: Encoder,
    pool: DecodePool,
    admit: Callable[[Tag, FileContent], UnfinishedVideo | None] | None = None,
    queued_chunks: int = QUEUED_CHUNKS,
) -> Generator[EncodedVideo[Tag], None, None]:
    """Decodes and encodes videos, and yields them as they are done; a broken one is an outcome, not
    an error.

    Args:
        videos: with tags; None where none is ready yet.
        admit: takes a video whose file has been read; returns where its frames are kept, earlier
            ones included, or None to skip the video. Called in another thread.
        queued_chunks: of frames that wait for the encoder at most.
    """
    chunks: Queue[tuple[_Video, Frames | FailedVideo] | None] = Queue(queued_chunks)
    stopped = threading.Event()
    failure: list[BaseException] = []

    def put(item: tuple[_Video, Frames | FailedVideo] | None) -> None:
        while not stopped.is_set():
            try:
                return chunks.put(item, timeout=0.1)
            except Full:
                continue

    def admit_video(video: _Video, content: FileContent) -> ResumePoint | None:
        assert admit is not None
        kept = admit(video.tag, content)
        return None if kept is None else video.resume(kept)

    def decode() -> None:
        try:
            tagged = (None if each is None else (_Video(each[0]), each[1]) for each in videos)
            for item in pool.decode(tagged, stopped=stopped, admit=admit_video if admit else None):
                put(item)
        except BaseException as error:  # raised again in the caller's thread
            failure.append(error)
        finally:
            put(None)

    thread = threading.Thread(target=decode, name="decode", daemon=True)
    thread.start()
    packer = _Packer(encoder)
    num_threads = torch.get_num_threads()
    # PyTorch's helper threads of this thread would spin on the cores that encode.
    torch.set_num_threads(1)
    try:
        for chunk in _arriving(chunks):
            if chunk is None:
                packer.flush()
            else:
                packer.add(*chunk)
            yield from packer.finished()
        packer.flush()
        packer.wait()
        yield from packer.finished()
        if failure:
            raise failure[0]
    finally:
        torch.set_num_threads(num_threads)
        stopped.set()
        thread.join()


def _arriving(
    chunks: "Queue[tuple[_Video, Frames | FailedVideo] | None]",
) -> "Iterator[tuple[_Video, Frames | FailedVideo] | None]":
    """Yields chunks as they come; None where there has been none for a while."""
    while True:
        try:
            chunk = chunks.get(timeout=_PATIENCE_SECONDS)
        except Empty:
            yield None
            continue
        if chunk is None:
            return
        yield chunk


@dataclass(frozen=True)
class _EncodedFrame:
    """The last encoded frame of a resumed video. It is decoded once more, to compare later frames
    with, and not encoded."""

    embedding: torch.Tensor  # (1, D)
    times_seconds: list[float]  # of the frames that show it
    rows: list[int]


@dataclass(eq=False)
class _Video:
    """A video on its way through the encoder."""

    tag: Any
    times_seconds: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    embeddings: list[torch.Tensor] = field(default_factory=list)
    num_encoded: int = 0
    num_waiting: int = 0  # frames that are not encoded yet
    end: VideoEnd | FailedVideo | None = None
    kept: UnfinishedVideo | None = None
    _num_kept_frames: int = 0
    _resumed: _EncodedFrame | None = None

    @property
    def is_finished(self) -> bool:
        return self.end is not None and self.num_waiting == 0

    def resume(self, kept: UnfinishedVideo) -> ResumePoint:
        """Takes up the frames that an earlier run encoded."""
        self.kept = kept
        embeddings = torch.from_numpy(kept.embeddings)
        last_row = len(embeddings) - 1
        if last_row < 0:
            return ResumePoint()
        first = kept.rows.index(last_row)
        self.times_seconds, self.rows = kept.times_seconds[:first], kept.rows[:first]
        self.embeddings, self.num_encoded = [embeddings[:last_row]], last_row
        self._num_kept_frames = first
        self._resumed = _EncodedFrame(
            embeddings[last_row:], kept.times_seconds[first:], kept.rows[first:]
        )
        return ResumePoint(kept.times_seconds[first - 1] if first else -1.0, last_row)

    def add(self, item: Frames | FailedVideo) -> torch.Tensor:
        """Takes a chunk from the decoder; returns the pixels to encode."""
        is_frames = isinstance(item, Frames) and len(item.times_seconds) > 0
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            self.embeddings.append(resumed.embedding)
            self.num_encoded += 1
            if not is_frames:  # nothing further decodes
                self.times_seconds += resumed.times_seconds
                self.rows += resumed.rows
        if isinstance(item, FailedVideo):
            self.end = item
            return torch.empty(0)
        self.times_seconds += item.times_seconds.tolist()
        self.rows += item.rows.tolist()
        self.end = item.end
        pixels = item.pixels if resumed is None else item.pixels[1:]
        self.num_waiting += len(pixels)
        return pixels

    def take(self, embeddings: torch.Tensor) -> None:
        """Takes the embeddings of the oldest waiting frames, and keeps them."""
        self.embeddings.append(embeddings)
        self.num_encoded += len(embeddings)
        self.num_waiting -= len(embeddings)
        self._keep(embeddings)

    def _keep(self, embeddings: torch.Tensor) -> None:
        """Keeps the frames that were encoded last, and their near duplicates."""
        if self.kept is None:
            return
        first = end = self._num_kept_frames
        while end < len(self.rows) and self.rows[end] < self.num_encoded:
            end += 1
        self.kept.append(
            embeddings.numpy(),
            self.times_seconds[first:end],
            self.rows[first:end],
            first_row=self.num_encoded - len(embeddings),
            first_frame=first,
        )
        self._num_kept_frames = end

    def result(self, embedding_dim: int) -> EncodedVideo:
        """Returns the outcome of a finished video, and keeps it."""
        end, reason = self.end, self.end.reason if self.end is not None else ""
        assert end is not None
        if not self.times_seconds:
            nothing, no_times = torch.empty(0, embedding_dim), np.empty(0)
            is_silent = isinstance(end, FailedVideo) and end.is_silent
            return EncodedVideo(
                self.tag, nothing, no_times, 0.0, "failed", reason, is_silent=is_silent
            )
        num_frames, last = len(self.times_seconds), self.times_seconds[-1]
        if reason:
            reason = f"{reason}; {num_frames} decode, the last at second {last:.1f}"
        if isinstance(end, FailedVideo):
            end = VideoEnd(last, end.decoder)
        spans = None if end.shot_spans is None else end.shot_spans.tolist()
        finished = FinishedVideo(
            end.duration_seconds,
            "partial" if reason else "ok",
            reason,
            end.decoder,
            shot_spans=spans,
            captured=None if end.captured is None else asdict(end.captured),
        )
        encoded = torch.cat(self.embeddings)
        if self.kept is not None:
            self._keep(encoded[self.num_encoded :])
            self.kept.finish(finished)
        return finished_video(
            self.tag, finished, encoded, times_seconds=self.times_seconds, rows=self.rows
        )


def finished_video(
    tag: Tag,
    finished: FinishedVideo,
    encoded: torch.Tensor,
    *,
    times_seconds: list[float],
    rows: list[int],
) -> EncodedVideo[Tag]:
    """Returns a video whose last frame is encoded, now or by an earlier run."""
    spans = finished.shot_spans
    return EncodedVideo(
        tag,
        encoded[torch.tensor(rows)],
        np.array(times_seconds, dtype=np.float64),
        finished.duration_seconds,
        finished.outcome,
        finished.reason,
        decoder=finished.decoder,
        num_encoded=len(encoded),
        shot_spans=None if spans is None else np.array(spans, dtype=np.float64).reshape(-1, 2),
        captured=None if finished.captured is None else CaptureDate(**finished.captured),
    )


def keep_video(kept: UnfinishedVideo, encoded: EncodedVideo) -> None:
    """Keeps a video that was encoded elsewhere, for the reverse of `finished_video`."""
    times_seconds = encoded.times_seconds.tolist()
    rows = list(range(len(times_seconds)))
    kept.append(encoded.embeddings.numpy(), times_seconds, rows, first_row=0, first_frame=0)
    spans, captured = encoded.shot_spans, encoded.captured
    kept.finish(
        FinishedVideo(
            encoded.duration_seconds,
            encoded.outcome,
            encoded.reason,
            encoded.decoder,
            shot_spans=None if spans is None else spans.tolist(),
            captured=None if captured is None else asdict(captured),
        )
    )


class _Packer:
    """Packs frames into full batches, and returns the videos whose last frame is encoded."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._parts: list[tuple[_Video, torch.Tensor]] = []  # of the next batch
        self._num_frames = 0
        self._in_flight: deque[tuple[Future[torch.Tensor], list[tuple[_Video, int]]]] = deque()
        self._finished: list[_Video] = []

    def add(self, video: _Video, item: Frames | FailedVideo) -> None:
        self._fill(video, video.add(item))
        if video.is_finished:
            self._finished.append(video)

    def finished(self) -> Iterator[EncodedVideo]:
        while self._in_flight and self._in_flight[0][0].done():
            self._take()
        done, self._finished = self._finished, []
        for video in done:
            yield video.result(self._encoder.embedding_dim)

    def flush(self) -> None:
        """Sends the unfinished batch."""
        if self._parts:
            parts = [part for _, part in self._parts]
            pixels = parts[0] if len(parts) == 1 else torch.cat(parts)
            owners = [(video, len(part)) for video, part in self._parts]
            self._in_flight.append((self._encoder.submit(pixels), owners))
            self._parts, self._num_frames = [], 0

    def wait(self) -> None:
        """Waits until all batches are encoded."""
        while self._in_flight:
            self._take()

    def _fill(self, video: _Video, pixels: torch.Tensor) -> None:
        while len(pixels):
            room = max(1, self._encoder.batch_frames - self._num_frames)
            part, pixels = pixels[:room], pixels[room:]
            self._parts.append((video, part))
            self._num_frames += len(part)
            if self._num_frames >= self._encoder.batch_frames:
                while len(self._in_flight) > 2 * self._encoder.num_parallel:
                    self._take()
                self.flush()

    def _take(self) -> None:
        """Waits for the oldest batch, and gives its embeddings to their videos."""
        future, owners = self._in_flight.popleft()
        for (video, _), embeddings in zip(
            owners, future.result().split([n for _, n in owners]), strict=True
        ):
            video.take(embeddings)
            if video.is_finished:
                self._finished.append(video)
