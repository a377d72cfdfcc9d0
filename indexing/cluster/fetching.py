"""Remote videos -> copies on a node, within its budget of disk, for the tasks that decode there.

An actor on each node fetches as one machine does.
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from reelseek.indexing.remote.fetching import Fetcher, RemoteOptions
from reelseek.indexing.remote.stores import Stores
from reelseek.indexing.sources.collection import VideoItem
from reelseek.vision import FailedVideo, FileContent
from reelseek.vision.decoding.file_content import read_content

_LOCK_SUFFIX = ".lock"
_DYING_SECONDS = 10.0  # that a process may keep its folder, whose place this one takes


@dataclass(frozen=True)
class FetchSettings:
    """How the nodes fetch.

    Attributes:
        run: names the run, so that two runs on one node have folders of their own.
        options: of each node.
        folder: that exists or can be made on each node; None for one in its temporary folder.
    """

    run: str
    options: RemoteOptions
    folder: Path | None = None


@dataclass(frozen=True)
class FetchedFile:
    """A remote video whose copy lies on a node.

    Attributes:
        item: its path is that of the copy.
    """

    item: VideoItem
    content: FileContent


class FetchActor:
    """Fetches videos for its node.

    Args:
        name: of its folder, which no other actor has at the same time.
    """

    def __init__(self, settings: FetchSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._opening = threading.Lock()  # several videos may be the first
        self._lock: FileLock | None = None
        self._fetcher: Fetcher | None = None

    def fetch(self, item: VideoItem) -> Iterator[Any]:
        """Yields the id of its node, then a `FetchedFile`, or why there is none; None where
        fetching was stopped. Waits for room on the disk."""
        import ray

        yield ray.get_runtime_context().get_node_id()
        try:
            fetched = self._opened().fetch_one(item)
            if fetched is None or fetched.problem:
                yield None if fetched is None else FailedVideo(fetched.problem)
            else:
                yield FetchedFile(fetched.item, read_content(fetched.item.path))
        except (OSError, ValueError) as error:  # no folder, or a library is missing here
            yield FailedVideo(f"cannot be fetched: {getattr(error, 'strerror', None) or error}")

    def fetch_now(self, item: VideoItem) -> VideoItem:
        """Fetches the same version of a video that another node holds. Its path does not exist
        where that failed, and where the disk has no room now: whoever asks has a core, which those
        who hold the room may need."""
        fetched = self._opened().fetch_one(item, waits=False)
        copy = replace(item, path=self._folder / item.path.name)
        if fetched is not None and fetched.item.remote != item.remote:
            self.release(copy)  # it has changed meanwhile
        return copy

    def release(self, item: VideoItem) -> None:
        """Deletes the copy of a video, if there is one."""
        if self._fetcher is not None:
            self._fetcher.release(replace(item, path=self._folder / item.path.name))

    def stop(self) -> None:
        """Ends all fetching."""
        if self._fetcher is not None:
            self._fetcher.stop()

    def close(self) -> None:
        """Deletes all copies."""
        if self._fetcher is not None and self._lock is not None:
            self._fetcher.close()
            Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()

    @property
    def _folder(self) -> Path:
        return copies_folder(self._settings.folder) / self._name

    def _opened(self) -> Fetcher:
        """Returns its fetcher; the first video has the folder made."""
        with self._opening:
            if self._fetcher is None:
                self._lock = claim_folder(self._folder)
                options = self._settings.options
                self._fetcher = Fetcher(self._folder, Stores(options.timeout_seconds), options)
            return self._fetcher


def copies_folder(given: Path | None) -> Path:
    """Returns the folder for the copies of all runs of a node."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"reelseek-{user}-fetched" if given is None else given


def claim_folder(folder: Path) -> FileLock:
    """Takes a folder for copies, and deletes those beside it whose runs were killed.

    Raises:
        PermissionError: the folder of all copies is another user's.
    """
    parent = folder.parent
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid") and (parent.is_symlink() or parent.stat().st_uid != os.getuid()):
        raise PermissionError(f"{parent} is another user's; give ray.fetch_folder")
    with FileLock(parent / "claiming"):  # so that nobody takes a lock that is being deleted
        own = FileLock(parent / f"{folder.name}{_LOCK_SUFFIX}")
        own.acquire(timeout=_DYING_SECONDS)
        for path in parent.glob(f"*{_LOCK_SUFFIX}"):
            other = FileLock(path)
            try:
                if path != Path(own.lock_file):
                    other.acquire(timeout=0)
                    shutil.rmtree(path.with_suffix(""), ignore_errors=True)
                    path.unlink()
                    other.release()
            except Timeout:
                continue  # its run goes on
    return own
