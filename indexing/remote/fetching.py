"""Remote videos -> local copies of them, a few ahead of the decoders and within a budget of disk.

A thread reads one object at a time; a stream that was cut goes on where it ended. The file lies in
the cache under a hash of its URL until it is released.
"""

import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue

from reelseek.indexing.remote.budget import DiskBudget
from reelseek.indexing.remote.objects import RemoteObject
from reelseek.indexing.remote.retrying import (
    CutShortError,
    ObjectChangedError,
    RemoteError,
    Retry,
)
from reelseek.indexing.remote.stores import Stores
from reelseek.indexing.sources.collection import VideoItem

_GB = 1 << 30
_TURN_SECONDS = 0.5
_JOIN_SECONDS = 2.0  # for threads to notice that they are stopped


@dataclass(frozen=True)
class RemoteOptions:
    """How remote videos are read.

    Attributes:
        disk_bytes: of fetched files that lie on disk at once.
        parallel: objects that are read at the same time.
        attempts: requests for an object at most, before it has failed.
        timeout_seconds: without an answer or a byte, after which a request has failed.
    """

    disk_bytes: int = 10 * _GB
    parallel: int = 8
    attempts: int = 6
    timeout_seconds: float = 60.0


@dataclass(frozen=True)
class FetchedVideo:
    """A video whose file lies at `item.path`, or the reason why it does not."""

    item: VideoItem
    problem: str = ""


class Fetcher:
    """Fetches videos in threads.

    Args:
        folder: for the files; made anew, and removed by `close`.
        stores: that hold the objects.
    """

    def __init__(self, folder: Path, stores: Stores, options: RemoteOptions) -> None:
        self.folder = folder
        self._stores = stores
        self._options = options
        self._stopped = threading.Event()
        self._budget = DiskBudget(options.disk_bytes)
        self._retry = Retry(
            options.attempts, sleep=lambda s: self._stopped.wait(s), is_stopped=self._stopped.is_set
        )
        self._held: dict[Path, int] = {}  # bytes of each file on disk
        self._taking = threading.Lock()  # who came first gets its bytes first, however many
        self._threads: list[threading.Thread] = []
        shutil.rmtree(folder, ignore_errors=True)  # of a killed run
        folder.mkdir(parents=True)

    def fetch(self, items: Iterable[VideoItem]) -> Iterator[FetchedVideo | None]:
        """Yields the videos as they arrive; None where none has, so that the caller, who must
        release some for others to come, never waits here."""
        arrived: SimpleQueue[FetchedVideo | BaseException | None] = SimpleQueue()
        remaining = iter(items)

        def work() -> None:
            try:
                while not self._stopped.is_set():
                    with self._taking:
                        item = next(remaining, None)
                        if item is None or not self._take_bytes(item.remote):
                            break
                    arrived.put(self._fetched(item))
            except BaseException as error:  # raised again in the caller's thread
                arrived.put(error)
            arrived.put(None)

        threads = [
            threading.Thread(target=work, name=f"fetch {number}", daemon=True)
            for number in range(self._options.parallel)
        ]
        self._threads = [thread for thread in self._threads if thread.is_alive()] + threads
        for thread in threads:
            thread.start()
        num_working = len(threads)
        while num_working:
            try:
                fetched = arrived.get_nowait()
            except Empty:
                yield None
                continue
            if isinstance(fetched, BaseException):
                raise fetched
            if fetched is None:
                num_working -= 1
            else:
                yield fetched

    def fetch_one(self, item: VideoItem, *, waits: bool = True) -> FetchedVideo | None:
        """Fetches one video in the caller's thread.

        Args:
            waits: for other videos to be released, where the disk has no room for this one.

        Returns:
            None where it did not wait, and where fetching was stopped.
        """
        if not self._taking.acquire(timeout=-1 if waits else _TURN_SECONDS):
            return None  # another waits for room
        try:
            takes = self._take_bytes(item.remote, waits=waits)
        finally:
            self._taking.release()
        fetched = self._fetched(item) if takes else None
        return None if self._stopped.is_set() else fetched

    def release(self, item: VideoItem) -> None:
        """Deletes the copy of a video, if there is one."""
        size = self._held.pop(item.path, None)
        if size is not None:
            item.path.unlink(missing_ok=True)
            self._budget.give_back(size)

    def stop(self) -> None:
        """Ends all reading."""
        self._stopped.set()
        self._budget.close()
        deadline = time.monotonic() + _JOIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _take_bytes(self, remote: RemoteObject | None, *, waits: bool = True) -> bool:
        """Waits for the bytes of an object, if it may have so many; False where the run ends."""
        return self._is_too_large(remote) or self._budget.take(self._num_bytes(remote), waits=waits)

    def _num_bytes(self, remote: RemoteObject | None) -> int:
        """Returns the bytes to take for an object: all for one that may have any number."""
        size = None if remote is None else remote.size_bytes
        return self._options.disk_bytes if size is None else size

    def _is_too_large(self, remote: RemoteObject | None) -> bool:
        return self._num_bytes(remote) > self._options.disk_bytes

    def _fetched(self, item: VideoItem) -> FetchedVideo:
        """Fetches a video whose bytes were taken."""
        remote = item.remote
        assert remote is not None
        path = self.folder / remote.cached_name()
        problem = "it changed again and again while it was fetched"
        for _ in range(self._options.attempts):
            if self._is_too_large(remote):
                problem = self._too_large(remote)
                break
            try:
                num_bytes = self._download(remote, path)
            except ObjectChangedError:
                self._drop(path, self._num_bytes(remote))
            except (RemoteError, OSError) as error:
                self._drop(path, self._num_bytes(remote))
                problem = f"cannot be fetched: {getattr(error, 'strerror', None) or error}"
                break
            else:
                self._held[path] = num_bytes
                self._budget.give_back(self._num_bytes(remote) - num_bytes)
                return FetchedVideo(replace(item, path=path, remote=remote))
            try:
                remote = self._look(remote)
            except RemoteError as error:
                problem = f"cannot be fetched: {error}"
                break
            if not self._take_bytes(remote):
                problem = "the run was stopped"
                break
        return FetchedVideo(item, problem)

    def _download(self, remote: RemoteObject, path: Path) -> int:
        """Writes an object to a file; returns its size.

        Raises:
            ObjectChangedError: it is no longer the one that was looked at.
            RemoteError: it could not be read.
        """
        store, limit = self._stores.of(remote.url), self._num_bytes(remote)
        with path.open("wb") as file:

            def sink(data: bytes) -> None:
                if self._stopped.is_set():
                    raise RemoteError("the run was stopped")
                if file.tell() + len(data) > limit:
                    if remote.size_bytes is not None:
                        raise ObjectChangedError
                    raise RemoteError(self._too_large(remote))
                file.write(data)

            def request() -> None:
                size = remote.size_bytes
                if size is None:
                    file.seek(0)
                    file.truncate()
                if size is None or file.tell() < size or not size:
                    store.read(remote, file.tell(), sink)
                if size is not None and file.tell() < size:
                    raise CutShortError("the response was cut short")

            self._retry.call(request)
            return file.tell()

    def _look(self, remote: RemoteObject) -> RemoteObject:
        return self._retry.call(lambda: self._stores.of(remote.url).look(remote))

    def _drop(self, path: Path, num_bytes: int) -> None:
        path.unlink(missing_ok=True)
        self._budget.give_back(num_bytes)

    def _too_large(self, remote: RemoteObject) -> str:
        size = "of unknown size, and" if remote.size_bytes is None else _in_gb(remote.size_bytes)
        return (
            f"it is {size} larger than remote.disk_gb={self._options.disk_bytes / _GB:.3g} lets "
            "lie on disk at once; raise that"
        )


def _in_gb(size_bytes: int) -> str:
    return f"{size_bytes / _GB:.3g} GiB, and"
