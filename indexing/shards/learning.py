"""A sample of an index -> clusters for its shards, and how many of them a query should ask.

Two levels: k-means finds cells in the sample's segments, and a k-means of the cells, held to a
greatest size, makes them shards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from reelseek.indexing.shards.clusters import ClusterMap
from reelseek.indexing.store.catalogue import Catalogue, VideoRecord
from reelseek.indexing.store.embeddings import EmbeddingParts

_faiss: Any = faiss

CELLS_PER_SHARD = 32
_SAMPLE_SEGMENTS = 50_000  # and more where there are many cells
_SEGMENTS_PER_CELL = 64
_SIZE_SLACK = 1.1  # of a shard's segments in the sample, to the mean
_ROUNDS = 10
_NUM_QUERIES = 500  # of each type, on which recall is measured
_NEIGHBOURS = 10


@dataclass(frozen=True, eq=False)
class Sample:
    """Videos of an index, those with the smallest public ids, which are hashes.

    Attributes:
        whole: `(V, D)` float32, the videos' embeddings.
        segments: `(S, D)` float32, video after video.
        counts: `(V,)`, segments of each video.
        ids: their public ids.
        shards: `(V,)`, the source that each was read from.
    """

    whole: np.ndarray
    segments: np.ndarray
    counts: np.ndarray
    ids: list[str]
    shards: np.ndarray

    @property
    def videos(self) -> np.ndarray:
        """`(S,)`, the number of each segment's video."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def placed(self, clusters: ClusterMap) -> np.ndarray:
        """Returns `(V,)`, the shard that each video would be in."""
        return clusters.place_videos(self.whole, self.segments, counts=self.counts)


def sample_size(num_shards: int) -> int:
    """Returns how many segments to learn clusters of."""
    return max(_SAMPLE_SEGMENTS, CELLS_PER_SHARD * _SEGMENTS_PER_CELL * num_shards)


def take_sample(sources: Sequence[tuple[Catalogue, EmbeddingParts]], num_shards: int) -> Sample:
    """Reads a sample of what the sources hold; the same videos, however they are divided."""
    limit = sample_size(num_shards)
    searchable = sorted(
        (record.public_id, number, record.id)
        for number, (catalogue, _) in enumerate(sources)
        for record in catalogue.scan()
        if record.location is not None and len(record.spans)
    )
    dim = sources[0][1].embedding_dim
    rows: list[np.ndarray] = [np.empty((0, dim), np.float32)]
    kept: list[tuple[str, int, int]] = []
    num_segments = 0
    for public_id, number, video_id in searchable:
        catalogue, parts = sources[number]
        record: VideoRecord = catalogue.videos([video_id])[video_id]
        assert record.location is not None
        rows.append(parts.read_run(*record.location, 1 + len(record.spans)))
        kept.append((public_id, number, len(record.spans)))
        num_segments += len(record.spans)
        if num_segments >= limit:
            break
    every = np.concatenate(rows)
    counts = np.array([count for *_, count in kept], np.int64)
    is_whole = np.zeros(len(every), dtype=bool)
    is_whole[np.cumsum(1 + counts) - (1 + counts)] = True
    return Sample(
        every[is_whole],
        every[~is_whole],
        counts,
        [public_id for public_id, *_ in kept],
        np.array([number for _, number, _ in kept], np.int64),
    )


def learn_clusters(sample: Sample, num_shards: int) -> ClusterMap:
    """Finds clusters for this many shards of much the same size."""
    num_cells = min(CELLS_PER_SHARD * num_shards, len(sample.segments))
    cells = _centroids(sample.segments, num_cells)
    sizes = np.bincount((sample.segments @ cells.T).argmax(axis=1), minlength=len(cells))
    return ClusterMap(cells, _grouped(cells, sizes, num_shards), num_shards)


def describe_shards(sample: Sample, num_shards: int) -> ClusterMap:
    """Finds the cells of shards that are there already."""
    cells, owners = [sample.segments[:0]], [np.empty(0, np.int64)]
    of_segments = sample.shards[sample.videos]
    for position in range(num_shards):
        own = sample.segments[of_segments == position]
        found = _centroids(own, min(CELLS_PER_SHARD, len(own)))
        cells.append(found)
        owners.append(np.full(len(found), position))
    return ClusterMap(np.concatenate(cells), np.concatenate(owners), num_shards)


def measure_routing(
    clusters: ClusterMap, sample: Sample, shards: np.ndarray, *, queries: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Measures how many of a query's nearest segments lie in the shards nearest to it.

    Args:
        shards: `(V,)`, the shard of each video of the sample.
        queries: `(q, D)` embeddings by type. Segments of the sample are asked for too, as `stored`:
            those of other videos that are nearest to them.

    Returns:
        By type of query `(num_shards,)`: the fraction of the ten nearest of the sample that is in
        the first 1, 2, ... shards.
    """
    videos = sample.videos
    stored = np.unique(np.linspace(0, len(videos) - 1, _NUM_QUERIES).astype(np.int64))
    asked = {"stored": sample.segments[stored]} | {
        name: rows[:_NUM_QUERIES]
        for name, rows in queries.items()
        if name != "stored" and len(rows)
    }
    recalls = {}
    for name, rows in asked.items():
        similarity = rows @ sample.segments.T
        if name == "stored":
            similarity[videos[stored][:, None] == videos[None]] = -np.inf
        nearest = np.argsort(-similarity, axis=1)[:, :_NEIGHBOURS]
        is_there = np.isfinite(np.take_along_axis(similarity, nearest, axis=1))
        if not is_there.any():
            continue
        order = clusters.nearest_shards(rows)
        rank = np.argsort(order, axis=1)  # of each shard, for each query
        ranks = np.take_along_axis(rank, shards[videos[nearest]], axis=1)[is_there]
        found = np.bincount(ranks, minlength=clusters.num_shards)
        recalls[name] = np.cumsum(found) / found.sum()
    return recalls


def _centroids(rows: np.ndarray, num: int) -> np.ndarray:
    """`(n, D)` -> `(num, D)`, L2-normalised."""
    if not num:
        return rows[:0]
    kmeans = faiss.Kmeans(
        rows.shape[1],
        num,
        niter=20,
        seed=1234,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=10**6,
    )
    kmeans.train(np.ascontiguousarray(rows, dtype=np.float32))
    return np.array(kmeans.centroids, np.float32).reshape(num, -1)


def _grouped(cells: np.ndarray, sizes: np.ndarray, num_groups: int) -> np.ndarray:
    """Puts cells that are near each other into groups of much the same size.

    Args:
        sizes: `(M,)`, segments in each cell.

    Returns:
        `(M,)` int64, the group of each cell; with fewer cells than groups some stay empty.
    """
    if len(cells) <= num_groups:
        return np.arange(len(cells))
    centroids = _centroids(cells, num_groups)
    limit = _SIZE_SLACK * sizes.sum() / num_groups
    owners = np.zeros(len(cells), np.int64)
    for _ in range(_ROUNDS):
        similarity = cells @ centroids.T
        order = np.argsort(-similarity, axis=1)
        if num_groups > 1:
            # First those that have most to lose by going elsewhere.
            best_two = np.take_along_axis(similarity, order[:, :2], axis=1)
            in_turn = np.argsort(best_two[:, 1] - best_two[:, 0], kind="stable")
        else:
            in_turn = np.arange(len(cells))
        loads = np.zeros(num_groups)
        for cell in in_turn.tolist():
            fits = loads[order[cell]] + sizes[cell] <= limit
            fits |= loads[order[cell]] == 0
            owner = order[cell][fits.argmax()] if fits.any() else loads.argmin()
            owners[cell], loads[owner] = owner, loads[owner] + sizes[cell]
        for group in np.unique(owners).tolist():
            own = owners == group
            mean = (cells[own] * np.maximum(1, sizes[own])[:, None]).sum(axis=0)
            centroids[group] = mean / max(np.linalg.norm(mean), 1e-12)
    return owners
