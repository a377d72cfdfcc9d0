"""The copies of remote videos on all nodes: which node is given which video, and when it is done.

So that no node is given more than it can decode soon, each holds at most as many videos as it has
cores and fetches at the same time.
"""

import time
from collections import Counter
from typing import Any

from reelseek.indexing.cluster.fetching import FetchActor, FetchSettings
from reelseek.indexing.cluster.placement import Node, live_nodes, on_node
from reelseek.indexing.sources.collection import VideoItem

_NODES_EVERY_SECONDS = 2.0
_CLOSE_SECONDS = 10.0  # for nodes to delete their copies


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
        self._is_stopped = False

    def has_room(self) -> bool:
        """Whether some node can hold another video."""
        most = self._settings.options.parallel
        return any(self._num_on[node.id] < node.num_cores + most for node in self._live())

    def fetch(self, item: VideoItem, avoid: frozenset[str], *, is_again: bool) -> tuple[Any, str]:
        """Has a node fetch a video: the one that has the least to do for its cores.

        Args:
            avoid: nodes that should not.
            is_again: it was lost with a node or a process.

        Returns:
            A generator, see `FetchActor.fetch`, and the node's id.
        """
        node_id = self._least_busy(avoid, is_fresh=is_again)
        self._note(item, node_id)
        fetch = self._actor(node_id).fetch
        fetch = fetch.options(num_returns="streaming", concurrency_group="waiting")
        return fetch.remote(item), node_id

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
        if self._is_stopped:
            return
        self._is_stopped = True
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
