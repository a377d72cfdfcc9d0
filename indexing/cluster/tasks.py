"""A video on its way through the cluster, and the tasks that do what is next with it: on which
node, and with what."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from reelseek.indexing.building.segmenting import VideoTag
from reelseek.indexing.cluster.copies import NodeFetchers
from reelseek.indexing.cluster.decoding import DecodeSettings, decode_video, read_video
from reelseek.indexing.cluster.jobs import Job
from reelseek.indexing.cluster.placement import Sight, on_node
from reelseek.indexing.store.unfinished import UnfinishedVideo

READ, FETCH, DECODE = "read", "fetch", "decode"  # the kinds of jobs


@dataclass(eq=False)
class Work:
    """A video on its way through the cluster.

    Attributes:
        blind: nodes that could not read its file.
        kept: where its frames outlive this process while the spread is not known.
    """

    tag: VideoTag
    kept: UnfinishedVideo | None = None
    blind: set[str] = field(default_factory=set)


VideoJob: TypeAlias = Job[Work]


class VideoTasks:
    """Starts tasks.

    Args:
        decode: how videos are decoded.

    Attributes:
        sight: which nodes can read what.
        copies: of remote videos; None while files are read where they are.
        encode_settings: a reference to the `EncodeSettings`.
    """

    def __init__(self, decode: DecodeSettings) -> None:
        import ray

        self._decode = decode
        self._tasks = {READ: ray.remote(read_video), DECODE: ray.remote(decode_video)}
        self.sight = Sight()
        self.copies: NodeFetchers | None = None
        self.encode_settings: Any = None

    def submit(
        self, job: VideoJob, avoid: frozenset[str], *, least_busy: Callable[[frozenset[str]], str]
    ) -> tuple[Any, str]:
        """Starts a task, away from nodes that cannot read its file or had it before; see `Submit`.

        Args:
            least_busy: returns the node to choose of those that are left.
        """
        work = job.value
        item = work.tag.item
        avoid |= work.blind | self.sight.avoid(item.root)
        if job.kind == FETCH:
            assert self.copies is not None
            return self.copies.fetch(item, avoid, is_again=job.num_losses > 0)
        options: dict[str, Any] = {"num_cpus": 1, "max_retries": 0}
        node_id, fetcher = "", None
        if self.copies is not None:
            node_id, fetcher = self.copies.place(item, avoid)
        elif avoid:
            node_id = least_busy(avoid)
        if node_id:
            options["scheduling_strategy"] = on_node(node_id)
        task = self._tasks[job.kind].options(**options)
        if job.kind == READ:
            return task.remote(self._decode, item.path), node_id
        return task.remote(self._decode, work.tag, self.encode_settings, fetcher=fetcher), node_id
