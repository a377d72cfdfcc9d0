"""Decodes a file's audio track into 16 kHz mono samples with their times.

A separate process decodes and is killed at a deadline. It waits while the pipe is full, so that an
hour-long track needs little memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from reelseek.vision.decoding.container import packets
from reelseek.vision.decoding.process import init_worker, kill_worker, start_worker
from reelseek.vision.errors import MAX_DURATION_SECONDS, VideoDecodeError

SAMPLE_RATE = 16_000

_PIECE_SECONDS = 10.0  # of audio per message through the pipe
_MEMORY_BYTES = 1 << 30
_FIRST_PACKETS = (
    64  # packets to search for the first frame: storage order differs from presentation order
)
_JUMP_SECONDS = 0.2  # larger deviations of the stated times are gaps, not clock inaccuracy


@dataclass(frozen=True)
class Sound:
    """A piece of a file's audio without gaps.

    Attributes:
        samples: `(N,)` float32 in [-1, 1], `SAMPLE_RATE` per second.
        start_seconds: Time of the first sample, relative to the video's first frame.
    """

    samples: np.ndarray
    start_seconds: float

    @property
    def end_seconds(self) -> float:
        return self.start_seconds + len(self.samples) / SAMPLE_RATE


def iter_sound(path: str | Path, *, timeout_seconds: float = 120.0) -> Iterator[Sound]:
    """Decodes the audio track in pieces of a few seconds; yields none if there is no track.

    Args:
        path: The file.
        timeout_seconds: Maximum wait for the next piece.

    Raises:
        VideoDecodeError: The file cannot be read, or decoding it timed out or crashed.
    """
    process, connection = start_worker(_work, Path(path))
    try:
        while True:
            if not connection.poll(timeout_seconds):
                raise VideoDecodeError(f"its audio gave no sound for {timeout_seconds:.0f} seconds")
            try:
                item = connection.recv()
            except (EOFError, OSError) as error:
                raise VideoDecodeError("decoding its audio crashed") from error
            if isinstance(item, str):
                raise VideoDecodeError(item)
            if item is None:
                return
            yield item
    finally:
        kill_worker(process)
        connection.close()


def _work(connection: Connection, path: Path) -> None:
    """Runs the worker: sends sounds and then None, or the reason of a failure."""
    init_worker(_MEMORY_BYTES)
    try:
        for sound in decode_sound(path):
            connection.send(sound)
        connection.send(None)
    except VideoDecodeError as error:
        connection.send(str(error))
    except (BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:
        connection.send(f"its audio cannot be decoded ({type(error).__name__}: {error})"[:200])


def decode_sound(path: Path) -> Iterator[Sound]:
    """Decodes in this process, which a damaged file may hang or crash.

    A piece ends early at gaps and jumps in time. Damaged packets are skipped.
    """
    zero = _first_frame_seconds(path)
    with _open(path) as container:
        stream = container.streams.best("audio")
        if stream is None:
            return
        if not isinstance(stream, AudioStream) or stream.codec_context is None:
            raise VideoDecodeError("FFmpeg has no decoder for its audio track")
        stream.codec_context.thread_count = 1
        pieces = _Pieces(start_seconds=zero)
        for frame in _frames(container, stream):
            yield from pieces.add(frame)
        yield from pieces.end()


def _open(path: Path) -> InputContainer:
    try:
        return av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, ValueError, OSError) as error:
        raise VideoDecodeError("it is no video, or damaged where it begins") from error


def _first_frame_seconds(path: Path) -> float:
    """Returns the time of the first video frame from its packets: the stated one may be wrong."""
    with _open(path) as container:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream):
            return 0.0
        first = islice(packets(container, stream), _FIRST_PACKETS)
        times = [p.pts for p in first if p.size and p.pts is not None and not p.is_discard]
        return float(min(times) * (stream.time_base or 0)) if times else 0.0


class _Pieces:
    """Joins decoded frames into pieces.

    Each frame follows the one before, unless its stated time clearly differs.
    """

    def __init__(self, *, start_seconds: float) -> None:
        self._zero = start_seconds
        self._resampler = self._new_resampler()
        self._shape: tuple | None = None
        self._parts: list[np.ndarray] = []
        self._num_waiting = 0
        self._start = 0.0  # time of the waiting samples
        self._next = 0.0  # expected time of the next frame

    def add(self, frame: AudioFrame) -> Iterator[Sound]:
        seconds = None  # no time, or an absurd one
        if frame.pts is not None and frame.time_base is not None:
            stated = float(frame.pts * frame.time_base) - self._zero
            seconds = stated if abs(stated) < MAX_DURATION_SECONDS else None
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        jumps = seconds is not None and abs(seconds - self._next) > _JUMP_SECONDS
        if shape != self._shape or jumps:
            yield from self.end()
            self._resampler, self._shape = self._new_resampler(), shape
            if seconds is not None:
                self._start = self._next = seconds
        self._next += frame.samples / max(1, frame.sample_rate)
        frame.pts = None
        self._take(self._resampler.resample(frame))
        if self._num_waiting >= _PIECE_SECONDS * SAMPLE_RATE:
            yield from self._piece()

    def end(self) -> Iterator[Sound]:
        if self._shape is not None:
            self._take(self._resampler.resample(None))
        yield from self._piece()

    def _take(self, frames: list[AudioFrame]) -> None:
        for frame in frames:
            samples = frame.to_ndarray().reshape(-1)
            self._parts.append(samples)
            self._num_waiting += len(samples)

    def _piece(self) -> Iterator[Sound]:
        if self._parts:
            samples = np.concatenate(self._parts).astype(np.float32) / 32768
            # Sound before the first frame belongs to no moment of the video.
            skipped = min(len(samples), max(0, round(-self._start * SAMPLE_RATE)))
            if skipped < len(samples):
                yield Sound(samples[skipped:], max(0.0, self._start))
            self._start += len(samples) / SAMPLE_RATE
            self._parts, self._num_waiting = [], 0

    @staticmethod
    def _new_resampler() -> AudioResampler:
        return AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)


def _frames(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    for packet in packets(container, stream):
        try:
            decoded: list = packet.decode()
        except av.FFmpegError:
            continue
        yield from (frame for frame in decoded if isinstance(frame, AudioFrame))
