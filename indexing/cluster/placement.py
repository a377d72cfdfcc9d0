"""The nodes of a cluster -> where encoders run, and which nodes can read which videos.

Ray places the work. Two things it cannot know: a node without a disk that others have mounted, and
the node that a video is to be tried again away from.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Node:
    """A node that answers.

    Attributes:
        id: that Ray gives it.
        num_cores: that tasks may use.
        num_gpus: that actors may use.
    """

    id: str
    num_cores: int
    num_gpus: int = 0


def live_nodes() -> list[Node]:
    """Returns the nodes that answer, in order of their ids."""
    import ray

    found = []
    for node in ray.nodes():
        resources = node["Resources"]
        if node["Alive"]:
            cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
            found.append(Node(node["NodeID"], cores, gpus))
    return sorted(found, key=lambda node: node.id)


def encoder_nodes(nodes: Iterable[Node]) -> list[Node]:
    """Returns the node of each encoder: one for each GPU, or where the cluster has none, one for
    each node, which uses all its cores."""
    nodes = list(nodes)
    on_gpus = [node for node in nodes for _ in range(node.num_gpus)]
    return on_gpus or [node for node in nodes if node.num_cores]


def on_node(node_id: str, *, soft: bool = True) -> Any:
    """Returns the strategy that runs a task on a node, or elsewhere if that node is gone.

    Args:
        soft: else nowhere.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id, soft=soft)


@dataclass
class Sight:
    """Knows which nodes could not read a video of a root that others could, nor any other."""

    _blind: dict[str, set[str]] = field(default_factory=dict)
    _seeing: dict[str, set[str]] = field(default_factory=dict)

    def note(self, root: str, *, sees: str, blind: Iterable[str]) -> None:
        """Notes a node that has read a video, and those that failed to read it before."""
        seeing = self._seeing.setdefault(root, set())
        seeing.add(sees)
        self._blind.setdefault(root, set()).update(set(blind) - seeing)

    def avoid(self, root: str) -> frozenset[str]:
        """Returns the nodes that should not be given videos of a root."""
        return frozenset(self._blind.get(root, ()))
