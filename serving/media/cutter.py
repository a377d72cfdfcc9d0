"""Thumbnails, clips and probes: from the cache, or cut by a worker."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from reelseek.serving.cache import BoundedCache
from reelseek.serving.media.cache import MediaCache
from reelseek.serving.media.errors import MediaUnreadable
from reelseek.serving.media.pool import CutPool, WorkerKilled
from reelseek.serving.media.requests import BrowserClip, MediaRequest, Probe, Thumbnail

logger = logging.getLogger(__name__)

_SECONDS_PER_BYTE = 0.5e-6  # of files that must be read from end to end
_MAX_READING_SECONDS = 60.0
_SECONDS_PER_CLIP_SECOND = 3.0
_MAX_KILLS = 2
_PROBES_BYTES = 8 << 20


class MediaCutter:
    """Threads may share it. Callers who ask for the same at once wait for one cut.

    A video that has killed its workers twice is refused for a while, since each of them keeps a
    worker from others for the whole of its deadline.

    Args:
        cache: of what was cut before.
        quick: cuts thumbnails, and probes.
        slow: cuts clips, which would keep thumbnails waiting.
        timeout_seconds: for a thumbnail of a small file.
        refused_seconds: for a video that has killed its workers.
    """

    def __init__(
        self,
        cache: MediaCache,
        quick: CutPool,
        slow: CutPool,
        *,
        timeout_seconds: float = 20.0,
        refused_seconds: float = 600.0,
    ) -> None:
        self._cache, self._quick, self._slow = cache, quick, slow
        self._timeout_seconds = timeout_seconds
        self._refused_seconds = refused_seconds
        self._lock = threading.Lock()
        self._in_hand: dict[Any, Future[Any]] = {}
        self._kills: dict[str, list[float]] = {}  # times, by the hash of the video's content
        self._probes: BoundedCache[dict[str, Any]] = BoundedCache(_PROBES_BYTES)

    def thumbnail(self, request: Thumbnail) -> bytes:
        """Returns a JPEG.

        Raises:
            MediaError: there is none.
        """

        def make() -> bytes:
            kept = self._cache.read(request.key)
            if kept is not None:
                return kept
            content: bytes = self._cut(self._quick, request, self._timeout_seconds)
            self._cache.put(request.key, content)
            return content

        return self._once(request.key, make)

    def clip(self, request: BrowserClip) -> Path | bytes:
        """Returns the path of an MP4 in the cache, or its content where the disk does not take it.

        Raises:
            MediaError: there is none.
        """

        def make() -> Path | bytes:
            kept = self._cache.find(request.key)
            if kept is not None:
                return kept
            seconds = request.end_seconds - request.start_seconds
            timeout_seconds = self._timeout_seconds + _SECONDS_PER_CLIP_SECOND * seconds
            content: bytes = self._cut(self._slow, request, timeout_seconds)
            return self._cache.put(request.key, content) or content

        return self._once(request.key, make)

    def probe(self, request: Probe) -> dict[str, Any]:
        """Returns the fields of `media.playing.probe`.

        Raises:
            MediaError: the file cannot be read.
        """
        key = request.file.content_sha256, Path(request.file.path).suffix
        known = self._probes.get(key)
        if known is not None:
            return known
        found = self._once(key, lambda: self._cut(self._quick, request, self._timeout_seconds))
        self._probes.put(key, found, size_bytes=1000)
        return found

    def close(self) -> None:
        """Ends the workers that have nothing to do."""
        self._quick.close()
        self._slow.close()

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        with self._lock:
            others = self._in_hand.get(key)
            if others is None:
                mine = self._in_hand[key] = Future()
        if others is not None:
            return others.result()
        try:
            mine.set_result(make())
        except BaseException as error:
            mine.set_exception(error)
        finally:
            with self._lock:
                del self._in_hand[key]
        return mine.result()

    def _cut(self, pool: CutPool, request: MediaRequest, timeout_seconds: float) -> Any:
        file = request.file
        self._check_not_refused(file.content_sha256)
        reading_seconds = min(_MAX_READING_SECONDS, _SECONDS_PER_BYTE * file.size_bytes)
        try:
            return pool.run(request, timeout_seconds=timeout_seconds + reading_seconds)
        except WorkerKilled as error:
            logger.warning("a decoder was stopped: %s: %s", file.path, error)
            with self._lock:
                self._kills.setdefault(file.content_sha256, []).append(time.monotonic())
            raise MediaUnreadable(str(error)) from error

    def _check_not_refused(self, content_sha256: str) -> None:
        since = time.monotonic() - self._refused_seconds
        with self._lock:
            self._kills = {
                content: recent
                for content, times in self._kills.items()
                if (recent := [each for each in times if each > since])
            }
            num_kills = len(self._kills.get(content_sha256, []))
        if num_kills >= _MAX_KILLS:
            raise MediaUnreadable(
                f"decoding it failed {num_kills} times; it is not tried again for a while"
            )
