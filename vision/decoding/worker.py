"""A worker process that decodes: requests go in and frames come out through a pipe.

A full pipe makes the worker wait.
"""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

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
from reelseek.vision.decoding.process import KILL_SECONDS, init_worker, kill_worker, start_worker
from reelseek.vision.errors import VideoDecodeError
from reelseek.vision.sampling import Sampler

_HEARTBEAT_SECONDS = 1.0  # while a file is read


@dataclass(frozen=True)
class FailedVideo:
    """Ends a video that cannot be decoded further.

    Attributes:
        reason: Reason for users.
        decoder: Decoder of the frames that came before; empty if none came.
        is_silent: Whether the file did not respond, as on a disconnected network drive.
    """

    reason: str
    decoder: str = ""
    is_silent: bool = False


@dataclass(frozen=True)
class UnexpectedError:
    """A crash of the decoder's code, which says nothing about the video."""

    error: str


@dataclass(frozen=True)
class FileSize:
    """Precedes a video's frames; 0 if unknown."""

    size_bytes: int


@dataclass(frozen=True)
class Heartbeat:
    """Shows that a long read is going on."""


@dataclass(frozen=True)
class ReadRequest:
    """Asks for the `FileContent` of a file."""

    path: Path


@dataclass(frozen=True)
class DecodeRequest:
    """Asks for the frames of a video: arguments of `iter_frames`.

    Attributes:
        sampler: Replaces the sampler of the worker's settings, if given.
    """

    path: Path
    decoders: tuple[str, ...]
    after_seconds: float
    num_before: int
    sampler: Sampler | None = None


Answer = FileContent | FileSize | Heartbeat | Frames | FailedVideo | UnexpectedError


class DecodeWorker:
    """Our handle of a worker process.

    Args:
        settings: Frames to take from each video.
        openers: For `iter_frames`.
        memory_bytes: Expected maximum; allocations beyond twice as much fail.
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
        with suppress(OSError):  # it is dead, and the next receive raises
            self.connection.send(request)

    def receive(self) -> Answer:
        """Receives the next answer.

        Raises:
            EOFError, OSError: The worker is dead.
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
        """Seconds since the last answer; 0 if an answer is waiting to be received."""
        return 0.0 if self.connection.poll() else time.monotonic() - self._heard_at

    def memory_bytes(self) -> int:
        """Returns the resident memory; 0 if unknown."""
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def exit_reason(self) -> str:
        """Returns how a dead worker ended, for users."""
        self._process.join(timeout=KILL_SECONDS)
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"it crashed ({signal.Signals(-code).name})"
        return f"it ended ({code})"

    def kill(self) -> None:
        kill_worker(self._process)
        self.connection.close()


@dataclass(frozen=True)
class _FramesHead:
    """Announces `Frames` in the pipe; their raw pixels follow."""

    shape: tuple[int, ...]
    times_seconds: np.ndarray
    rows: np.ndarray
    end: VideoEnd | None


def _work(
    connection: Connection, settings: FrameSettings, openers: ReaderOpeners, memory_bytes: int
) -> None:
    """Runs the worker: answers requests until the pipe is closed."""
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
    sent_at = time.monotonic()

    def send_heartbeat() -> None:
        nonlocal sent_at
        if time.monotonic() - sent_at > _HEARTBEAT_SECONDS:
            connection.send(Heartbeat())
            sent_at = time.monotonic()

    try:
        connection.send(read_content(path, after_block=send_heartbeat))
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
    except (OSError, ValueError):  # the decoder reports why
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
