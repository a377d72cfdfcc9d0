"""One published generation of an index -> the readers of its shards, opened together."""

import os
import threading
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reelseek.indexing.candidates import CollectionStatistics, GatherRequest
from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.shards.clusters import ClusterMap, is_near, read_clusters
from reelseek.indexing.shards.placement import ShardPlace, missing_shard
from reelseek.indexing.shards.reader import ShardReader
from reelseek.indexing.snapshot import Snapshot
from reelseek.indexing.store.manifest import Manifest


@dataclass(frozen=True, eq=False)
class Generation:
    """One published generation, opened.

    Attributes:
        shards: their readers by folder and file of the catalogue; an ordinary index is one shard.
        clusters: by which videos are placed; None where that is by hash, or in an ordinary index.
        merged: the statistics of all shards, once they have been asked for.
    """

    manifest: Manifest
    shards: dict[tuple[Path, int], ShardReader]
    clusters: ClusterMap | None = None
    merged: list[CollectionStatistics] = field(default_factory=list)
    merging: threading.Lock = field(default_factory=threading.Lock)

    def is_near(self, request: GatherRequest, max_asked: int | None) -> np.ndarray:
        """Returns `(num_shards,)` bool, the shards to ask; see `clusters.is_near`."""
        return is_near(
            self.manifest,
            request,
            clusters=self.clusters,
            counts=[shard.snapshot.manifest.num_videos for shard in self.shards.values()],
            max_asked=max_asked,
        )

    def statistics(self) -> CollectionStatistics:
        """Returns the sum of the shards' statistics, which the first thread measures."""
        with self.merging:
            if not self.merged:
                of_shards = [shard.statistics() for shard in self.shards.values()]
                self.merged.append(CollectionStatistics.merge(of_shards))
            return self.merged[0]


class OpenedShards:
    """The shards that a reader has opened, of all generations, to be closed at its end.

    Args:
        folder: of the index.
        positions: of the shards to open; None for all.
    """

    def __init__(self, folder: Path, positions: Container[int] | None = None) -> None:
        self._folder = folder
        self._positions = positions
        self._opened: dict[tuple[Path, int], ShardReader] = {}

    def open(self, manifest: Manifest, before: Generation | None) -> Generation:
        """Opens a generation; files and catalogues that the one before has are used again.

        Raises:
            ValueError: nothing in it can be searched, or a shard is missing or damaged.
        """
        if before is None and not manifest.num_videos:
            raise ValueError(
                f"index={self._folder}: nothing in it can be searched yet; run reelseek index again"
            )
        sharding, shards = manifest.sharding, {}
        manifests = manifest.shard_manifests(self._folder)
        for position, (folder, own) in enumerate(manifests.items()):
            if self._positions is not None and position not in self._positions:
                continue
            if sharding is not None and not folder.is_dir():
                raise ValueError(missing_shard(self._folder, folder))
            identity = folder, _file_number(folder / CATALOGUE_NAME)
            known = None if before is None else before.shards.get(identity)
            snapshot = Snapshot(folder, own, None if known is None else known.snapshot)
            if identity not in self._opened:
                place = None
                if sharding is not None:
                    place = ShardPlace(sharding.id, position, len(manifests))
                self._opened[identity] = ShardReader(folder, snapshot, place)
            shards[identity] = self._opened[identity].at(snapshot)
        clusters = read_clusters(self._folder, manifest)
        return Generation(manifest, shards, clusters)

    def close(self) -> None:
        for shard in self._opened.values():
            shard.close()


def _file_number(path: Path) -> int:
    """Tells a file from another that has replaced it."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0
