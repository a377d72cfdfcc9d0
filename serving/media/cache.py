"""Thumbnails and clips on disk, within a number of bytes; the least recently used go first.

One process writes; any number read. A disk that is full or read-only only means that nothing is
kept.
"""

import logging
import os
import threading
import time
from pathlib import Path

from reelseek.configs.schema import ServeConfig
from reelseek.indexing.store.atomic import make_folder, write_atomically
from reelseek.vision.models.cache_folder import default_cache_folder

logger = logging.getLogger(__name__)

_VERSION = "1"  # of how thumbnails and clips are made
_KEPT_FRACTION = 0.9  # of the bytes, when the oldest are removed
_USED_SECONDS = 60.0  # precision of when an entry was last used


def cache_folder(config: ServeConfig) -> Path:
    """Returns the folder that the configuration names, or one in the user's cache folder."""
    return Path(config.cache) if config.cache else default_cache_folder() / "media"


class MediaCache:
    """A folder of files by key, such as `<hash>-1500-320.jpg`.

    Args:
        folder: made when first written to.
        max_bytes: of all files together.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder / _VERSION
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._num_bytes: int | None = None  # of all files; None before they are first counted
        self._has_complained = False

    def path(self, key: str) -> Path:
        """Where an entry lies, if it is there. Many folders, so that none holds too many files."""
        return self._folder / key[:2] / key

    def find(self, key: str) -> Path | None:
        """Returns an entry's path, and marks it as used; None where it is not there. It may vanish
        at any time."""
        path = self.path(key)
        try:
            if time.time() - path.stat().st_mtime > _USED_SECONDS:
                os.utime(path)
        except FileNotFoundError:
            return None
        except OSError:  # it cannot be marked, or no folder is there
            return path if path.is_file() else None
        return path

    def read(self, key: str) -> bytes | None:
        """Returns an entry; None where it is not there or cannot be read."""
        path = self.find(key)
        try:
            return None if path is None else path.read_bytes()
        except OSError:
            return None

    def put(self, key: str, content: bytes) -> Path | None:
        """Keeps an entry; returns its path, or None where the disk does not take it."""
        path = self.path(key)
        if len(content) > self._max_bytes:
            return None
        try:
            make_folder(path.parent)
            write_atomically(path, content)
        except OSError as error:
            if not self._has_complained:
                logger.warning("thumbnails and clips are not kept: %s", error.strerror)
            self._has_complained = True
            return None
        self._has_complained = False
        self._count(len(content), newest=path)
        return path

    def _count(self, added_bytes: int, *, newest: Path) -> None:
        with self._lock:
            if self._num_bytes is not None:
                self._num_bytes += added_bytes
            if self._num_bytes is None or self._num_bytes > self._max_bytes:
                self._num_bytes = self._evict(newest)

    def _evict(self, newest: Path) -> int:
        """Removes the least recently used files if there are too many bytes; returns those left.

        What a killed process left half-written is a file like any other.
        """
        entries = []
        for path in self._folder.glob("*/*"):
            try:
                status = path.stat()
            except OSError:
                continue
            entries.append((path == newest, status.st_mtime_ns, status.st_size, path))
        num_bytes = sum(size for _, _, size, _ in entries)
        if num_bytes <= self._max_bytes:
            return num_bytes
        for is_newest, _, size, path in sorted(entries):
            if is_newest or num_bytes <= _KEPT_FRACTION * self._max_bytes:
                break
            try:
                path.unlink(missing_ok=True)
                num_bytes -= size
            except OSError:
                continue
        return num_bytes
