"""Remote videos -> copies on the nodes that decode them, within a budget of disk on each node.

An actor on each node fetches as one machine does, and holds a copy until the video is on its way to
the index. So that no node is given more than it can decode soon, it holds at most as many videos as
it has cores and fetches at the same time.
"""

import logging
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from reelseek.indexing.cluster.placement import Node, live_nodes, on_node
from reelseek.indexing.remote.fetching import Fetcher, RemoteOptions
from reelseek.indexing.remote.stores import Stores
from reelseek.indexing.sources.collection import VideoItem
from reelseek.vision import FailedVideo, FileContent
from reelseek.vision.decoding.file_content import read_content

_NODES_EVERY_SECONDS = 2.0
_CLOSE_SECONDS = 10.0  # for nodes to delete their copies
_LOCK_SUFFIX = ".lock"

logger = logging.getLogger(__name__)


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
        path = self._folder / item.path.name
        fetched = self._opened().fetch_one(item, waits=False)
        if fetched is not None and not fetched.problem and fetched.item.remote == item.remote:
            path = fetched.item.path
        return replace(item, path=path)

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
        own.acquire(timeout=0)
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


class NodeFetchers:
    """The fetchers of all nodes, and which copies they hold.

    Args:
        settings: of all of them.
    """

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self._actors: dict[str, Any] = {}
        self._places: dict[str, set[str]] = {}  # of each video: nodes that have a copy, or will
        self._num_on: Counter[str] = Counter()
        self._nodes: list[Node] = []
        self._asked_at = 0.0
        self._releases: list[Any] = []

    def has_room(self) -> bool:
        """Whether some node can hold another video."""
        most = self._settings.options.parallel
        return any(self._num_on[node.id] < node.num_cores + most for node in self._live())

    def fetch(self, item: VideoItem, avoid: frozenset[str], *, is_again: bool) -> Any:
        """Has a node fetch a video: the one that has the least to do for its cores.

        Args:
            avoid: nodes that should not.
            is_again: it was lost with a node or a process.

        Returns:
            A generator, see `FetchActor.fetch`.
        """
        node_id = self._least_busy(avoid, is_fresh=is_again)
        self._note(item, node_id)
        fetch = self._actor(node_id).fetch
        return fetch.options(num_returns="streaming", concurrency_group="waiting").remote(item)

    def place(self, item: VideoItem, avoid: frozenset[str]) -> tuple[str, Any]:
        """Returns the node to decode a video on, and its fetcher, where it must be fetched there
        first."""
        holders = self._places.get(item.address, set())
        if first := next(iter(holders - avoid), None):
            return first, None
        node_id = self._least_busy(avoid, is_fresh=False)
        if node_id in holders:
            return node_id, None
        self._note(item, node_id)
        return node_id, self._actor(node_id)

    def forget(self, item: VideoItem) -> None:
        """Notes that the copies of a video are lost."""
        for node_id in self._places.pop(item.address, ()):
            self._num_on[node_id] -= 1

    def release(self, item: VideoItem) -> None:
        """Deletes the copies of a video."""
        for node_id in self._places.get(item.address, ()):
            self._releases.append(self._actors[node_id].release.remote(item))
        self.forget(item)

    def settle(self) -> None:
        """Waits until what was released is deleted: the same video may be fetched again."""
        _wait(self._releases)
        self._releases = []

    def stop(self) -> None:
        """Ends all fetching."""
        for actor in self._actors.values():
            actor.stop.remote()

    def close(self) -> None:
        """Deletes all copies."""
        import ray

        _wait([actor.close.remote() for actor in self._actors.values()])
        for actor in self._actors.values():
            ray.kill(actor)
        self._actors = {}

    def _note(self, item: VideoItem, node_id: str) -> None:
        places = self._places.setdefault(item.address, set())
        if node_id not in places:
            places.add(node_id)
            self._num_on[node_id] += 1

    def _least_busy(self, avoid: frozenset[str], *, is_fresh: bool) -> str:
        nodes = self._live(is_fresh=is_fresh)
        left = [node for node in nodes if node.id not in avoid] or nodes
        return min(left, key=lambda node: self._num_on[node.id] / node.num_cores).id

    def _live(self, *, is_fresh: bool = False) -> list[Node]:
        now = time.monotonic()
        if is_fresh or not self._nodes or now - self._asked_at > _NODES_EVERY_SECONDS:
            self._nodes = [node for node in live_nodes() if node.num_cores] or self._nodes
            self._asked_at = now
        return self._nodes

    def _actor(self, node_id: str) -> Any:
        if node_id not in self._actors:
            import ray

            # Calls that wait for room must not keep those from running that make it.
            groups = {"waiting": self._settings.options.parallel}
            make = ray.remote(concurrency_groups=groups)(FetchActor).options(
                num_cpus=0,
                max_restarts=-1,
                max_task_retries=-1,
                max_concurrency=4,
                scheduling_strategy=on_node(node_id, soft=False),
            )
            name = f"{self._settings.run}-{node_id[:16]}"
            self._actors[node_id] = make.remote(self._settings, name)
        return self._actors[node_id]


def _wait(answers: list[Any]) -> None:
    """Waits a while for answers of actors, whose nodes may be gone."""
    import ray

    if answers:
        ray.wait(answers, num_returns=len(answers), timeout=_CLOSE_SECONDS)
