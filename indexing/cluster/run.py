"""One run of the indexer on a cluster: the same decisions as on one machine, made here, and the
videos decoded, encoded and written by the nodes."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np

from reelseek.indexing.building.run import Copies, Run
from reelseek.indexing.building.segmenting import VideoTag
from reelseek.indexing.cluster.copies import NodeFetchers
from reelseek.indexing.cluster.decoding import EncodeSettings
from reelseek.indexing.cluster.dispatching import Dispatcher
from reelseek.indexing.cluster.engine import Cluster
from reelseek.indexing.cluster.fetching import FetchedFile
from reelseek.indexing.cluster.ids import PublicIds
from reelseek.indexing.cluster.jobs import Answer, Declined, Job, Killed
from reelseek.indexing.cluster.placement import live_nodes
from reelseek.indexing.cluster.tasks import DECODE, FETCH, READ, VideoJob, VideoTasks, Work
from reelseek.indexing.cluster.writing import ShardWriters
from reelseek.indexing.pipeline import EncodedVideo, keep_video
from reelseek.indexing.progress import VideoProgress
from reelseek.indexing.remote.collection import RemoteVideos
from reelseek.indexing.shards.placement import shard_of
from reelseek.indexing.shards.writer import ShardedWriter
from reelseek.indexing.sources.collection import VideoItem
from reelseek.indexing.store.videos import NewVideo
from reelseek.vision import FailedVideo

_MAX_NODES = 3  # that a file is tried on
_IDLE_SECONDS = 0.02
_SPARE = 0.25  # jobs that wait on the nodes, as a share of their cores


class ClusterRun(Run):
    """A `Run` whose videos are encoded and written by a cluster.

    The first videos, by which scenes are cut, are written here; then each shard is lent to a writer
    of its own.

    Args:
        writer: of an index in shards.
        cluster: that works.
        options: of `Run`.
    """

    def __init__(self, writer: ShardedWriter, *, cluster: Cluster, **options: Any) -> None:
        super().__init__(writer, **options)
        self._tasks = VideoTasks(cluster.decode)
        self._sharded = writer
        self._cluster = cluster
        self._shards = ShardWriters(writer.places(), self._settings)
        self._lent: ShardWriters | None = None
        self._ids = PublicIds({})
        self._unread: deque[VideoItem] = deque()
        self._dispatcher: Dispatcher[Work]
        cluster.keep_precision(writer.catalogue)

    def _open_fetcher(self, remote: RemoteVideos) -> Copies:
        self._tasks.copies = fetchers = self._cluster.fetchers(remote.options)
        return fetchers

    @property
    def _copies(self) -> NodeFetchers | None:
        return self._tasks.copies

    def _examine(self, items: Sequence[VideoItem], progress: VideoProgress) -> list[VideoItem]:
        """Has the cluster encode what must be encoded; returns the videos to examine again."""
        # Copies bound the jobs of remote videos, which no other node can take over.
        spare = _SPARE if self._copies is None else inf
        self._dispatcher = self._cluster.dispatcher(self._submit, spare=spare)
        self._unread = deque(sorted(items, key=self._size_bytes, reverse=True))
        if self._lacks_spread:
            self._encode(progress)
        else:
            self._ids = PublicIds(self._writer.catalogue.public_ids())
            with self._sharded.lend(), self._shards:
                self._lent = self._shards
                try:
                    self._encode(progress)
                finally:
                    self._lent = None
        self.summary.repeated += self._dispatcher.num_repeated
        if self._copies is not None:
            self._copies.settle()
        again = [*self._unread, *self._settle_known(progress)]
        self._add_waiting()
        self._writer.save()
        again += self._contents.end_round()
        if self._interim.is_due and not self._stop:
            self._interim.publish()
        return again

    def _encode(self, progress: VideoProgress) -> None:
        """Encodes videos until all are on disk, or no further ones are to be begun."""
        import ray

        spread = None if self._lacks_spread else self._writer.manifest.frame_spread
        settings = EncodeSettings(
            self._settings, self._cluster.encoder, self._cluster.queued_chunks, spread
        )
        self._tasks.encode_settings = ray.put(settings)
        while self._feed() or len(self._dispatcher) or self._num_unwritten:
            for job, answer in self._dispatcher.poll():
                if job.kind in (READ, FETCH):
                    self._take_content(job, answer)
                else:
                    self._take_answer(job, answer, progress)
            progress.show_use(self._dispatcher.utilisation)
            self._note_written(progress)
            if not len(self._dispatcher):
                time.sleep(_IDLE_SECONDS)

    def _feed(self) -> bool:
        """Has the next files read, the largest first; returns whether there were any."""
        if self._stop:
            self._dispatcher.cancel_waiting()
            if self._copies is not None:
                self._copies.stop()
            return False
        if self._interim.is_due and not self._lacks_spread:
            return False
        has_fed = False
        while self._unread and self._has_room():
            item = self._unread.popleft()
            tag = VideoTag(item)
            if item.remote is None and self._mounts.is_given_up(item.path):
                self._contents.settle(tag, "not read: other files beside it did not answer")
            else:
                self._begin(Work(tag))
                has_fed = True
        return has_fed

    def _has_room(self) -> bool:
        """Whether the cluster should be given another video."""
        if self._copies is not None:
            return self._copies.has_room()
        return self._dispatcher.num_waiting <= self._dispatcher.num_slots

    def _begin(self, work: Work) -> None:
        """Has a file read, or a remote video fetched and read."""
        size, is_remote = self._size_bytes(work.tag.item), self._copies is not None
        kind = FETCH if is_remote else READ
        self._dispatcher.put(Job(work, size, kind, needs_core=not is_remote))

    def _submit(self, job: VideoJob, avoid: frozenset[str]) -> tuple[Any, str]:
        return self._tasks.submit(job, avoid, least_busy=self._dispatcher.least_busy)

    def _take_content(self, job: VideoJob, answer: Answer | Killed) -> None:
        """Decides about a file that was read, or has another node read it."""
        work = job.value
        tag, admit = work.tag, self._contents.admit
        if isinstance(answer, Killed):
            self._add_unread(tag, _killed(answer))
            return
        content = answer.value
        if self._copies is not None and self._stop:
            return  # fetching was stopped
        if isinstance(content, FetchedFile):
            tag.item, content, admit = content.item, content.content, self._admit_fetched
        if isinstance(content, FailedVideo):
            if self._copies is not None:
                self._copies.release(tag.item)
            work.blind.add(answer.node_id)
            left = {node.id for node in live_nodes() if node.num_cores} - work.blind
            if left and len(work.blind) < _MAX_NODES:
                self._dispatcher.put(job)
                return
            self._mounts.note(tag.item.path, is_silent=content.is_silent)
            self._add_unread(tag, content.reason)
            return
        self._tasks.sight.note(tag.item.root, sees=answer.node_id, blind=work.blind)
        self._mounts.note(tag.item.path, is_silent=False)
        # A copy that was lost has been fetched again: the video is admitted already.
        if content.sha256 != tag.signature.content_sha256:
            work.kept = admit(tag, content)
            if work.kept is None:
                return
        self._dispatcher.put(Job(work, job.size, DECODE))

    def _take_answer(self, job: VideoJob, answer: Answer | Killed, progress: VideoProgress) -> None:
        """Takes a video that was encoded."""
        tag = job.value.tag
        if self._copies is not None:
            if isinstance(answer, Answer) and isinstance(answer.value, Declined):
                self._copies.forget(tag.item)
                self.summary.repeated += 1
                self._begin(job.value)
                return
            self._copies.release(tag.item)
        if isinstance(answer, Killed):
            self._add_failed(tag, _killed(answer))
        elif isinstance(answer.value, EncodedVideo):
            if job.value.kept is not None:
                keep_video(job.value.kept, answer.value)
            self._take(replace(answer.value, tag=tag))
            self._count(progress, tag.item, was_encoded=True)
        else:
            action = "failed" if answer.value.outcome == "failed" else "indexed"
            self._store(tag, answer.value, answer.rest[0], action=action)

    def _store(self, tag: VideoTag, video: NewVideo, rows: Any, *, action: str) -> None:
        """Sends a video to its shard; it is reported when it is on disk.

        Args:
            rows: its embeddings, or a reference to them.
        """
        import ray

        if self._lent is None:
            rows = rows if isinstance(rows, np.ndarray) else ray.get(rows)
            super()._store(tag, video, rows, action=action)
            return
        named = replace(video, public_id=self._ids.of(video))
        rows = ray.put(rows) if isinstance(rows, np.ndarray) else rows
        position = shard_of(named.public_id, len(self._lent.shards))
        self._lent.add(position, (tag, action), video=named, rows=rows)

    def _note_written(self, progress: VideoProgress) -> None:
        """Reports the videos that are on disk now, and has lost ones encoded again."""
        if self._lent is None:
            return
        is_last = not len(self._dispatcher)
        for (tag, action), video, is_written in self._lent.poll(is_last=is_last):
            if is_written:
                self._writer.unfinished.add(video.signature)
                self._outcomes.add(tag.item, action, video)
                self._count(progress, tag.item, was_encoded=True)
            else:
                self.summary.repeated += 1
                self._encode_again(tag)

    def _encode_again(self, tag: VideoTag) -> None:
        if self._copies is not None:
            self._begin(Work(tag))
        else:
            self._dispatcher.put(Job(Work(tag), self._size_bytes(tag.item), DECODE))

    @property
    def _num_unwritten(self) -> int:
        return 0 if self._lent is None else len(self._lent)

    def _size_bytes(self, item: VideoItem) -> int:
        return self._sizes_bytes.get(item.root_and_key, 0)


def _killed(answer: Killed) -> str:
    return f"it has killed two workers ({answer.error})"
