"""Clusters of embeddings, each of one shard -> where a new video goes, and which shards a query
should ask.

A shard is several cells, the centroids of a k-means, so that it may have any shape: videos of one
kind lie together, and a query finds most of its nearest in few shards.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelseek.indexing.candidates import GatherRequest
from reelseek.indexing.shards.placement import shard_of
from reelseek.indexing.store.array_files import read_array
from reelseek.indexing.store.manifest import ClusterInfo, Manifest
from reelseek.indexing.vectors.shard import file_checksum, write_table

CLUSTERS_METADATA = "clusters"  # under this name a shard's catalogue has the `ClusterInfo`

# Videos that the asked shards hold, for each one wanted: measured recalls are of few neighbours.
_TIMES_AS_MANY = 4
_ROUNDING = 1e-9
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class ClusterMap:
    """The cells of all shards.

    Attributes:
        cells: `(M, D)` float32, L2-normalised.
        owners: `(M,)` int64, the position of each cell's shard.
        num_shards: of the index; some may have no cell.
    """

    cells: np.ndarray
    owners: np.ndarray
    num_shards: int

    def place(self, embeddings: np.ndarray, *, num_segments: int, public_id: str) -> int:
        """Returns the position of the shard for a new video: that of most of its segments, the one
        of the whole video's embedding among equals. A hash of its id decides where it has none.

        Args:
            embeddings: `(1 + S + T, D)`, of the video, its segments and its frames; or `(0, D)`.
        """
        if not len(embeddings) or not len(self.cells):
            return shard_of(public_id, self.num_shards)
        segments = embeddings[1 : 1 + num_segments]
        return int(self.place_videos(embeddings[:1], segments, counts=np.array([num_segments]))[0])

    def place_videos(
        self, whole: np.ndarray, segments: np.ndarray, *, counts: np.ndarray
    ) -> np.ndarray:
        """Does the same for many videos.

        Args:
            whole: `(V, D)`, the videos' embeddings.
            segments: `(S, D)`, video after video.
            counts: `(V,)`, segments of each.

        Returns:
            `(V,)` int64, positions of shards.
        """
        of_whole, of_segments = self._owners_of(whole), self._owners_of(segments)
        votes = np.zeros((len(counts), self.num_shards), np.int64)
        np.add.at(votes, (np.repeat(np.arange(len(counts)), counts), of_segments), 1)
        of_most = votes.max(axis=1)
        own_votes = votes[np.arange(len(counts)), of_whole]
        return np.where(own_votes == of_most, of_whole, votes.argmax(axis=1))

    def _owners_of(self, rows: np.ndarray) -> np.ndarray:
        """The shard of the cell nearest to each of `(n, D)`."""
        owners = np.empty(len(rows), np.int64)
        for first in range(0, len(rows), _ROWS_AT_ONCE):
            some = slice(first, first + _ROWS_AT_ONCE)
            owners[some] = self.owners[(rows[some] @ self.cells.T).argmax(axis=1)]
        return owners

    def nearest_shards(self, queries: np.ndarray) -> np.ndarray:
        """Orders the shards by their nearest cells.

        Args:
            queries: `(E, D)`.

        Returns:
            `(E, num_shards)`, positions of shards, the nearest first; those without cells last.
        """
        best = np.full((len(queries), self.num_shards), -np.inf, np.float32)
        for position in np.unique(self.owners).tolist():
            best[:, position] = (queries @ self.cells[self.owners == position].T).max(axis=1)
        return np.argsort(-best, axis=1, kind="stable")

    def write(self, folder: Path, name: str) -> int:
        """Writes the cells durably; returns the checksum of the file."""
        rows = np.empty(len(self.cells), _dtype(self.cells.shape[1]))
        rows["cell"], rows["shard"] = self.cells, self.owners
        return write_table(folder / name, rows)


def num_to_ask(recalls: Mapping[str, np.ndarray], recall: float, num_shards: int) -> int:
    """Returns how many shards to ask, for each type of query to miss half as many of the nearest as
    an index of this recall may.

    Args:
        recalls: of `measure_routing`.
    """
    target = (1 + recall) / 2
    enough = [1 + int(np.argmax(each >= target - _ROUNDING)) for each in recalls.values()]
    return max(enough, default=num_shards)


def write_clusters(
    folder: Path, manifest: Manifest, clusters: ClusterMap, recalls: Mapping[str, np.ndarray]
) -> ClusterInfo:
    """Writes clusters for the generation that follows.

    Args:
        recalls: of `measure_routing`.
    """
    num_asked = num_to_ask(recalls, manifest.faiss.recall, clusters.num_shards)
    name = f"clusters-{manifest.generation + 1:08d}.npy"
    return ClusterInfo(
        name,
        num_asked,
        {sort: round(float(each[num_asked - 1]), 4) for sort, each in recalls.items()},
        clusters.write(folder, name),
    )


def read_clusters(folder: Path, manifest: Manifest) -> ClusterMap | None:
    """Reads the clusters of an index; None where its videos are placed by hash.

    Raises:
        FileNotFoundError: their file is gone, as when a writer has replaced it.
        ValueError: it is damaged.
    """
    if manifest.sharding is None or manifest.sharding.clusters is None:
        return None
    info = manifest.sharding.clusters
    path, dim = folder / info.name, manifest.settings.embedding_dim
    try:
        if file_checksum(path) != info.checksum:
            raise ValueError("its checksum is another")
        rows = read_array(path)
        if rows.dtype != _dtype(dim) or rows.ndim != 1:
            raise ValueError("it holds no clusters")
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); run reelseek repair --index {folder}"
        ) from error
    owners = rows["shard"].astype(np.int64)
    return ClusterMap(np.ascontiguousarray(rows["cell"]), owners, len(manifest.sharding.shards))


def open_clusters(folder: Path, manifest: Manifest) -> ClusterMap | None:
    """Does the same for a writer, which nobody replaces files of.

    Raises:
        ValueError: their file is missing or damaged.
    """
    try:
        return read_clusters(folder, manifest)
    except FileNotFoundError as error:
        raise ValueError(
            f"index={folder}: lacks {error.filename}; run reelseek repair --index {folder}"
        ) from error


def parse_max_asked(text: str | int) -> int | None:
    """Reads how many shards to ask: `auto` is 0, `all` is None.

    Raises:
        ValueError: it is neither of them, nor a number.
    """
    if text == "auto":
        return 0
    if text == "all":
        return None
    if not re.fullmatch(r"[1-9]\d{0,3}", str(text), re.ASCII):
        raise ValueError(f"shards={text}: must be auto, all or a number of shards from 1 on")
    return int(text)


def is_near(
    manifest: Manifest,
    request: GatherRequest,
    *,
    clusters: ClusterMap | None,
    counts: Sequence[int],
    max_asked: int | None,
) -> np.ndarray:
    """Returns `(num_shards,)` bool, the shards to ask for the nearest videos of a request. With a
    filter all are asked: what it leaves may lie anywhere.

    Args:
        clusters: of the index; None asks all.
        counts, max_asked: see `near_shards`.
    """
    sharding = manifest.sharding
    return near_shards(
        None if request.where is not None else clusters,
        None if sharding is None else sharding.clusters,
        request.embeddings,
        counts=counts,
        num_videos=request.num_videos,
        max_asked=max_asked,
    )


def near_shards(
    clusters: ClusterMap | None,
    info: ClusterInfo | None,
    embeddings: np.ndarray,
    *,
    counts: Sequence[int],
    num_videos: int,
    max_asked: int | None,
) -> np.ndarray:
    """Chooses the shards that are asked for the nearest vectors.

    Args:
        clusters, info: of the index; None asks all shards.
        embeddings: `(E, D)`; a shard that is near to one of them is asked for all.
        counts: videos in each shard.
        num_videos: wanted; shards are added until they hold many times as many.
        max_asked: how many of the nearest to ask; 0 for as many as were measured to be enough,
            None for all.

    Returns:
        `(num_shards,)` bool.
    """
    is_near = np.ones(len(counts), dtype=bool)
    if clusters is None or info is None or max_asked is None or not len(embeddings):
        return is_near
    is_near[:] = False
    for order in clusters.nearest_shards(embeddings):
        held = np.cumsum(np.asarray(counts)[order])
        num_holding = 1 + int(np.searchsorted(held, _TIMES_AS_MANY * num_videos))
        is_near[order[: max(max_asked or info.num_asked, num_holding)]] = True
    return is_near


def _dtype(embedding_dim: int) -> np.dtype:
    return np.dtype([("cell", "<f4", (embedding_dim,)), ("shard", "<i4")])
