"""Uploaded images and videos -> frames for the model, decoded where they can do no harm.

A worker process decodes each file, with bounds on its time, memory and pixels, and is killed at
its bound. The file lies in a private folder and is removed in every case.
"""

import queue
import threading
from functools import partial
from pathlib import Path

import numpy as np

from reelseek.serving.upload_files import (
    GIF_STARTS,
    KIND_NAMES,
    Kind,
    UploadLimits,
    kind_of,
    private_file,
    read_head,
    too_large,
)
from reelseek.serving.upload_readers import ContentLimits, upload_openers
from reelseek.vision import DecodePool, FailedVideo, FrameSettings, WorkerLimits
from reelseek.vision.decoding.frames import ReaderOpeners

_TINY_GIF = b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"


class UploadsBusyError(Exception):
    """Other uploads are being decoded; the same one may succeed later."""


class UploadDecoder:
    """Decodes uploaded files. Threads may share it; close it to end its workers.

    Args:
        settings: Frames to take from each file, at the model's size.
        limits: Bounds of each file.
        folder: For files given as bytes; private to this user. Default: the system's.
        openers: For `iter_frames`; tests pass another function, importable by its name.
    """

    def __init__(
        self,
        settings: FrameSettings,
        *,
        limits: UploadLimits | None = None,
        folder: Path | None = None,
        openers: ReaderOpeners | None = None,
    ) -> None:
        self._limits = limits = UploadLimits() if limits is None else limits
        self._folder = folder
        content = ContentLimits(max_pixels=limits.max_pixels)
        self._pools: queue.LifoQueue[DecodePool] = queue.LifoQueue()
        for _ in range(limits.num_workers):
            pool = DecodePool(
                settings,
                num_workers=1,
                decoders=("pyav",),
                limits=WorkerLimits(
                    timeout_seconds=2 * limits.timeout_seconds,  # ours comes first
                    memory_bytes=limits.memory_bytes,
                    max_videos_per_worker=50,
                ),
                openers=openers or partial(upload_openers, limits=content),
            )
            self._pools.put(pool)

    def close(self) -> None:
        """Ends the workers, when no file is being decoded."""
        while not self._pools.empty():
            self._pools.get().close()

    def warm_up(self) -> None:
        """Starts the workers, which takes them seconds."""
        pools = [self._pools.get() for _ in range(self._limits.num_workers)]
        for pool in pools:
            self._pools.put(pool)
            self.decode(_TINY_GIF, "image")

    def decode(self, source: Path | bytes, kind: Kind | None = None) -> np.ndarray:
        """Decodes an uploaded file, and removes it.

        Args:
            source: A file made by `save_upload`, or its content.
            kind: What the file was sent as; None for either.

        Returns:
            `(T, 3, H, W)` uint8, T at least 1.

        Raises:
            ValueError: It is too large, of another kind, or cannot be decoded within its bounds.
                The message is one line for its sender, and names no path.
            UploadsBusyError: All workers are busy with other files.
        """
        if isinstance(source, Path):
            try:
                return self._decode(source, kind)
            finally:
                source.unlink(missing_ok=True)
        self._check(source, kind, size_bytes=len(source))
        with private_file(self._folder) as (path, file):
            file.write(source)
            file.flush()
            return self._decode(path, kind)

    def _check(self, head: bytes, sent_as: Kind | None, *, size_bytes: int) -> None:
        if not size_bytes:
            raise ValueError("the file is empty (0 bytes)")
        found = kind_of(head)
        if found is None:
            raise ValueError("it is neither an image nor a video of a known format")
        max_bytes = self._limits.max_bytes_of(found)
        if size_bytes > max_bytes:
            raise ValueError(too_large(found, max_bytes))
        if sent_as is not None and found != sent_as and not head.startswith(GIF_STARTS):
            raise ValueError(f"it was sent as {KIND_NAMES[sent_as]}, but is {KIND_NAMES[found]}")

    def _decode(self, path: Path, kind: Kind | None) -> np.ndarray:
        self._check(read_head(path), kind, size_bytes=path.stat().st_size)
        try:
            pool = self._pools.get(timeout=self._limits.max_wait_seconds)
        except queue.Empty:
            raise UploadsBusyError("other uploads are being decoded: try again later") from None
        try:
            return self._frames(pool, path)
        finally:
            self._pools.put(pool)

    def _frames(self, pool: DecodePool, path: Path) -> np.ndarray:
        stopped = threading.Event()
        timer = threading.Timer(self._limits.timeout_seconds, stopped.set)
        timer.daemon = True
        timer.start()
        chunks = []
        try:
            for _, item in pool.decode([(None, path)], stopped=stopped):
                if isinstance(item, FailedVideo):
                    raise ValueError(_for_sender(item.reason, path))
                chunks.append(item.pixels.numpy())
        finally:
            timer.cancel()
        if stopped.is_set():
            seconds = self._limits.timeout_seconds
            raise ValueError(f"it cannot be decoded within {seconds:g} seconds")
        return np.concatenate(chunks)


def _for_sender(reason: str, path: Path) -> str:
    """Makes a decoder's reason one line that names no file of ours."""
    reason = " ".join(reason.partition(" was stopped: ")[2].split() or reason.split())
    if path.name in reason or str(path.parent) in reason or " object at 0x" in reason:
        return "it cannot be decoded"
    return reason[:200]
