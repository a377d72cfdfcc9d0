"""Videos -> frame embeddings: worker processes decode ahead while the model encodes.

Frames of many videos are packed into full batches, so that short videos fill the model's batches
too. Both sides wait for each other through queues of a fixed length, and a core that one of them
does not use is the other's.
"""

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from vision import DecodePool, FailedVideo, FrameEncoder, Frames, VideoEnd
from vision.capture_date import CaptureDate

_QUEUED_CHUNKS = 16  # chunks of at most 32 frames at the model's size: 6 MB each at 260 pixels
_PATIENCE_SECONDS = 0.5  # without a frame from the decoders, after which a batch goes as it is

Tag = TypeVar("Tag")


@dataclass(frozen=True)
class EncodedVideo(Generic[Tag]):
    """What became of one video.

    Attributes:
        tag: what the caller gave with the path.
        embeddings: `(T, D)` float32, L2-normalised; T is 0 where the outcome is failed.
        times_seconds: `(T,)` float64, presentation times.
        outcome: `ok`, `partial` (other frames are lost or do not decode) or `failed`.
        reason: for people; empty for `ok`.
        decoder: that has decoded it; empty where none has.
        num_encoded: frames that the model has looked at, at most T.
        shot_spans: `(S, 2)` float64, where the sampler finds shots.
        captured: when it was recorded, where the file says so.
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


def encode_videos(
    videos: Iterable[tuple[Tag, Path]], *, encoder: FrameEncoder, pool: DecodePool
) -> Generator[EncodedVideo[Tag], None, None]:
    """Decodes and encodes videos, and yields them as they are done; a broken one is an outcome,
    not an error."""
    chunks: Queue[tuple[_Video, Frames | FailedVideo] | None] = Queue(_QUEUED_CHUNKS)
    stopped = threading.Event()
    failure: list[BaseException] = []

    def put(item: tuple[_Video, Frames | FailedVideo] | None) -> None:
        while not stopped.is_set():
            try:
                return chunks.put(item, timeout=0.1)
            except Full:
                continue

    def decode() -> None:
        try:
            tagged = ((_Video(tag), path) for tag, path in videos)
            for item in pool.decode(tagged, stopped=stopped):
                put(item)
        except BaseException as error:  # raised again in the caller's thread
            failure.append(error)
        finally:
            put(None)

    thread = threading.Thread(target=decode, name="decode", daemon=True)
    thread.start()
    packer = _Packer(encoder)
    num_threads = torch.get_num_threads()
    # Of this thread, the caller's: PyTorch's helpers would spin on the cores that encode.
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
    """Chunks as they come; None where there has been none for a while."""
    while True:
        try:
            chunk = chunks.get(timeout=_PATIENCE_SECONDS)
        except Empty:
            yield None
            continue
        if chunk is None:
            return
        yield chunk


@dataclass(eq=False)
class _Video:
    """A video on its way through the encoder."""

    tag: Any
    times_seconds: list[np.ndarray] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    embeddings: list[torch.Tensor] = field(default_factory=list)
    num_waiting: int = 0  # frames that are not encoded yet
    end: VideoEnd | FailedVideo | None = None

    @property
    def is_finished(self) -> bool:
        return self.end is not None and self.num_waiting == 0

    def result(self, embedding_dim: int) -> EncodedVideo:
        assert self.end is not None
        reason = self.end.reason
        times = np.concatenate([*self.times_seconds, np.empty(0)])
        if not len(times):
            nothing = torch.empty(0, embedding_dim)
            return EncodedVideo(self.tag, nothing, times, 0.0, "failed", reason)
        encoded = torch.cat(self.embeddings)
        if reason:
            reason = f"{reason}; {len(times)} decode, the last at second {times[-1]:.1f}"
        end = self.end
        if isinstance(end, FailedVideo):
            end = VideoEnd(float(times[-1]), end.decoder)
        return EncodedVideo(
            self.tag,
            encoded[torch.from_numpy(np.concatenate(self.rows))],
            times,
            end.duration_seconds,
            "partial" if reason else "ok",
            reason,
            decoder=end.decoder,
            num_encoded=len(encoded),
            shot_spans=end.shot_spans,
            captured=end.captured,
        )


class _Packer:
    """Packs frames into full batches, and hands out the videos whose last frame is encoded."""

    def __init__(self, encoder: FrameEncoder) -> None:
        self._encoder = encoder
        self._parts: list[tuple[_Video, torch.Tensor]] = []  # of the next batch
        self._num_frames = 0
        self._in_flight: deque[tuple[Future[torch.Tensor], list[tuple[_Video, int]]]] = deque()
        self._finished: list[_Video] = []

    def add(self, video: _Video, item: Frames | FailedVideo) -> None:
        if isinstance(item, FailedVideo):
            video.end = item
        else:
            video.times_seconds.append(item.times_seconds)
            video.rows.append(item.rows)
            video.num_waiting += len(item.pixels)
            video.end = item.end
            self._fill(video, item.pixels)
        if video.is_finished:
            self._finished.append(video)

    def finished(self) -> Iterator[EncodedVideo]:
        while self._in_flight and self._in_flight[0][0].done():
            self._take()
        done, self._finished = self._finished, []
        for video in done:
            yield video.result(self._encoder.embedding_dim)

    def flush(self) -> None:
        """Sends the batch that is being filled."""
        if self._parts:
            parts = [part for _, part in self._parts]
            pixels = parts[0] if len(parts) == 1 else torch.cat(parts)
            owners = [(video, len(part)) for video, part in self._parts]
            self._in_flight.append((self._encoder.submit(pixels), owners))
            self._parts, self._num_frames = [], 0

    def wait(self) -> None:
        """Until all batches are encoded."""
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
        for (video, num_frames), embeddings in zip(
            owners, future.result().split([n for _, n in owners]), strict=True
        ):
            video.embeddings.append(embeddings)
            video.num_waiting -= num_frames
            if video.is_finished:
                self._finished.append(video)
