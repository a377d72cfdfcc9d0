"""What holds remote objects: the interface, and what all stores share.

Each method is one request or one stream; `retrying.Retry` calls it again where it failed.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from reelseek.indexing.remote.objects import RemoteObject
from reelseek.indexing.remote.retrying import CutShortError, ObjectChangedError, Retry

BLOCK_BYTES = 1 << 20
_MIN_BYTES_PER_SECOND = 32 << 10  # a slower stream is cut, and read on from there
_ETAGS = ("ETag", "etag", "md5Hash", "generation", "blob_id")
_TIMES = ("LastModified", "mtime", "updated", "last_modified", "Last-Modified", "created")


class Store(ABC):
    """Where objects are; threads may share it.

    Args:
        fs: fsspec's file system.
        timeout_seconds: without an answer or a byte, after which a request has failed.
    """

    def __init__(self, fs: Any, timeout_seconds: float) -> None:
        self._fs = fs
        self._timeout = timeout_seconds

    @abstractmethod
    def pages(self, url: str, retry: Retry) -> Iterator[list[RemoteObject]]:
        """Lists all objects below a URL, a page at a time, in the order of their keys."""

    @abstractmethod
    def look(self, item: RemoteObject) -> RemoteObject:
        """Returns an object with its present size and ETag.

        Raises:
            FileNotFoundError: there is none.
        """

    @abstractmethod
    def read(self, item: RemoteObject, at: int, sink: Callable[[bytes], None]) -> None:
        """Streams an object from byte `at` on.

        Raises:
            ObjectChangedError: it is no longer the one that was looked at.
        """

    def write(self, url: str, content: bytes | Path) -> None:
        """Writes an object, whole or not at all."""
        path = self._fs._strip_protocol(url)
        if isinstance(content, Path):
            seconds = self._timeout + content.stat().st_size / _MIN_BYTES_PER_SECOND
            self._call("put_file", str(content), path, seconds=seconds)
        else:
            self._call("pipe_file", path, content)

    def replace(self, url: str, content: bytes, before: RemoteObject | None) -> None:
        """Replaces an object, if it is still the one that was looked at, or is still missing.

        Raises:
            ObjectChangedError: it is another.
        """
        try:
            now: RemoteObject | None = self.look(RemoteObject(url))
        except FileNotFoundError:
            now = None
        if (now and now.version) != (before and before.version):
            raise ObjectChangedError
        self.write(url, content)

    def delete(self, url: str) -> None:
        self._call("rm_file", self._fs._strip_protocol(url))

    def _call(self, name: str, *arguments: Any, seconds: float = 0.0, **options: Any) -> Any:
        """Calls a method of the file system, with a limit of time where it is asynchronous."""
        if not self._fs.async_impl:
            return getattr(self._fs, name)(*arguments, **options)
        coroutine = getattr(self._fs, f"_{name}")(*arguments, **options)
        return self._wait(coroutine, seconds or self._timeout)

    def _wait(self, coroutine: Coroutine[Any, Any, Any], seconds: float) -> Any:
        limited = asyncio.wait_for(coroutine, seconds)
        return asyncio.run_coroutine_threadsafe(limited, self._fs.loop).result()

    def _stream_seconds(self, item: RemoteObject, at: int) -> float:
        """Returns how long a stream of the rest may take, however steadily it trickles."""
        size = item.size_bytes if item.size_bytes is not None else 1 << 40
        return self._timeout + max(0, size - at) / _MIN_BYTES_PER_SECOND


def read_object(store: Store, item: RemoteObject) -> bytes:
    """Reads a small object whole.

    Raises:
        ObjectChangedError: it is no longer the one that was looked at.
    """
    parts: list[bytes] = []
    store.read(item, 0, parts.append)
    data = b"".join(parts)
    if item.size_bytes is not None and len(data) < item.size_bytes:
        raise CutShortError("the response was cut short")
    return data


def version_of(info: dict[str, Any]) -> tuple[str, float | None]:
    """Returns what stands for the ETag, and the time of the last change."""
    lfs = info.get("lfs") or {}
    etag = lfs.get("sha256") or next((info[name] for name in _ETAGS if info.get(name)), "")
    modified = _seconds(next((info[name] for name in _TIMES if info.get(name)), None))
    if not etag and modified is not None:
        etag = f"{modified:.6f}"
    # A server that compresses calls the same ETag weak.
    return str(etag).removeprefix("W/"), modified


def _seconds(modified: Any) -> float | None:
    """Reads a time as a store gives it; None if it is none."""
    if isinstance(modified, int | float):
        return float(modified)
    try:
        if isinstance(modified, str):
            is_iso = modified[:4].isdecimal()
            modified = (
                datetime.fromisoformat(modified.replace("Z", "+00:00"))
                if is_iso
                else parsedate_to_datetime(modified)
            )
        if isinstance(modified, datetime):
            if modified.tzinfo is None:
                modified = modified.replace(tzinfo=timezone.utc)
            return modified.timestamp()
    except ValueError:
        pass
    return None
