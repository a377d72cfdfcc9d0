"""One writer for each shard, on some node of the cluster, and the batches that are sent to it.

A writer writes as that of one machine does. What it has answered is on disk; Ray starts it again
where it dies, and asks it again what it had not answered.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelseek.indexing.shards.placement import ShardPlace
from reelseek.indexing.store.manifest import SHARDS_NAME, IndexSettings
from reelseek.indexing.store.videos import NewVideo
from reelseek.indexing.writer import IndexWriter, only_writer

_LOCK_SECONDS = 60.0  # that a dying writer may keep its shard
_SAVE_EVERY_SECONDS = 2.0  # of one shard: each saving makes a file, which publishing puts together
_MAX_VIDEOS = 512  # of one saving


def wait_for_lock(folder: Path, *, max_seconds: float = _LOCK_SECONDS) -> None:
    """Waits for the end of a writer that died with its node, or whose run was killed.

    Raises:
        ValueError: it goes on writing.
    """
    deadline = time.monotonic() + max_seconds
    while folder.is_dir():
        try:
            only_writer(folder).release()
            return
        except ValueError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def wait_for_shards(folder: Path) -> None:
    """Waits for the writers of a run that was killed just now; Ray ends them soon.

    Args:
        folder: of the index.

    Raises:
        ValueError: one goes on writing.
    """
    for shard in sorted((folder / SHARDS_NAME).glob("[0-9]*")):
        wait_for_lock(shard)


class ShardActor:
    """Writes one shard, which it opens for the first video.

    Args:
        folder: of the shard, which all nodes with writers must reach.
        settings: of the index.
        place: of the shard.
    """

    def __init__(self, folder: Path, settings: IndexSettings, place: ShardPlace) -> None:
        self._arguments = (folder, settings, place)
        self._writer: IndexWriter | None = None

    def add(self, videos: Sequence[NewVideo], rows: Sequence[Any]) -> list[int]:
        """Adds videos and syncs them to disk.

        Asked again after its death, it adds what it had not, so that no video is there twice.

        Args:
            rows: references to their embeddings.

        Returns:
            The positions of the videos whose embeddings were lost with a node.
        """
        import ray
        from ray.exceptions import RayError

        lost = []
        writer = self._opened()
        known = writer.catalogue.by_public_id([video.public_id for video in videos])
        for position, (video, reference) in enumerate(zip(videos, rows, strict=True)):
            record = known.get(video.public_id)
            if record is not None and _is_same(record, video):
                continue
            try:
                writer.add(video, ray.get(reference))
            except RayError:
                lost.append(position)
        writer.save()
        return lost

    def close(self) -> None:
        """Closes the shard, so that another process can open it."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _opened(self) -> IndexWriter:
        if self._writer is None:
            folder, settings, place = self._arguments
            wait_for_lock(folder)
            self._writer = IndexWriter(folder, settings, place=place)
        return self._writer


def _is_same(record: NewVideo, video: NewVideo) -> bool:
    names = ("signature", "outcome", "num_rows", "path")
    return all(getattr(record, name) == getattr(video, name) for name in names)


@dataclass
class _Shard:
    """A writer and what it is to write."""

    actor: Any
    waiting: list[tuple[Any, NewVideo, Any]] = field(default_factory=list)
    asked: list[tuple[Any, NewVideo, Any]] = field(default_factory=list)
    answer: Any = None  # reference
    asked_at: float = 0.0


class ShardWriters:
    """The writers of all shards; leaving the block closes the shards.

    Args:
        places: of the shards, by folder.
        settings: of the index.
    """

    def __init__(self, places: dict[Path, ShardPlace], settings: IndexSettings) -> None:
        import ray

        self._folders = list(places)
        make = ray.remote(ShardActor).options(
            num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy="SPREAD"
        )
        self.shards = [
            _Shard(make.remote(folder, settings, place)) for folder, place in places.items()
        ]

    def __enter__(self) -> "ShardWriters":
        return self

    def __exit__(self, *error: object) -> None:
        import ray

        if error[0] is None:
            ray.get([shard.actor.close.remote() for shard in self.shards])
            return
        for shard in self.shards:
            ray.kill(shard.actor)
        for folder in self._folders:
            wait_for_lock(folder)

    def add(self, position: int, tag: Any, *, video: NewVideo, rows: Any) -> None:
        """Sends a video to a shard, soon."""
        self.shards[position].waiting.append((tag, video, rows))

    def __len__(self) -> int:
        """The number of videos that are not on disk yet."""
        return sum(len(shard.waiting) + len(shard.asked) for shard in self.shards)

    def poll(self, *, is_last: bool) -> Iterator[tuple[Any, NewVideo, bool]]:
        """Yields the videos that are on disk now, and those whose embeddings were lost (False).

        Args:
            is_last: nothing else is to come; do not wait for more videos to save at once.
        """
        import ray

        for shard in self.shards:
            if shard.asked:
                ready, _ = ray.wait([shard.answer], timeout=0)
                if ready:
                    lost = set(ray.get(shard.answer))
                    done, shard.asked = shard.asked, []
                    for number, (tag, video, _) in enumerate(done):
                        yield tag, video, number not in lost
            is_due = is_last or time.monotonic() - shard.asked_at > _SAVE_EVERY_SECONDS
            if shard.waiting and not shard.asked and is_due:
                shard.asked, shard.waiting = (
                    shard.waiting[:_MAX_VIDEOS],
                    shard.waiting[_MAX_VIDEOS:],
                )
                videos = [video for _, video, _ in shard.asked]
                # In a list, so that lost embeddings are an answer and not an error.
                rows = [reference for _, _, reference in shard.asked]
                shard.answer = shard.actor.add.remote(videos, rows)
                shard.asked_at = time.monotonic()
