"""A level of an index, videos or segments -> the ones nearest to an embedding."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelseek.indexing.store.array_files import read_array
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.manifest import LevelInfo
from reelseek.indexing.vectors.shard import TABLE_DTYPE, Shard, file_checksum, locations

# Vectors that a filter leaves, up to which all are compared instead of asking FAISS.
_COMPARE_ALL = 10_000


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Vectors near a query; one video may have several of them.

    Attributes:
        videos: `(n,)` int64, the number of each vector's video.
        scores: `(n,)` float32.
        locations: `(n, 2)` int32, where each embedding lies, for `EmbeddingReads.read`.
        is_estimate: `(n,)` bool, whether the score is FAISS's from a compressed vector.
        num_candidates: estimates to compare exactly, for the nearest to be among them.
    """

    videos: np.ndarray
    scores: np.ndarray
    locations: np.ndarray
    is_estimate: np.ndarray
    num_candidates: int = 0

    @classmethod
    def none(cls) -> "Neighbours":
        return cls(
            np.empty(0, np.int64),
            np.empty(0, np.float32),
            np.empty((0, 2), np.int32),
            np.empty(0, bool),
        )

    @classmethod
    def concatenate(cls, parts: "Sequence[Neighbours]") -> "Neighbours":
        if len(parts) == 1:
            return parts[0]
        every = [cls.none(), *parts]
        return cls(
            np.concatenate([part.videos for part in every]),
            np.concatenate([part.scores for part in every]),
            np.concatenate([part.locations for part in every]),
            np.concatenate([part.is_estimate for part in every]),
            max(part.num_candidates for part in every),
        )

    def take(self, positions: np.ndarray) -> "Neighbours":
        """Returns some of them, in this order."""
        return Neighbours(
            self.videos[positions],
            self.scores[positions],
            self.locations[positions],
            self.is_estimate[positions],
            self.num_candidates,
        )


class EmbeddingReads:
    """Reads embeddings for one query, each row from disk once."""

    def __init__(self, parts: EmbeddingParts) -> None:
        self._parts = parts
        # Blocks of rows that were read: their keys, ascending, the order that sorts them, the rows.
        self._blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def read(self, locations: np.ndarray) -> np.ndarray:
        """`(n, 2)` of part and row -> `(n, D)` float32.

        Raises:
            ValueError: a part is missing, or a row is damaged.
        """
        keys = locations[:, 0].astype(np.int64) << 32 | locations[:, 1]
        rows = np.empty((len(keys), self._parts.embedding_dim), np.float32)
        is_new = np.ones(len(keys), dtype=bool)
        for known, order, block in self._blocks:
            at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            is_known = known[at] == keys
            rows[is_known] = block[order[at[is_known]]]
            is_new &= ~is_known
        if is_new.all():
            rows = self._parts.read(locations)
            self._keep(keys, rows)
        elif is_new.any():
            new = self._parts.read(locations[is_new])
            rows[is_new] = new
            self._keep(keys[is_new], new)
        return rows

    def _keep(self, keys: np.ndarray, rows: np.ndarray) -> None:
        if len(keys):
            order = np.argsort(keys)
            self._blocks.append((keys[order], order, rows))


class LevelSearcher:
    """The shards of a level, and which of their positions may be found."""

    def __init__(
        self, folder: Path, info: LevelInfo, parts: EmbeddingParts, before: "LevelSearcher | None"
    ) -> None:
        self._parts = parts
        opened = {} if before is None else {shard.info.identity: shard for shard in before._shards}
        self._shards: list[Shard] = []
        self._live: list[np.ndarray | None] = []  # bits, the lowest first; None for all
        for shard_info in (info.main, info.delta):
            if shard_info is None or not shard_info.count:
                continue
            shard = opened.get(shard_info.identity) or Shard(
                folder, shard_info, embedding_dim=parts.embedding_dim
            )
            self._shards.append(shard.tuned(shard_info))
            self._live.append(None)
            used = np.unique(shard.table["part"])
            parts.open(used[used >= 0])
        if info.deleted and self._shards:
            self._live[0] = ~_read_deleted(folder / info.deleted, info.deleted_checksum)

    def rows_of(self, video_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The table's rows of these videos, one video after the other.

        Returns:
            The rows, and `(n,)`, how many each video has; 0 where it is not there.
        """
        ids = np.asarray(video_ids, dtype=np.int64)
        counts: np.ndarray = np.zeros(len(ids), dtype=np.int64)
        places = []
        for shard in self._shards:
            first, last = shard.of_videos(ids)
            is_here = (counts == 0) & (last > first)
            counts[is_here] = (last - first)[is_here]
            places.append((shard.table, first, is_here))
        rows = np.empty(counts.sum(), TABLE_DTYPE)
        starts = np.cumsum(counts) - counts
        for table, first, is_here in places:
            to = _ranges(starts[is_here], counts[is_here])
            rows[to] = table[_ranges(first[is_here], counts[is_here])]
        return rows, counts

    def video_ids(self) -> np.ndarray:
        """`(n,)`, of the videos in it that are not deleted."""
        every = [
            shard.table["video"][_unpacked(live, shard.info.count)]
            for shard, live in zip(self._shards, self._live, strict=True)
        ]
        return np.unique(np.concatenate([np.empty(0, np.int64), *every]))

    def mask_deleted(self, video_ids: list[int]) -> None:
        for number, shard in enumerate(self._shards):
            deleted = np.zeros(shard.info.count, dtype=bool)
            first, last = shard.of_videos(np.asarray(video_ids, dtype=np.int64))
            deleted[_ranges(first, last - first)] = True
            if deleted.any():
                live = ~np.packbits(deleted, bitorder="little")
                before = self._live[number]
                self._live[number] = live if before is None else live & before

    def neighbours(
        self,
        query: np.ndarray,
        reads: EmbeddingReads,
        *,
        k: int,
        min_candidates: int = 0,
        only: np.ndarray | None,
    ) -> Neighbours:
        """Finds the nearest by FAISS's scores, of which those of compressed vectors are estimates.

        Args:
            reads: of the query.
            min_candidates: to return; those beyond the k nearest are less surely the next ones.
            only: ids of the videos that may be found, ascending; None for all.
        """
        found = []
        for shard, live in zip(self._shards, self._live, strict=True):
            positions, scores = self._found(shard, live, query, k, min_candidates, only)
            rows = shard.table[positions]
            if scores is None:
                scores = np.einsum("nd,d->n", reads.read(locations(rows)), query)
                is_estimate = False
            else:
                is_estimate = not shard.is_exact
            found.append(
                Neighbours(
                    rows["video"],
                    scores,
                    locations(rows),
                    np.full(len(rows), is_estimate),
                    shard.num_candidates(k, min_candidates),
                )
            )
        return Neighbours.concatenate(found)

    def _found(
        self,
        shard: Shard,
        live: np.ndarray | None,
        query: np.ndarray,
        k: int,
        min_candidates: int,
        only: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Positions in a shard and FAISS's scores; None where all that may be found came back."""
        allowed, num_allowed = live, shard.info.count
        num_candidates = max(k, min_candidates)
        inside = None
        if only is not None:
            inside = np.isin(shard.table["video"], only) & _unpacked(live, num_allowed)
            num_allowed = int(inside.sum())
            allowed = np.packbits(inside, bitorder="little")
        num_expected = min(num_candidates, num_allowed)
        if not shard.is_exact:
            if inside is not None and num_allowed <= max(_COMPARE_ALL, num_candidates):
                return np.flatnonzero(inside), None
            if num_candidates >= num_allowed:
                return np.flatnonzero(_unpacked(live, shard.info.count)), None

        def search(*, exhaustive: bool) -> tuple[np.ndarray, np.ndarray]:
            return shard.nearest(
                query,
                k=min(k, num_expected),
                min_candidates=num_expected,
                allowed=allowed,
                exhaustive=exhaustive,
            )

        positions, scores = search(exhaustive=False)
        if len(positions) < num_expected:  # too few in the lists that were looked at
            positions, scores = search(exhaustive=True)
        if inside is not None and len(positions) < num_expected:
            return np.flatnonzero(inside), None  # a graph may not lead to what a filter leaves
        return positions, scores


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns `counts[i]` whole numbers from `starts[i]` on, for each i, in one array."""
    ends = np.cumsum(counts)
    return np.arange(counts.sum()) + np.repeat(starts - (ends - counts), counts)


def _unpacked(live: np.ndarray | None, count: int) -> np.ndarray:
    if live is None:
        return np.ones(count, dtype=bool)
    return np.unpackbits(live, count=count, bitorder="little").view(bool)


def _read_deleted(path: Path, checksum: int) -> np.ndarray:
    if file_checksum(path) != checksum:
        raise ValueError(f"{path} is damaged: run reelseek repair --index DIR")
    return read_array(path)
